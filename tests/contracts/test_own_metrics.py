"""Metrics of a user: of single answers, and of all answers together, from `task.py` to the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import MakeRecord, MakeTask

from bench import task
from bench.analysis import significance
from bench.analysis.comparison import compare_methods, statistic_of
from bench.errors import UserError
from bench.records import corpus_metrics, read_records
from bench.testing import check_metric

COVERAGE = """
def corpus_score(predictions, references):
    found = {answer for answer, accepted in zip(predictions, references, strict=True) if answer in accepted}
    return {"coverage": len(found) / len({accepted[0] for accepted in references})}
"""


def coverage(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    found = {answer for answer, accepted in zip(predictions, references, strict=True) if answer in accepted}
    return {"coverage": len(found) / len({accepted[0] for accepted in references})}


def load(make_task: MakeTask, folder: Path, code: str, **changes: Any) -> task.Task:
    made = make_task(folder, **changes)
    (made / "task.py").write_text(code, "utf-8")
    return task.load_task(made)


def test_load_task_own_metric_of_all_answers_may_be_the_main_one(make_task: MakeTask, tmp_path: Path) -> None:
    loaded = load(make_task, tmp_path / "task", COVERAGE, metric="coverage")
    assert loaded.corpus_scores(["warm", "cold"], [("warm",), ("mild",)]) == {"coverage": 0.5}
    assert loaded.score("warm", ["warm"])["em"] == 1.0  # single answers keep their scores


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ("{'mine': 1.7}", "returned {'mine': 1.7}"),
        ("{'mine': -0.5}", "returned {'mine': -0.5}"),
        ("0.5", "returned 0.5"),
        ("{}", "returned {}"),
        ("{'macro-f1': 0.5}", "'macro-f1'"),
        ("{'em': 0.5}", "'em', which single answers have too"),
        ("predictions.nope()", "nope"),
    ],
)
def test_load_task_own_metric_of_all_answers_that_is_invalid_raises(
    make_task: MakeTask, tmp_path: Path, result: str, problem: str
) -> None:
    code = f"def corpus_score(predictions, references):\n    return {result}\n"
    with pytest.raises(UserError) as raised:
        load(make_task, tmp_path / "task", code)
    assert problem in raised.value.message
    assert raised.value.hint


def test_compare_methods_own_metric_of_all_answers_has_intervals(make_record: MakeRecord, tmp_path: Path) -> None:
    texts, rng = [f"answer {number % 40}" for number in range(200)], numpy.random.default_rng(0)
    for name, accuracy in {"lora": 0.6, "few-shot": 0.1}.items():
        answers = [text if right else "" for text, right in zip(texts, rng.random(200) < accuracy, strict=True)]
        values = corpus_metrics.jackknife_values_of(
            lambda rows, answers=answers: coverage([answers[row] for row in rows], [[texts[row]] for row in rows]), 200
        )
        own = {metric: tuple(column.tolist()) for metric, column in values.items()}
        scores = {metric: min(float(column.mean()), 1.0) for metric, column in values.items()}
        changes = {"task__metric": "coverage", "corpus_scores": scores, "corpus_values": own}
        make_record(name, items=200, **changes).write(tmp_path)
    first, second = compare_methods(read_records([tmp_path])).results
    assert [first.name, second.name] == ["lora", "few-shot"]
    assert 0 <= second.interval.low < second.interval.mean < second.interval.high <= 1


def test_statistic_of_own_metric_with_right_answers_only_has_exact_bounds(make_record: MakeRecord) -> None:
    own = {"corpus_scores": {"coverage": 1.0}, "corpus_values": {"coverage": (1.0,) * 100}}
    record = make_record("lora", items=100, task__metric="coverage", **own)
    interval = significance.score_interval(statistic_of([record], "coverage"))
    assert (interval.low, interval.high) == pytest.approx((0.025**0.01, 1))


def share(prediction: str, references: Sequence[str]) -> dict[str, float]:
    return {"same": float(prediction in references)}


@pytest.mark.parametrize(
    ("metric", "of_all_answers", "problem"),
    [
        (share, False, None),
        (coverage, True, None),
        (lambda prediction, references: {"same": 100 * share(prediction, references)["same"]}, False, "from 0 to 1"),
        (lambda prediction, references: {"error": 1 - share(prediction, references)["same"]}, False, "lower score"),
        (lambda prediction, references: {prediction or "empty": 1.0}, False, "for every answer"),
        (lambda predictions, references: {"first": float(predictions[0] in references[0])}, True, "the order"),
        (lambda predictions, references: {"number": len(predictions)}, True, "from 0 to 1"),
    ],
)
def test_check_metric_names_the_broken_rule(
    metric: Callable[..., dict[str, float]], of_all_answers: bool, problem: str | None
) -> None:
    if problem is None:
        check_metric(metric, of_all_answers=of_all_answers)
        return
    with pytest.raises(AssertionError, match=problem):
        check_metric(metric, of_all_answers=of_all_answers)
