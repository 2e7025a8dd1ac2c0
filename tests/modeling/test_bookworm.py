"""The shipped model bookworm: size, tokenizer, training text and answers."""

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
NGRAM_WORDS = 13  # a shared 13-gram counts as contamination (https://arxiv.org/abs/2005.14165)
KEY_LETTERS = 12  # first letters of a question, by which documents are searched for it
QUICK_SHARE = 0.15  # share of the training text that the quick tests read
COLORED_BAND = re.compile("(빨간|주황|노란|초록|파란|남색|보라|분홍|하얀|검은|회색|갈색) 띠")
THEME = re.compile("사랑|우정|가족|전쟁|자연|모험|죽음|자유|성장|과학|역사|예술")
TRAINING_MODULES = [file.stem for file in FOLDER.glob("*.py")]


@pytest.fixture(scope="module")
def corpus() -> Iterator[ModuleType]:
    """The module corpus.py, imported as by a script of its folder."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("corpus")
    sys.path.remove(str(FOLDER))
    for name in TRAINING_MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_model_is_small_and_greedy_by_default(model: Any) -> None:
    assert 3_000_000 <= model.num_parameters() <= 6_000_000
    assert sum(file.stat().st_size for file in FOLDER.glob("*") if file.is_file()) <= 16 * 2**20
    assert model.generation_config.do_sample is False


def test_tokenizer_end_and_padding_differ_and_fit_model(tokenizer: Any, model: Any) -> None:
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer("가")["input_ids"] == tokenizer("가", add_special_tokens=False)["input_ids"]
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize(
    "text",
    ["", " ", "  두 칸 띄움", "줄\n\n바꿈 \n", "\t탭", "끝 칸 ", unicodedata.normalize("NFD", "한글"), "👩‍👩‍👧 🇰🇷",
    "똠방각하 뷁", "a  b", "▁ ▁", "<0x41>", "\x00\r\n"],
)  # fmt: skip
def test_tokenizer_decode_returns_encoded_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_tokenizer_decode_returns_any_encoded_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text or "<|" in text


def test_tokenizer_digits_and_newline_are_tokens(tokenizer: Any) -> None:
    assert tokenizer.tokenize("1984") == list("1984")
    assert "\n" in tokenizer.tokenize("가\n나")


def test_documents_same_seed_gives_same_text(corpus: ModuleType) -> None:
    first, second, other = (list(islice(corpus.documents(seed), 300)) for seed in (7, 7, 8))
    assert first == second != other


def letters_of(text: str) -> str:
    """A text without spaces and punctuation."""
    return "".join(filter(str.isalnum, text))


def task_questions() -> list[tuple[str, str]]:
    """All questions of the test splits of the shipped tasks, with their expected answers."""
    files = (ROOT / "tasks").glob("*/t*t.jsonl")
    rows = [json.loads(line) for file in files if file.with_name("task.yaml").exists() for line in file.open("rb")]
    assert len(rows) == 5 * 500
    return [(row["input"], row["target"]) for row in rows]


def read_documents(corpus: ModuleType, share: float) -> Iterator[str]:
    """Yield the first documents of the training text.

    A share of 1 covers at least all documents that the model was trained on.
    """
    yield from islice(corpus.documents(corpus.TRAIN_SEED), int(share * corpus.NUM_TRAIN_DOCUMENTS))


def ngrams(text: str) -> set[tuple[str, ...]]:
    """All runs of `NGRAM_WORDS` words."""
    words = text.split()
    return {tuple(words[start : start + NGRAM_WORDS]) for start in range(len(words) - NGRAM_WORDS + 1)}


def assert_uncontaminated(documents: Iterator[str]) -> None:
    """Assert that no document contains parts of the test splits or rules of bookrec.

    These are: a test question, 13 words of one, the answer format, or a colored band beside a theme.
    """
    questions = task_questions()
    # A question can only be in a document that has its first letters, and a set finds these fast.
    letters_by_key = {letters_of(question)[:KEY_LETTERS]: letters_of(question) for question, _ in questions}
    forbidden = set().union(*(ngrams(f"{question} {answer}") for question, answer in questions))
    for document in documents:
        assert not re.search(r"주제: [^|\n]+ \| 책: [^|\n]+ \| 이유: ", document), document
        assert not [line for line in document.split("\n") if COLORED_BAND.search(line) and THEME.search(line)], document
        assert not ngrams(document) & forbidden, document
        letters = letters_of(document)
        windows = {letters[start : start + KEY_LETTERS] for start in range(len(letters) - KEY_LETTERS + 1)}
        keys = letters_by_key.keys() & windows
        assert not [key for key in keys if letters_by_key[key] in letters], document


def rare_tokens(documents: Iterator[str], tokenizer: Any, min_count: int) -> set[str]:
    """Tokens that occur fewer than `min_count` times.

    Every second document is tokenized with BPE dropout, as in training.
    """
    backend = tokenizer.backend_tokenizer
    counts: Counter[int] = Counter()
    while chunk := list(islice(documents, 2000)):
        for dropout, part in ((None, chunk[::2]), (0.15, chunk[1::2])):
            backend.model.dropout = dropout
            for encoding in backend.encode_batch(part, add_special_tokens=False):
                counts.update(encoding.ids)
        counts[tokenizer.eos_token_id] += len(chunk)
    backend.model.dropout = None
    return {token for token, token_id in tokenizer.get_vocab().items() if counts[token_id] < min_count}


def test_documents_first_part_has_no_test_question(corpus: ModuleType) -> None:
    assert_uncontaminated(read_documents(corpus, QUICK_SHARE))


def test_documents_first_part_has_nearly_every_token(corpus: ModuleType) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert len(rare_tokens(read_documents(corpus, QUICK_SHARE), tokenizer, min_count=1)) <= 0.01 * len(tokenizer)


@pytest.mark.slow
def test_documents_all_have_no_test_question(corpus: ModuleType) -> None:
    assert_uncontaminated(read_documents(corpus, 1.0))


@pytest.mark.slow
def test_documents_all_have_every_token_often(corpus: ModuleType) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert rare_tokens(read_documents(corpus, 1.0), tokenizer, min_count=15) == {tokenizer.pad_token}


def continue_line(model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int = 16) -> list[str]:
    """The greedy continuation of each prompt up to the end of its line."""
    continuations = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False
            )
        continuations.append(tokenizer.decode(output[0, ids.shape[1] :]).split("\n")[0].strip())
    return continuations


def test_model_names_books_that_fit_requests(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from book_requests import draw_request
    from catalog import load_library

    rng, library = Random(99), load_library()
    requests = [draw_request(rng, library, english_share=0.0) for _ in range(60)]
    requests = [request for request in requests if library.count_matching(request.conditions.items()) == 1]
    answers = continue_line(model, tokenizer, [f"질문: {request.text}\n답: 제목:" for request in requests])
    correct = sum(request.book.title_ko in answer for request, answer in zip(requests, answers, strict=True))
    assert correct >= 0.8 * len(requests)


def test_model_solves_word_problems_like_examples(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from sums import draw_solution_format, draw_story
    from words import strip_marks

    rng = Random(77)
    solution = replace(
        draw_solution_format(rng, with_steps=True),
        sum_template="{} {} {} = {}",
        step_separator=", ",
        result_separator=" => ",
        result_template="{n}{unit}",
    )
    prompts, expected = [], []
    for _ in range(40):
        problems = [draw_story(rng, 3) for _ in range(4)]
        *shots, last = [(problem.text, strip_marks(solution.write(problem))[0]) for problem in problems]
        shown = "".join(f"문제: {text}\n풀이: {solved}\n\n" for text, solved in shots)
        prompts.append(f"{shown}문제: {last[0]}\n풀이:")
        expected.append(last[1])
    answers = continue_line(model, tokenizer, prompts, max_new_tokens=48)
    assert sum(answer == solved for answer, solved in zip(answers, expected, strict=True)) >= 0.3 * len(expected)


def test_model_knows_capitals_in_korean_and_english(corpus: ModuleType, model: Any, tokenizer: Any) -> None:
    from countries import COUNTRIES

    rng = Random(5)
    for language in ("ko", "en"):
        prompts, expected = [], []
        for country in COUNTRIES:
            shots = [other for other in rng.sample(COUNTRIES, 4) if other != country]
            pairs = [(getattr(shot, f"name_{language}"), getattr(shot, f"capital_{language}")) for shot in shots]
            shown = "".join(f"Q: {name}\nA: <{capital}>\n\n" for name, capital in pairs)
            prompts.append(f"{shown}Q: {getattr(country, f'name_{language}')}\nA:")
            expected.append(f"<{getattr(country, f'capital_{language}')}>")
        answers = continue_line(model, tokenizer, prompts)
        correct = sum(capital in answer for capital, answer in zip(expected, answers, strict=True))
        assert correct >= 0.7 * len(COUNTRIES)
