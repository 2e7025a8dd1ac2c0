"""Questions in groups: errors over whole groups, the same results for groups of one, and few groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pytest
from conftest import MakeLabelRecord, MakeRecord
from scipy import stats as scipy_stats
from statsmodels.api import OLS

from bench.analysis import power
from bench.analysis.comparison import compare_methods, method_results, paired_difference_of
from bench.analysis.question_groups import QuestionGroups, question_groups
from bench.analysis.regression.check import judge_records
from bench.analysis.regression.gates import Policy
from bench.analysis.significance import ScorePair, VarianceComponents, p_value, paired_differences, score_interval
from bench.analysis.statistic import Statistic
from bench.records import Record, Samples

RNG = numpy.random.default_rng(5)


def draw_scores(n_groups: int, size: int, *, n_seeds: int = 1, accuracy: float = 0.5) -> Any:
    """Right-or-wrong scores of which those of a group resemble each other."""
    group_accuracy = numpy.repeat(RNG.beta(accuracy, 1 - accuracy, n_groups), size)
    return (RNG.random((n_seeds, n_groups * size)) < group_accuracy).astype(float)


def equal_groups(n_groups: int, size: int) -> QuestionGroups:
    return QuestionGroups(numpy.repeat(numpy.arange(n_groups), size))


def with_groups(record: Record, names: Sequence[str]) -> Record:
    samples = [
        sample.model_copy(update={"group": name, "raw": sample.answer or ""})
        for sample, name in zip(record.samples, names, strict=True)
    ]
    return record.model_copy(update={"samples": Samples.from_list(samples)})


def without_records(value: Any) -> Any:
    """The results of a comparison, without what records and resampling hold."""
    return [(result.key, result.interval, result.known) for result in value.results], value.against_leader


def test_question_groups_of_one_or_none_are_no_groups() -> None:
    assert question_groups(None) is None
    assert question_groups(["a", "b", "c"]) is None
    groups = question_groups(["b", "a", "b"])
    assert groups is not None
    assert (groups.names, groups.codes.tolist(), groups.sizes.tolist()) == (("b", "a"), [0, 1, 0], [2.0, 1.0])


@pytest.mark.parametrize("metric", ["em", "macro-f1"])
def test_compare_methods_groups_of_one_change_nothing(make_label_record: MakeLabelRecord, metric: str) -> None:
    references = [("warm", "cold")[index % 2] for index in range(60)]
    records = [
        make_label_record(
            name,
            ("warm", "cold"),
            references,
            [reference if RNG.random() < accuracy else "cold" for reference in references],
            seed=seed,
            task__metric=metric,
        )
        for name, accuracy in (("lora", 0.9), ("full", 0.6), ("zero-shot", 0.4))
        for seed in range(2)
    ]
    grouped = [with_groups(record, [f"g{index}" for index in range(60)]) for record in records]
    assert without_records(compare_methods(grouped)) == without_records(compare_methods(records))


def test_group_values_stderr_is_the_cluster_robust_one() -> None:
    scores, groups = draw_scores(30, 8), equal_groups(30, 8)
    components = VarianceComponents.estimate(scores, groups=groups)
    fit = OLS(scores[0], numpy.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": groups.codes})
    # statsmodels has one more factor, (questions - 1) / (questions - parameters), which is 1 for a mean.
    assert components.unit_stderr == pytest.approx(float(fit.bse[0]))
    assert groups.group_values(scores).mean() == pytest.approx(scores.mean())


def test_group_values_unequal_sizes_are_those_of_the_jackknife() -> None:
    sizes = [1, 2, 7, 20, 4]
    groups = QuestionGroups(numpy.repeat(numpy.arange(5), sizes))
    scores = RNG.random((1, sum(sizes)))
    without_one = numpy.array([scores[0][groups.codes != code].mean() for code in range(5)])
    jackknife_variance = 4 / 5 * ((without_one - without_one.mean()) ** 2).sum()
    assert VarianceComponents.estimate(scores, groups=groups).unit_stderr ** 2 == pytest.approx(jackknife_variance)


def test_repeated_questions_as_groups_tell_no_more_than_one_of_each() -> None:
    first, second = RNG.random((1, 25)), RNG.random((1, 25))
    repeated = [numpy.repeat(scores, 6, axis=1) for scores in (first, second)]
    groups = equal_groups(25, 6)
    expected = float(scipy_stats.ttest_rel(first[0], second[0]).pvalue)
    assert p_value(*repeated, groups=groups) == pytest.approx(expected)
    assert p_value(*repeated) < expected
    interval = score_interval(Statistic(repeated[0], groups=groups))
    low, high = scipy_stats.t.interval(0.95, 24, first.mean(), scipy_stats.sem(first[0]))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)


def test_paired_difference_few_groups_have_students_t() -> None:
    pair = ScorePair(Statistic(draw_scores(5, 50), groups=equal_groups(5, 50)), draw_scores(5, 50))
    (difference,) = paired_differences([pair])
    stderr = difference.question_std / 250**0.5
    assert difference.questions_per_unit == 50
    # Resamples of five groups are few, so the bounds of the bootstrap are near those of Student's t with 4 degrees.
    assert (difference.ci95.high - difference.ci95.low) / 2 == pytest.approx(2.78 * stderr, rel=0.2)
    assert difference.p_value == pytest.approx(float(2 * scipy_stats.t.sf(abs(difference.ci95.mean) / stderr, 4)))


def test_score_interval_one_group_says_nothing() -> None:
    scores, groups = draw_scores(1, 40), equal_groups(1, 40)
    interval = score_interval(Statistic(scores, groups=groups))
    assert (interval.low, interval.high) == (0, 1)
    assert p_value(scores, 0 * scores, groups=groups) == 1


def test_score_interval_all_right_counts_groups_not_questions() -> None:
    right = numpy.ones((1, 400))
    alone = score_interval(right)
    grouped = score_interval(Statistic(right, groups=equal_groups(20, 20)))
    assert alone.low == pytest.approx(0.025 ** (1 / 400))
    assert grouped.low == pytest.approx(0.025 ** (1 / 20))


def test_questions_to_detect_in_groups_needs_more_questions() -> None:
    scores, other = draw_scores(40, 10), draw_scores(40, 10)
    groups = equal_groups(40, 10)
    (alone,) = paired_differences([ScorePair(scores, other)])
    (grouped,) = paired_differences([ScorePair(Statistic(scores, groups=groups), Statistic(other, groups=groups))])
    needed_alone, needed = (power.questions_to_detect(difference, 0.02, 0.025) for difference in (alone, grouped))
    assert needed_alone is not None
    assert needed is not None
    assert needed > 2 * needed_alone


def make_drop(make_record: MakeRecord, n_wrong: int, seeds: int = 1) -> list[Record]:
    """Runs of a method that is not trained, with the last answers wrong, on 20 passages of 10 questions."""
    names = [f"passage {index // 10}" for index in range(200)]
    records = [make_record("zero-shot", 1 - n_wrong / 200, items=200, seed=seed) for seed in range(seeds)]
    cost = {"parameters": None, "budget_usage": None}
    return [
        with_groups(record.model_copy(update={"cost": record.cost.model_copy(update=cost)}), names)
        for record in records
        if record.cost
    ]


def test_comparison_difference_in_two_groups_is_inconclusive(make_record: MakeRecord) -> None:
    better, worse = make_drop(make_record, 20)[0], make_drop(make_record, 40)[0]
    other = worse.spec.model_copy(update={"method": worse.spec.method.model_copy(update={"params": {"k": 1}})})
    worse = worse.model_copy(update={"spec": other, "id": other.id})
    results = method_results([better, worse])
    difference = paired_difference_of(results[0], results[1])
    assert difference.p_value > 0.05
    alone = p_value(results[0].scores, results[1].scores)
    assert alone < 0.001
    assert difference.ci95.low <= 0


@pytest.mark.parametrize(("is_grouped", "verdict"), [(True, "same"), (False, "worse")])
def test_check_drop_in_one_group_is_no_drop(make_record: MakeRecord, is_grouped: bool, verdict: str) -> None:
    old, new = make_drop(make_record, 0), make_drop(make_record, 10)
    if not is_grouped:
        old, new = (
            [with_groups(record, [f"g{index}" for index in range(200)]) for record in runs] for runs in (old, new)
        )
    findings = judge_records(old, new, Policy()).findings
    assert next(finding.verdict for finding in findings if finding.gate == "em") == verdict
