"""Comparison of methods on one task: leader, paired differences and verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy
from numpy.typing import NDArray

from bench.analysis import known_spread, power, significance
from bench.analysis.question_groups import QuestionGroups, question_groups
from bench.analysis.seed_variance import NO_PRIOR, KnownSpread, Scores, SeedVariancePrior
from bench.analysis.significance import Interval, PairedDifference, ScorePair, Verdict
from bench.analysis.statistic import Statistic, corpus_statistic, linear_statistic
from bench.analysis.summary import method_labels
from bench.records import Record, Samples, comparability


@dataclass(frozen=True)
class MethodResult:
    """Scores of one method with one set of hyper-parameters, over its seeds."""

    key: str
    """Digest of the spec without the seed."""
    name: str
    """Name of the method, with the hyper-parameters in which it differs from others of that name."""
    control: bool
    seeds: tuple[int, ...]
    """Seeds in ascending order."""
    statistic: Statistic
    """Main metric over questions and seeds."""
    interval: Interval
    """Mean and 95 % confidence interval over questions and seeds."""
    known: KnownSpread
    """Spread between seeds that such a method is known to have; without variance if the seed makes no difference."""
    records: tuple[Record, ...]
    """One record per seed, in the order of `seeds`."""

    @property
    def scores(self) -> Scores:
        """Main metric (seeds, questions), of a metric of all answers its `Statistic.values`."""
        return self.statistic.values


@dataclass(frozen=True)
class Contrast:
    """A method compared with a reference method."""

    method_key: str
    reference_key: str
    difference: PairedDifference
    """Scores of the method minus those of the reference, over the seeds that both have."""
    adjusted_p_value: float
    """P value adjusted for all contrasts of the comparison (Holm)."""
    verdict: Verdict
    questions_needed: int | None
    """Test questions that would settle an inconclusive verdict; None if it is settled, or if no number would."""


@dataclass(frozen=True)
class Comparison:
    """All methods of one task, and the verdicts on them."""

    metric: str
    """Main metric of the task; empty without records."""
    results: tuple[MethodResult, ...]
    """Contenders and controls, best first."""
    failed: tuple[Record, ...]
    """Records without a result."""
    leader: MethodResult | None
    """The contender with the highest mean; None if no contender has a result."""
    control: MethodResult | None
    """The control with the highest mean; None if no control has a result."""
    against_control: dict[str, Contrast]
    """Each contender compared with the best control, by the key of the contender."""
    against_leader: dict[str, Contrast]
    """Each other contender compared with the leader, by its key: "worse" means worse than the leader."""
    n_contrasts: int
    """Number of contrasts that p values are adjusted for."""
    prior: SeedVariancePrior
    """Prior of the variance of differences over seeds."""

    @property
    def can_rank(self) -> bool:
        """True if a contender is better than the best control, or if one of them is missing."""
        if self.leader is None or self.control is None:
            return True
        return any(contrast.verdict == "better" for contrast in self.against_control.values())


def compare_methods(records: Sequence[Record]) -> Comparison:
    """Compare the methods of one task and model.

    The leader and the best control are chosen with the same data that compare them. So p values are adjusted for all
    pairs that could have been chosen: any two contenders, and any contender with any control.

    Raises:
        UserError: If the records were made under different terms.
    """
    results = method_results(records)
    contenders = [result for result in results if not result.control]
    controls = [result for result in results if result.control]
    leader = contenders[0] if contenders else None
    control = controls[0] if controls else None
    pairs = [*combinations(contenders, 2)]
    pairs += [(contender, reference) for contender in contenders for reference in controls]
    score_pairs = [_pair_scores(method, reference) for method, reference in pairs]
    prior = SeedVariancePrior.fit([pair.differences for pair in score_pairs], _count_seed_dependent(results))
    p_values = [pair.p_value(prior) for pair in score_pairs]
    adjusted_p_values = {
        frozenset((method.key, reference.key)): adjusted
        for (method, reference), adjusted in zip(pairs, significance.holm_adjust(p_values), strict=True)
    }
    return Comparison(
        metric=records[0].spec.task.metric if records else "",
        results=tuple(results),
        failed=tuple(record for record in records if record.status != "ok"),
        leader=leader,
        control=control,
        against_control=_contrasts(contenders, control, prior, adjusted_p_values),
        against_leader=_contrasts(contenders[1:], leader, prior, adjusted_p_values),
        n_contrasts=len(pairs),
        prior=prior,
    )


def method_results(records: Sequence[Record]) -> list[MethodResult]:
    """Return the result of every method with successful runs, best first.

    Raises:
        UserError: If the records were made under different terms.
    """
    comparability.require_comparable(records)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            groups[record.spec.key].append(record)
    for group in groups.values():
        group.sort(key=lambda record: record.spec.seed)
    labels = method_labels(records)
    statistics = [statistic_of(group, group[0].spec.task.metric) for group in groups.values()]
    spreads = [
        known_spread.known_spread(group[0], statistic.values)
        for group, statistic in zip(groups.values(), statistics, strict=True)
    ]
    prior = SeedVariancePrior.fit([statistic.values for statistic in statistics], len(statistics))
    intervals = significance.score_intervals(list(zip(statistics, spreads, strict=True)), prior)
    results = [
        MethodResult(
            key=key,
            name=labels[key],
            control=group[0].spec.method.control,
            seeds=tuple(record.spec.seed for record in group),
            statistic=statistic,
            interval=interval,
            known=known,
            records=tuple(group),
        )
        for (key, group), statistic, known, interval in zip(groups.items(), statistics, spreads, intervals, strict=True)
    ]
    return sorted(results, key=lambda result: -result.interval.mean)


def paired_difference_of(
    method: MethodResult, reference: MethodResult, prior: SeedVariancePrior = NO_PRIOR
) -> PairedDifference:
    """Return the scores of a method minus those of a reference, over the seeds that both have.

    If they share no seed, the means over the seeds of each are compared.
    """
    return paired_differences_from([method], reference, prior)[0]


def paired_differences_from(
    methods: Sequence[MethodResult], reference: MethodResult, prior: SeedVariancePrior = NO_PRIOR
) -> list[PairedDifference]:
    """Return the paired difference of each of several methods from one reference."""
    return significance.paired_differences([_pair_scores(method, reference) for method in methods], prior)


def statistic_of(records: Sequence[Record], metric: str) -> Statistic:
    """Return a metric of several runs on the same questions.

    Args:
        records: Records of one task, in the order of the rows that the statistic has.
        metric: Name of a score of single answers, or of a metric of all answers.

    Raises:
        KeyError: If the answers have no such score, or the labels of a run are not known.
    """
    samples = [record.samples for record in records]
    groups = groups_of(samples[0])
    if metric in records[0].scores:
        return Statistic(scores_by_question(samples, metric), groups=groups)
    if all(metric in (record.corpus_values or {}) for record in records):
        own_values = [numpy.array((record.corpus_values or {})[metric]) for record in records]
        positions = _question_positions(samples)
        return linear_statistic(
            numpy.stack([run[order] for run, order in zip(own_values, positions, strict=True)]), groups
        )
    try:
        metrics = [record.corpus_metrics()[metric] for record in records]
    except ValueError as error:
        raise KeyError(metric) from error
    return corpus_statistic(
        [each.take(positions) for each, positions in zip(metrics, _question_positions(samples), strict=True)], groups
    )


def groups_of(samples: Samples) -> QuestionGroups | None:
    """Return the groups of the questions of a run, in the order of the ids; None without any."""
    if samples.groups is None:
        return None
    _, positions = _sorted_questions(samples.ids)
    return question_groups([samples.groups[position] for position in positions])


def scores_by_question(samples: Sequence[Samples], metric: str) -> Scores:
    """Return the scores of several runs on the same questions.

    Args:
        samples: Samples of each run, in any order of questions.
        metric: Name of the score.

    Returns:
        Scores (runs, questions), with the questions in the order of their ids.

    Raises:
        KeyError: If another run lacks a question of the first run.
    """
    positions = _question_positions(samples)
    rows = [
        numpy.frombuffer(run_samples.scores(metric))[run_positions]
        for run_samples, run_positions in zip(samples, positions, strict=True)
    ]
    return numpy.array(rows, dtype=numpy.float64)


def _question_positions(samples: Sequence[Samples]) -> list[NDArray[numpy.intp]]:
    """Return the positions of the questions of each run, in the order of their ids.

    Raises:
        KeyError: If another run lacks a question of the first run.
    """
    ids, _ = _sorted_questions(samples[0].ids)
    all_positions = []
    for run_samples in samples:
        run_ids, positions = _sorted_questions(run_samples.ids)
        if run_ids != ids:
            position_of = dict(zip(run_ids, positions, strict=True))
            positions = numpy.array([position_of[question_id] for question_id in ids])
        all_positions.append(positions)
    return all_positions


@lru_cache(maxsize=256)
def _sorted_questions(ids: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[numpy.intp]]:
    """Return the sorted question ids and the position of each in `ids`."""
    position_of = {question_id: position for position, question_id in enumerate(ids)}
    sorted_ids = tuple(sorted(position_of))
    return sorted_ids, numpy.array([position_of[question_id] for question_id in sorted_ids], dtype=numpy.intp)


def _count_seed_dependent(results: Sequence[MethodResult]) -> int:
    """Count the methods whose mean score differs between seeds."""
    return sum(len(result.seeds) > 1 and bool(numpy.ptp(result.scores.mean(axis=1)) > 0) for result in results)


def _pair_scores(method: MethodResult, reference: MethodResult) -> ScorePair:
    """Return the scores for the shared seeds, or means over seeds if there are none."""
    shared = [seed for seed in method.seeds if seed in reference.seeds]
    if not shared:
        return ScorePair(
            method.statistic.pooled(),
            reference.statistic.pooled(),
            method.known.of_mean(len(method.seeds)) + reference.known.of_mean(len(reference.seeds)),
        )
    return ScorePair(
        method.statistic.take([method.seeds.index(seed) for seed in shared]),
        reference.statistic.take([reference.seeds.index(seed) for seed in shared]),
        method.known + reference.known,
    )


def _contrasts(
    methods: Sequence[MethodResult],
    reference: MethodResult | None,
    prior: SeedVariancePrior,
    adjusted_p_values: dict[frozenset[str], float],
) -> dict[str, Contrast]:
    """Judge methods against a reference.

    Args:
        methods: Methods to judge.
        reference: Method to compare with; None gives no contrasts.
        prior: Prior of the variance of differences over seeds.
        adjusted_p_values: Adjusted p value of every pair of the comparison, by its two keys.

    Returns:
        Contrasts by the key of the method.
    """
    if reference is None:
        return {}
    contrasts = {}
    for method, difference in zip(methods, paired_differences_from(methods, reference, prior), strict=True):
        adjusted_p_value = adjusted_p_values[frozenset((method.key, reference.key))]
        verdict = significance.judge_difference(difference, adjusted_p_value)
        questions_needed = None
        if verdict == "inconclusive":
            questions_needed = power.questions_to_decide(difference, len(adjusted_p_values))
        contrasts[method.key] = Contrast(
            method_key=method.key,
            reference_key=reference.key,
            difference=difference,
            adjusted_p_value=adjusted_p_value,
            verdict=verdict,
            questions_needed=questions_needed,
        )
    return contrasts
