"""Metrics of texts, against their libraries, and the checks of a card that names them."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from rapidfuzz.distance import Levenshtein
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from support import ENGLISH_WORDS, KOREAN_WORDS

from bench import task
from bench.errors import UserError
from bench.metrics import ANSWER_TEXT_METRICS
from bench.metrics.bleu import count_ngrams
from bench.metrics.structured import Tolerance, json_field_share, numbers_match
from bench.metrics.text import TextAnswer, score_text_metrics
from bench.testing import check_metric

N_CASES = 1000


def draw_text(rng: random.Random, *, max_words: int = 14) -> str:
    """Some words, Korean, English or mixed, now and then with a comma."""
    words = rng.choice([ENGLISH_WORDS, KOREAN_WORDS, [*ENGLISH_WORDS, *KOREAN_WORDS]])
    text = " ".join(rng.choice(words) + rng.choice(["", "", "", ","]) for _ in range(rng.randint(1, max_words)))
    return text + rng.choice(["", " end"])


def draw_case(seed: int) -> tuple[str, list[str]]:
    """An answer and one to three references, of which some share words with it."""
    rng = random.Random(seed)
    references = [draw_text(rng) for _ in range(rng.randint(1, 3))]
    words = rng.choice(references).split()
    kept = [word for word in words if rng.random() < 0.7]
    answer = rng.choice([" ".join(kept), draw_text(rng), rng.choice(references), ""])
    return answer, references


def spaced(text: str) -> str:
    """A text with spaces around the syllables of Hangul."""
    return re.sub("([가-힣])", r" \1 ", text)


def measure(metric: str, answer: str, references: Sequence[str], **changes: Any) -> float:
    texts = TextAnswer(answer, references, answer or None, references, **changes)
    return score_text_metrics([metric], texts)[metric]


def test_chrf_random_cases_equal_sacrebleu() -> None:
    library = CHRF()
    for seed in range(N_CASES):
        answer, references = draw_case(seed)
        expected = library.sentence_score(answer, references).score / 100
        assert measure("chrf", answer, references) == pytest.approx(expected, abs=1e-12), seed


class Whitespace:
    """Tokenizer of texts whose units stand apart."""

    def tokenize(self, text: str) -> list[str]:
        return text.casefold().replace(",", "").split()


@pytest.mark.parametrize(("metric", "kind"), [("rouge-1", "rouge1"), ("rouge-2", "rouge2"), ("rouge-l", "rougeL")])
def test_rouge_random_cases_equal_rouge_score(metric: str, kind: str) -> None:
    library = RougeScorer([kind], tokenizer=Whitespace())
    for seed in range(N_CASES):
        answer, references = draw_case(seed)
        texts = [spaced(reference) for reference in references]
        expected = library.score_multi(texts, spaced(answer))[kind].fmeasure
        assert measure(metric, answer, references) == pytest.approx(expected, abs=1e-12), seed


def test_rouge_english_words_equal_the_tokenizer_of_rouge_score() -> None:
    library, rng = RougeScorer(["rougeL"]), random.Random(0)
    words = [word for word in ENGLISH_WORDS if word.isalpha()]
    for _ in range(100):
        answer, reference = (" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(2))
        expected = library.score(reference, answer)["rougeL"].fmeasure
        assert measure("rouge-l", answer, [reference]) == pytest.approx(expected)


def test_edit_is_the_normalized_similarity_of_levenshtein() -> None:
    assert measure("edit", "kitten", ["sitting"]) == pytest.approx(1 - 3 / 7)
    assert measure("edit", "고양이가", ["고양이는", "개"]) == pytest.approx(0.75)
    for seed in range(100):
        answer, references = draw_case(seed)
        best = max(Levenshtein.normalized_similarity(answer, reference) for reference in references)
        assert measure("edit", answer, references) == pytest.approx(best)


@pytest.mark.parametrize("metric", ["chrf", "rouge-1", "rouge-l", "edit"])
def test_text_metric_ignores_the_unicode_form(metric: str) -> None:
    decomposed = unicodedata.normalize("NFD", "고양이가 집에 있다")
    assert measure(metric, decomposed, ["고양이가 집에 있다"]) == pytest.approx(1)
    assert count_ngrams(decomposed, ["고양이가 집에 있다"]) == count_ngrams(
        "고양이가 집에 있다", ["고양이가 집에 있다"]
    )


def test_bleu_counts_of_korean_are_those_of_characters() -> None:
    answer, reference = "고양이가 집에 있다.", "고양이는 집에 있다."
    score = BLEU(tokenize="char").corpus_score([answer], [[reference]])
    assert count_ngrams(answer, [reference]) == [score.sys_len, score.ref_len, *score.counts, *score.totals]


@pytest.mark.parametrize(
    ("answer", "reference", "share"),
    [
        ('{"a": 1, "b": "Seoul."}', '{"b": "seoul", "a": 1.0}', 1),
        ('{"a": {"x": 1, "y": [1, 2]}}', '{"a": {"x": 1, "y": [1, 3]}}', 2 / 3),
        ('{"a": 1}', '{"a": 1, "b": 2}', 1 / 2),
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1}', 1 / 3),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ('{"a": null, "b": {}}', '{"a": null, "b": []}', 1 / 2),
        ("{}", "{}", 1),
        ("[1]", '{"a": 1}', 0),
        ('{"a": NaN}', '{"a": 1}', 0),
        ('```{"a": 1}```', '{"a": 1}', 0),
        ('{"a.b": 1}', '{"a": {"b": 1}}', 0),
    ],
)
def test_json_field_share_counts_fields_of_both(answer: str, reference: str, share: float) -> None:
    assert json_field_share(answer, reference) == pytest.approx(share)


@pytest.mark.parametrize(
    ("answer", "reference", "tolerance", "matches"),
    [
        ("1,000", "1000.0", None, True),
        ("3.1", "3.0", None, False),
        ("3.1", "3.0", 0.1, True),
        ("3.11", "3.0", 0.1, False),
        ("101", "100", "1%", True),
        ("-101", "-100", "1 %", True),
        ("101.01", "100", "1%", False),
        ("0.001", "0", "1%", False),
        ("“3.0”.", "3", None, True),
        ("3 km", "3", 1, False),
        ("5", "-5", "50%", False),
    ],
)
def test_numbers_match_within_the_tolerance(
    answer: str, reference: str, tolerance: float | str | None, matches: bool
) -> None:
    allowed = None if tolerance is None else Tolerance.parse(tolerance)
    assert numbers_match(answer, reference, allowed) is matches


def test_number_is_that_of_the_answer_pattern(make_task: MakeTask, tmp_path: Path) -> None:
    rows = [{"id": f"n{number}", "input": f"weigh {number}", "target": f"{number} kg"} for number in range(20)]
    splits = {"train": rows[:9], "validation": rows[9:13], "test": rows[13:]}
    card = {"metric": "number", "answer": r"([\d.]+)", "tolerance": "10%"}
    loaded = task.load_task(make_task(tmp_path / "task", **splits, **card))
    assert loaded.score("about 21 kg", ["20 kg", "40 kg"])["number"] == 1
    assert loaded.score("about 23 kg", ["20 kg"])["number"] == 0
    assert loaded.score("many", ["20 kg"])["number"] == 0


SENTENCES = [{"id": f"s{i}", "input": f"ask {i}", "target": f"the fox {i} lives near the river"} for i in range(20)]
OPEN = {"train": SENTENCES[:9], "validation": SENTENCES[9:13], "test": SENTENCES[13:]}


def test_load_task_names_text_metrics_beside_the_default_ones(make_task: MakeTask, tmp_path: Path) -> None:
    loaded = task.load_task(make_task(tmp_path / "task", **OPEN, metric="chrf", metrics=["bleu", "rouge-l"]))
    assert list(loaded.score("the fox", ["the fox"])) == ["em", "f1", "parsed", "chrf", "rouge-l"]
    assert loaded.corpus_text_metrics == ("bleu",)
    training_data = loaded.training_data(0)
    assert 0 < training_data.score("the fox 1", training_data.train[1]) < 1


def test_training_data_score_with_bleu_is_f1(make_task: MakeTask, tmp_path: Path) -> None:
    training_data = task.load_task(make_task(tmp_path / "task", **OPEN, metric="bleu")).training_data(0)
    assert training_data.score("the fox 1 lives", training_data.train[1]) == 0.75


def test_load_task_score_of_task_py_keeps_its_name(make_task: MakeTask, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", **OPEN, metric="chrf", metrics=["edit"])
    (folder / "task.py").write_text("def score(prediction, references):\n    return {'chrf': 0.25}\n", "utf-8")
    assert task.load_task(folder).score("a", ["a"]) == {"chrf": 0.25, "edit": 1.0}


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"metric": "crhf"}, "key 'metric': there is no score 'crhf'", "did you mean 'chrf'?"),
        ({"metrics": ["rougel"]}, "key 'metrics': there is no score 'rougel'", "did you mean 'rouge-l'?"),
        ({"metrics": ["macro-f1"]}, "needs a task with labels", "add labels"),
        ({"metric": "number"}, "is no number", "key 'answer'"),
        ({"metrics": ["json-fields"]}, "is no JSON object", "write an object"),
        ({"metric": "number", "tolerance": "much"}, "write a number, or a share", None),
        ({"metric": "number", "tolerance": -1}, "0 or more", None),
        ({"metric": "number", "tolerance": True}, "write a number, or a share", None),
        ({"tolerance": 0.1}, "belongs to the metric number", None),
        ({"metric": "evaluate:"}, "names no metric of evaluate", "evaluate:NAME"),
        ({"metric": "evaluate:./../x.py"}, "names no metric of evaluate", "evaluate:NAME"),
        ({"metric": "evaluate:./missing.py"}, "missing.py cannot be read", "restore the file"),
    ],
)
def test_load_task_invalid_metric_raises_with_hint(
    make_task: MakeTask, tmp_path: Path, changes: dict[str, Any], problem: str, hint: str | None
) -> None:
    with pytest.raises(UserError) as raised:
        task.load_task(make_task(tmp_path / "task", **(OPEN | changes)))
    assert problem in raised.value.message
    assert hint is None or hint in (raised.value.hint or "")


def test_load_task_bleu_of_short_answers_raises(make_task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer than four words"):
        task.load_task(make_task(tmp_path / "task", metrics=["bleu"]))


@pytest.mark.parametrize("metric", sorted({*ANSWER_TEXT_METRICS} - {"json-fields", "number", "rouge-2"}))
def test_check_metric_accepts_names(metric: str) -> None:
    check_metric(metric)


def test_check_metric_accepts_answers_of_the_metrics_own_kind() -> None:
    check_metric("bleu", [("the fox lives near it", "a fox"), ("고양이가 있다", "개가 있다")])
    check_metric("number", [("12", "13"), ("1,000", "10")])
    check_metric("json-fields", [('{"a": 1}', '{"a": 2}'), ('{"b": "x"}', "no")])
    with pytest.raises(AssertionError, match="pass answers that it can compare"):
        check_metric("number")
    with pytest.raises(UserError, match="there is no metric 'chr'"):
        check_metric("chr")
