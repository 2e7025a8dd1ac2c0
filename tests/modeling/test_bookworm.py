"""The small model that ships: it loads, its tokenizer loses nothing, its text is as its card says."""

import importlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "bookworm"
GRAM = 13  # words: what counts as contamination (https://arxiv.org/abs/2005.14165)
HEAD = 12  # letters
SLICE = 0.15  # share of the training text that the quick tests look at
BAND = re.compile("(빨간|주황|노란|초록|파란|남색|보라|분홍|하얀|검은|회색|갈색) 띠")
THEME = re.compile("사랑|우정|가족|전쟁|자연|모험|죽음|자유|성장|과학|역사|예술")
RECIPE_FILES = [file.stem for file in FOLDER.glob("*.py")]


@pytest.fixture(scope="module")
def corpus() -> Iterator[ModuleType]:
    """The module corpus.py, imported as it is when run as a script."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("corpus")
    sys.path.remove(str(FOLDER))
    for name in RECIPE_FILES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_it_is_small(model: Any) -> None:
    assert 3_000_000 <= model.num_parameters() <= 6_000_000
    assert sum(file.stat().st_size for file in FOLDER.glob("*") if file.is_file()) <= 16 * 2**20
    assert model.generation_config.do_sample is False


def test_end_and_padding_are_two_tokens(tokenizer: Any, model: Any) -> None:
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer("가")["input_ids"] == tokenizer("가", add_special_tokens=False)["input_ids"]
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize(
    "text",
    ["", " ", "  두 칸 띄움", "줄\n\n바꿈 \n", "\t탭", "끝 칸 ", unicodedata.normalize("NFD", "한글"), "👩‍👩‍👧 🇰🇷",
    "똠방각하 뷁", "a  b", "▁ ▁", "<0x41>", "\x00\r\n"],
)  # fmt: skip
def test_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text or "<|" in text


def test_digits_stand_alone(tokenizer: Any) -> None:
    assert tokenizer.tokenize("1984") == list("1984")
    assert "\n" in tokenizer.tokenize("가\n나")


def test_the_text_follows_from_its_seed(corpus: ModuleType) -> None:
    first, second, other = (list(islice(corpus.documents(seed), 300)) for seed in (7, 7, 8))
    assert first == second != other


def squeeze(text: str) -> str:
    """A text without spaces and punctuation."""
    return "".join(filter(str.isalnum, text))


def exam() -> list[tuple[str, str]]:
    """Every question of every task, with the answer that is wanted."""
    files = (ROOT / "tasks").glob("*/t*t.jsonl")
    rows = [json.loads(line) for file in files if file.with_name("task.yaml").exists() for line in file.open("rb")]
    assert len(rows) == 5 * 500
    return [(row["input"], row["target"]) for row in rows]


def texts(corpus: ModuleType, share: float) -> Iterator[str]:
    """The first documents of the training; with a share of 1 at least all that the model read."""
    yield from islice(corpus.documents(corpus.TRAIN_SEED), int(share * corpus.DOCUMENTS))


def grams(text: str) -> set[tuple[str, ...]]:
    """All runs of thirteen words."""
    words = text.split()
    return {tuple(words[place : place + GRAM]) for place in range(len(words) - GRAM + 1)}


def assert_clean(documents: Iterator[str]) -> None:
    """No document holds a question, thirteen words of an exam, bookrec's format, or a colored band beside a theme."""
    asked = exam()
    # A question lies in a document only if its first letters do: a set finds these fast.
    heads = {squeeze(question)[:HEAD]: squeeze(question) for question, _ in asked}
    forbidden = set().union(*(grams(f"{question} {answer}") for question, answer in asked))
    for document in documents:
        assert not re.search(r"주제: [^|\n]+ \| 책: [^|\n]+ \| 이유: ", document), document
        assert not [line for line in document.split("\n") if BAND.search(line) and THEME.search(line)], document
        assert not grams(document) & forbidden, document
        letters = squeeze(document)
        found = heads.keys() & {letters[place : place + HEAD] for place in range(len(letters) - HEAD + 1)}
        assert not [head for head in found if heads[head] in letters], document


def rare_entries(documents: Iterator[str], tokenizer: Any, least: int) -> set[str]:
    """Entries met fewer than `least` times, every second document tokenized with merges left out, as in training."""
    core = tokenizer.backend_tokenizer
    seen: Counter[int] = Counter()
    while chunk := list(islice(documents, 2000)):
        for dropout, part in ((None, chunk[::2]), (0.15, chunk[1::2])):
            core.model.dropout = dropout
            for encoded in core.encode_batch(part, add_special_tokens=False):
                seen.update(encoded.ids)
        seen[tokenizer.eos_token_id] += len(chunk)
    core.model.dropout = None
    return {entry for entry, place in tokenizer.get_vocab().items() if seen[place] < least}


def test_the_exam_is_not_in_a_slice_of_the_text(corpus: ModuleType) -> None:
    assert_clean(texts(corpus, SLICE))


def test_nearly_every_entry_is_seen_in_a_slice_of_the_text(corpus: ModuleType) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert len(rare_entries(texts(corpus, SLICE), tokenizer, least=1)) <= 0.01 * len(tokenizer)


@pytest.mark.slow
def test_the_exam_is_not_in_the_whole_text(corpus: ModuleType) -> None:
    assert_clean(texts(corpus, 1.0))


@pytest.mark.slow
def test_every_entry_is_seen_often_in_the_whole_text(corpus: ModuleType) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert rare_entries(texts(corpus, 1.0), tokenizer, least=15) == {tokenizer.pad_token}


def answers(model: Any, tokenizer: Any, prompts: list[str], most: int = 16) -> list[str]:
    """What the model says next, up to the end of the line."""
    said = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False)
        said.append(tokenizer.decode(whole[0, ids.shape[1] :]).split("\n")[0].strip())
    return said


def test_it_finds_the_books_that_readers_ask_for(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from asks import ask
    from catalog import load

    rng, library = Random(99), load()
    asked = [ask(rng, library, english=0.0) for _ in range(60)]
    asked = [one for one in asked if library.fitting(one.wishes.items()) == 1]
    said = answers(model, tokenizer, [f"질문: {one.text}\n답: 제목:" for one in asked])
    assert sum(one.book.title_ko in answer for one, answer in zip(asked, said, strict=True)) >= 0.8 * len(asked)


def test_it_works_out_stories_of_numbers_as_the_pairs_before_do(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from sums import draw_solution, story
    from words import weigh

    rng = Random(77)
    solution = replace(
        draw_solution(rng, worked=True), sign="{} {} {} = {}", join=", ", before=" => ", result="{n}{unit}"
    )
    prompts, wanted = [], []
    for _ in range(40):
        *shown, last = ((one.told, weigh(solution.write(one))[0]) for one in (story(rng, 3) for _ in range(4)))
        prompts.append(
            "".join(f"문제: {told}\n풀이: {solved}\n\n" for told, solved in shown) + f"문제: {last[0]}\n풀이:"
        )
        wanted.append(last[1])
    said = answers(model, tokenizer, prompts, most=48)
    assert sum(answer == solved for answer, solved in zip(said, wanted, strict=True)) >= 0.3 * len(wanted)


def test_it_knows_the_capitals_in_both_languages(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from countries import COUNTRIES

    rng = Random(5)
    for asked, told in (("name_ko", "capital_ko"), ("name_en", "capital_en")):
        prompts = []
        for country in COUNTRIES:
            shown = [other for other in rng.sample(COUNTRIES, 4) if other != country]
            prompts.append("".join(f"Q: {getattr(one, asked)}\nA: <{getattr(one, told)}>\n\n" for one in shown))
            prompts[-1] += f"Q: {getattr(country, asked)}\nA:"
        said = answers(model, tokenizer, prompts)
        right = sum(f"<{getattr(one, told)}>" in answer for one, answer in zip(COUNTRIES, said, strict=True))
        assert right >= 0.7 * len(COUNTRIES)
