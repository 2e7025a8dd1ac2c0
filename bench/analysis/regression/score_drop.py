"""Significant score drops: of each method, and common to all methods of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, isinf, sqrt

import numpy
from numpy.typing import NDArray
from scipy import special

from bench.analysis import comparison, significance
from bench.analysis.power import POWER
from bench.analysis.question_groups import QuestionGroups
from bench.analysis.regression.gates import GateFinding, GateVerdict, Policy
from bench.analysis.regression.pairing import RecordPair
from bench.analysis.seed_variance import NO_PRIOR, Scores, SeedVariancePrior
from bench.analysis.significance import VarianceComponents
from bench.i18n import Message
from bench.records import Record
from bench.records.samples import answer_metric

NO_SMALLEST_DROP = {"smallest_drop": None}
MIN_SEEDS = 3
"""Seeds that a trained method needs: with fewer, a drop cannot be distinguished from the variation between seeds."""
COMMON_SHIFT = "common shift"
"""Gate for the drop that all methods of a task share."""
DROP_GRID = 2.0**-14
"""Resolution of the smallest detectable drop: under 0.01 points, while findings print tenths of a point."""


@dataclass(frozen=True)
class ScoreDrop:
    """New scores minus old scores, of one method or averaged for each method of a task."""

    name: str
    gate: str
    """Main metric, or the common shift."""
    differences: Scores
    """New minus old, (seeds, questions) for a method and (methods, questions) for a common shift."""
    prior: SeedVariancePrior
    """Prior of the variance over the rows of `differences`."""
    max_score_drop: float
    """A smaller drop never fails; in units of the score."""
    groups: QuestionGroups | None = None
    """Groups of questions that belong together; None if every question stands for itself."""

    @cached_property
    def components(self) -> VarianceComponents:
        """Error of the mean difference."""
        return VarianceComponents.estimate(self.differences, self.prior, groups=self.groups)

    @property
    def p_value(self) -> float:
        """One-sided p value: the probability that unchanged scores drop at least this much."""
        two_sided = significance.p_value(self.differences, 0 * self.differences, self.prior, groups=self.groups)
        return two_sided / 2 if self.differences.mean() < 0 else 1 - two_sided / 2

    def detectable_drop(self, level: float) -> float:
        """Return the smallest drop that a one-sided test detects with 80 % power.

        The error is the one that was observed.
        """
        stderr = sqrt(self.components.unit_std**2 / self.components.n_units + self.components.seed_stderr**2)
        if isinf(stderr):  # A single group of questions says nothing of others.
            return 1.0
        power_margin = float(special.ndtri(POWER)) * stderr
        return max(self._smallest_significant_drop(level, stderr) + power_margin, self.max_score_drop)

    def _smallest_significant_drop(self, level: float, stderr: float) -> float:
        """Return the smallest mean drop, rounded up to the grid, whose p value is below a level.

        The normal score of the p value is nearly linear in the drop, so the secant method converges in four or five
        steps. A step that leaves the bracket is replaced by bisection.
        """
        if not stderr:
            return DROP_GRID
        target_score, low, high = float(special.ndtri(level)), 0.0, 1.0
        previous, previous_score, drop = 0.0, 0.0, min(-target_score * stderr, 0.5)
        while high - low > DROP_GRID / 100 and abs(drop - previous) > DROP_GRID / 100:
            score = float(special.ndtri(significance.two_sided_tail(drop, self.components) / 2))
            if score < target_score:
                high = drop
            else:
                low = drop
            following = low
            if -inf < score < previous_score:
                following = drop + (target_score - score) * (drop - previous) / (score - previous_score)
            previous, previous_score = drop, score
            drop = following if low < following < high else (low + high) / 2
        return min(ceil(drop / DROP_GRID) * DROP_GRID, 1.0)

    def finding(self, p_worse: float, p_better: float, level: float, n_tests: int) -> GateFinding:
        """Return the finding of this test.

        Args:
            p_worse: One-sided p value of a drop, adjusted for all tests of the family.
            p_better: One-sided p value of a rise, adjusted likewise.
            level: Significance level of the family of tests.
            n_tests: Number of tests in the family.
        """
        change = float(self.differences.mean())
        verdict: GateVerdict = "same"
        if p_worse < level and change <= -self.max_score_drop:
            verdict = "worse"
        elif p_better < level and change >= self.max_score_drop:
            verdict = "better"
        smallest_drop = self.detectable_drop(level / n_tests)
        details = Message(
            "{change}, p = {p:.2g}; a drop of about {points:.1f} points is detected with 80 % power",
            change=format_change(self.differences),
            p=p_worse,
            points=100 * smallest_drop,
        )
        return GateFinding(
            name=self.name, gate=self.gate, verdict=verdict, details=details, change=change, smallest_drop=smallest_drop
        )


@dataclass(frozen=True)
class ChangedPair:
    """A pair of runs with different answers."""

    pair: RecordPair
    differences: Scores
    """New minus old scores (seeds, questions), or values of a metric of all answers (`Statistic`)."""
    second_metric: str | None = None
    """Metric beside the main one that is gated too; None for the main metric."""

    @property
    def groups(self) -> QuestionGroups | None:
        """Groups of questions that belong together; None if every question stands for itself."""
        return comparison.groups_of(next(old for old, _ in self.pair.matched_records()).samples)


def find_score_drops(pairs: Sequence[RecordPair], policy: Policy) -> list[GateFinding]:
    """Return findings on the main metric of each pair, then on common shifts.

    Of closed labels, macro-F1 is tested beside the main metric.

    Pairs with byte-equal answers need no test. Where a device has no deterministic algorithms, other answers show no
    change by themselves: with too few seeds for a test, a change of the score below `max_score_drop` counts as none.

    Half of the false-alarm rate goes to the methods and half to the common
    shifts, with Holm's method in each half. So many methods do not hide a drop that all of them share.
    """
    findings, changed, testable = [], [], []
    for pair in pairs:
        if not pair.seeds or pair.differences:
            continue
        finding = _finding_without_test(pair)
        if finding is not None:
            findings.append(finding)
            continue
        changed_pair = ChangedPair(pair, score_differences(pair, pair.metric))
        changed.append(changed_pair)
        if pair.trained and len(pair.seeds) < MIN_SEEDS:
            findings.append(_finding_with_few_seeds(changed_pair, policy))
            continue
        testable.append(changed_pair)
        if pair.gates_macro_f1:
            testable.append(ChangedPair(pair, score_differences(pair, "macro-f1"), "macro-f1"))
    return [*findings, *_find_seed_drops(changed, policy), *judge_drops(testable, changed, policy)]


def _find_seed_drops(changed: Sequence[ChangedPair], policy: Policy) -> Iterator[GateFinding]:
    """Yield a finding for each method of which one seed dropped by `max_seed_drop` or more.

    The drop must be significant over the questions, with Bonferroni's adjustment. A test of all seeds takes such a
    seed for variation between seeds: the further it drops, the less significant is their mean.
    """
    n_runs = sum(len(pair.differences) for pair in changed)
    for changed_pair in changed:
        pair, means = changed_pair.pair, changed_pair.differences.mean(axis=1)
        row = int(means.argmin())
        if len(means) < 2 or means[row] > -policy.max_seed_drop:
            continue
        scores = changed_pair.differences[row : row + 1]
        if significance.p_value(scores, 0 * scores, groups=changed_pair.groups) / 2 < policy.level / n_runs:
            details = Message(
                "seed {seed}: {change}, mean of all seeds: {mean}",
                seed=pair.seeds[row],
                change=format_change(scores),
                mean=format_change(changed_pair.differences),
            )
            yield GateFinding(name=pair.name, gate=pair.metric, verdict="unsure", details=details, change=means[row])


def judge_drops(testable: Sequence[ChangedPair], changed: Sequence[ChangedPair], policy: Policy) -> list[GateFinding]:
    """Test each method with enough seeds, and the common shift of the methods of each task.

    Args:
        testable: Pairs with enough seeds for a test.
        changed: All pairs with different answers; the common shift is computed from these.
        policy: Thresholds of the check.
    """
    priors = {is_main: _fit_prior(testable, is_main=is_main) for is_main in (True, False)}
    drops = [
        ScoreDrop(
            changed_pair.pair.name,
            changed_pair.second_metric or changed_pair.pair.metric,
            changed_pair.differences,
            priors[changed_pair.second_metric is None],
            policy.max_score_drop,
            changed_pair.groups,
        )
        for changed_pair in testable
    ]
    shifts = _common_shifts(changed)
    level = policy.level / 2 if shifts and drops else policy.level
    findings = [*_test_family(drops, level), *_test_family(shifts, level)]
    # The summary tells the drop of the main metric that is detected.
    return [
        *(
            finding if changed_pair.second_metric is None else finding.model_copy(update=NO_SMALLEST_DROP)
            for finding, changed_pair in zip(findings, testable, strict=False)
        ),
        *findings[len(testable) :],
    ]


def _fit_prior(testable: Sequence[ChangedPair], *, is_main: bool) -> SeedVariancePrior:
    """Fit the prior to the differences in main metrics, or in metrics beside them."""
    with_seeds = [
        pair.differences for pair in testable if len(pair.differences) > 1 and (pair.second_metric is None) == is_main
    ]
    return SeedVariancePrior.fit(with_seeds, len(with_seeds))


def score_differences(pair: RecordPair, metric: str) -> Scores:
    """Return new minus old scores (seeds, questions).

    Of a metric of all answers they are its jackknife values.
    """
    rows = []
    for old, new in pair.matched_records():
        old_scores, new_scores = comparison.statistic_of([old, new], metric).values
        rows.append(new_scores - old_scores)
    return numpy.array(rows, dtype=numpy.float64)


def format_change(differences: Scores) -> Message:
    """Write a mean difference in points, with its sign."""
    return Message("{points:+.1f} points", points=100 * float(differences.mean()))


def _finding_without_test(pair: RecordPair) -> GateFinding | None:
    """Return the finding on equal or incomparable answers; None if the answers differ."""
    records = list(pair.matched_records())
    for old, new in records:
        old_ids, new_ids = old.samples.ids, new.samples.ids
        if not old_ids or (old_ids != new_ids and set(old_ids) != set(new_ids)):
            details = Message("seed {seed}: the test questions differ", seed=new.spec.seed)
            return GateFinding(name=pair.name, gate=pair.metric, verdict="incomparable", details=details)
    # Single answers are compared, also if the main metric is computed from all answers together.
    differences = score_differences(pair, answer_metric(pair.metric, records[0][1].scores))
    if any(_answers(old) != _answers(new) for old, new in records):
        lower = any(
            _has_lower_score_of_equal_answer(*both, row) for both, row in zip(records, differences, strict=True)
        )
        return _finding_on_equal_answers(pair, differences) if lower else None
    if not differences.any() and all(old.scores == new.scores for old, new in records):
        details = Message("all answers are unchanged")
        return GateFinding(name=pair.name, gate=pair.metric, verdict="same", details=details)
    return _finding_on_equal_answers(pair, differences)


def _finding_with_few_seeds(changed_pair: ChangedPair, policy: Policy) -> GateFinding:
    """Return the finding on a trained method with other answers and too few seeds for a test.

    It is the same only if the runs are not deterministic and their mean score changed by less than `max_score_drop`.
    """
    pair, change = changed_pair.pair, float(changed_pair.differences.mean())
    points = format_change(changed_pair.differences)
    if not pair.deterministic and abs(change) < policy.max_score_drop:
        details = Message(
            "{change}; answers differ within the tolerance of runs that are not deterministic", change=points
        )
        return GateFinding(
            name=pair.name,
            gate=pair.metric,
            verdict="same",
            details=details,
            change=change,
            within_tolerance=True,
        )
    details = Message(
        "{change}; {seeds} of at least {needed} seeds that a trained method needs",
        change=points,
        seeds=len(pair.seeds),
        needed=MIN_SEEDS,
    )
    return GateFinding(name=pair.name, gate=pair.metric, verdict="unsure", details=details)


def _finding_on_equal_answers(pair: RecordPair, differences: Scores) -> GateFinding:
    """Return the finding on equal answers with different scores.

    It is better only if no score is lower.
    """
    change = float(differences.mean())
    return GateFinding(
        name=pair.name,
        gate=pair.metric,
        verdict="better" if change > 0 and not (differences < 0).any() else "worse",
        details=Message(
            "equal answers have different scores; mean change of all answers: {change}",
            change=format_change(differences),
        ),
        change=change,
    )


def _test_family(drops: Sequence[ScoreDrop], level: float) -> list[GateFinding]:
    """Return the finding of each test of a family, with p values adjusted by Holm's method."""
    p_values = [drop.p_value for drop in drops]
    p_worse = significance.holm_adjust(p_values)
    p_better = significance.holm_adjust([1 - p for p in p_values])
    return [
        drop.finding(worse, better, level, len(drops))
        for drop, worse, better in zip(drops, p_worse, p_better, strict=True)
    ]


def _common_shifts(changed: Sequence[ChangedPair]) -> list[ScoreDrop]:
    """Return the common shift of each task with two or more changed methods.

    It detects drops that are too small to be significant for a single method.
    """
    pairs_by_group: dict[str, list[ChangedPair]] = {}
    for changed_pair in changed:
        pairs_by_group.setdefault(changed_pair.pair.comparison_group, []).append(changed_pair)
    shifts = []
    for pairs in pairs_by_group.values():
        if len(pairs) > 1 and any(changed_pair.differences.any() for changed_pair in pairs):
            shifts.append(
                ScoreDrop(
                    name=Message("{task} · {model} · all methods", task=pairs[0].pair.task, model=pairs[0].pair.model),
                    gate=COMMON_SHIFT,
                    differences=numpy.stack([changed_pair.differences.mean(axis=0) for changed_pair in pairs]),
                    prior=NO_PRIOR,
                    max_score_drop=0.0,
                    groups=pairs[0].groups,
                )
            )
    return shifts


def _has_lower_score_of_equal_answer(old: Record, new: Record, differences: NDArray[numpy.float64]) -> bool:
    """Return True if an unchanged answer has a lower score.

    Args:
        old: Record before the change.
        new: Record of the same seed after it.
        differences: New minus old scores, in the order of the question ids.
    """
    question_ids = sorted(old.samples.ids)
    lower_ids = {question_ids[index] for index in numpy.flatnonzero(differences < 0)}
    old_answers, new_answers = (
        {
            sample.id: sample.raw
            for sample in record.samples.take(
                [index for index, question_id in enumerate(record.samples.ids) if question_id in lower_ids]
            )
        }
        for record in (old, new)
    )
    return any(old_answers[question_id] == new_answers[question_id] for question_id in lower_ids)


def _answers(record: Record) -> tuple[tuple[str, ...], bytes]:
    return record.samples.ids, record.samples.digest
