"""Metrics of all answers: recomputed in every resample, with bounds of rare labels."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from conftest import MakeLabelRecord
from sklearn.metrics import f1_score

from bench.analysis import significance
from bench.analysis.comparison import compare_methods, paired_difference_of, statistic_of
from bench.analysis.constraints import Constraints
from bench.analysis.task_results import group_by_task
from bench.metrics import CORPUS_METRICS
from bench.records import Record
from bench.report.findings import comparison_sentences
from bench.report.label_table import label_table

LABELS = ("철학", "종교", "역사")
SHARES = (0.7, 0.25, 0.05)
N_QUESTIONS = 300


def draw_references(n_questions: int = N_QUESTIONS) -> list[str]:
    return [LABELS[code] for code in numpy.random.default_rng(0).choice(3, n_questions, p=SHARES)]


def draw_answers(references: list[str], accuracy: float, seed: int) -> list[str]:
    rng = numpy.random.default_rng([seed, round(1000 * accuracy)])
    guesses = rng.choice([*LABELS, "모름"], len(references))
    is_right = rng.random(len(references)) < accuracy
    return [
        reference if right else str(guess)
        for reference, guess, right in zip(references, guesses, is_right, strict=True)
    ]


def make_runs(
    make_label_record: MakeLabelRecord, accuracies: dict[str, float], seeds: int = 2, metric: str = "macro-f1"
) -> list[Record]:
    """Records of methods by their accuracy; names in capitals are controls."""
    references = draw_references()
    return [
        make_label_record(
            name,
            LABELS,
            references,
            draw_answers(references, accuracy, seed),
            seed=seed,
            task__metric=metric,
            method__control=name.isupper(),
        )
        for name, accuracy in accuracies.items()
        for seed in range(seeds)
    ]


def resampled_macro_f1(record: Record, rows: Any) -> float:
    samples = [record.samples[int(row)] for row in rows]
    references, answers = [sample.references[0] for sample in samples], [sample.answer for sample in samples]
    return float(f1_score(references, answers, labels=sorted(set(references)), average="macro", zero_division=0))


def test_interval_is_the_percentile_interval_of_recomputed_macro_f1(make_label_record: MakeLabelRecord) -> None:
    record = make_runs(make_label_record, {"zero-shot": 0.6}, seeds=1)[0]
    rng = numpy.random.default_rng(1)
    resamples = [resampled_macro_f1(record, rng.integers(0, N_QUESTIONS, N_QUESTIONS)) for _ in range(400)]
    interval = significance.score_interval(statistic_of([record], "macro-f1"))
    assert interval.mean == pytest.approx(record.all_scores["macro-f1"])
    assert (interval.low, interval.high) == pytest.approx(tuple(numpy.quantile(resamples, [0.025, 0.975])), abs=0.02)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_compare_methods_corpus_metric_has_mean_of_seeds_and_verdicts(
    make_label_record: MakeLabelRecord, metric: str
) -> None:
    records = make_runs(make_label_record, {"lora": 0.8, "full": 0.5, "MAJORITY": 0.2}, metric=metric)
    comparison = compare_methods(records)
    assert [result.name for result in comparison.results] == ["lora", "full", "MAJORITY"]
    lora, full, _ = comparison.results
    scores = {
        name: [record.all_scores[metric] for record in records if record.spec.method.name == name]
        for name in ("lora", "full")
    }
    assert lora.interval.mean == pytest.approx(numpy.mean(scores["lora"]))
    difference = paired_difference_of(full, lora).ci95
    assert difference.mean == pytest.approx(numpy.mean(scores["full"]) - numpy.mean(scores["lora"]))
    assert difference.low < difference.mean < difference.high < 0
    assert comparison.against_leader[full.key].verdict == "worse"
    assert comparison.against_control[lora.key].verdict == "better"
    assert f" {metric}, 95 % interval" in comparison_sentences(comparison)[0]


def test_statistic_questions_in_other_order_are_paired_by_id(make_label_record: MakeLabelRecord) -> None:
    references = draw_references(40)
    answers = draw_answers(references, 0.6, 0)
    record = make_label_record("lora", LABELS, references, answers, task__metric="mcc")
    other = record.model_copy(update={"samples": record.samples[::-1]})
    values = statistic_of([record, other], "mcc").values
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_interval_of_all_right_answers_leaves_the_rare_label_open(
    make_label_record: MakeLabelRecord, metric: str
) -> None:
    references = ["철학"] * 180 + ["종교"] * 15 + ["역사"] * 5
    record = make_label_record("zero-shot", LABELS, references, references, task__metric=metric)
    interval = significance.score_interval(statistic_of([record], metric))
    assert (interval.mean, interval.high) == (1.0, 1.0)
    if metric == "balanced-accuracy":  # Clopper-Pearson of 5 of 5 right answers
        assert interval.low == pytest.approx(1 - (1 - 0.025**0.2) / 3)
    assert interval.low < 0.995


def test_interval_of_mcc_may_be_negative(make_label_record: MakeLabelRecord) -> None:
    references = draw_references()
    record = make_label_record("zero-shot", LABELS, references, ["철학"] * N_QUESTIONS, task__metric="mcc")
    interval = significance.score_interval(statistic_of([record], "mcc"))
    assert interval.low <= interval.mean == 0 <= interval.high


@pytest.mark.parametrize(
    ("metric", "chance", "useful"),
    [("macro-f1", 0.276, 0.638), ("balanced-accuracy", 1 / 3, 2 / 3), ("mcc", 0.0, 0.5), ("weighted-f1", None, 0.5)],
)
def test_chance_is_the_score_of_the_best_constant_answer(
    make_label_record: MakeLabelRecord, metric: str, chance: float | None, useful: float
) -> None:
    references = ["철학"] * 212 + ["종교"] * 75 + ["역사"] * 13
    run = make_label_record("lora", LABELS, references, references, task__metric=metric)
    results = group_by_task([run])[0]
    assert results.chance == (None if chance is None else pytest.approx(chance, abs=0.001))
    assert Constraints().useful_score(metric, results.chance) == pytest.approx(useful, abs=0.001)


def test_label_table_counts_all_seeds(make_label_record: MakeLabelRecord) -> None:
    runs = [
        make_label_record("lora", LABELS, ["철학", "철학", "종교"], answers, seed=seed)
        for seed, answers in enumerate([["철학", "종교", "종교"], ["철학", "모름", "철학"]])
    ]
    table = label_table(runs)
    assert table is not None
    assert [(row.name, row.questions, row.answers) for row in table.rows] == [
        ("철학", 4, (2, 1, 0, 1)),
        ("종교", 2, (1, 1, 0, 0)),
    ]
    assert (table.rows[0].precision, table.rows[0].recall) == (pytest.approx(2 / 3), 0.5)


def test_corpus_scores_of_a_record_without_labels_are_not_measured(make_label_record: MakeLabelRecord) -> None:
    measured = make_label_record("lora", LABELS, ["철학"], ["철학"])
    record = measured.model_copy(update={"labels": None, "corpus_scores": None})
    with pytest.raises(KeyError):
        statistic_of([record], "macro-f1")
    assert "macro-f1" not in group_by_task([record])[0].summaries[0].scores
