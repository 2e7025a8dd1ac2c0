"""Confidence intervals, paired tests and verdicts for scores over questions and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot, inf, isinf, sqrt
from typing import Literal

import numpy
from numpy.typing import NDArray
from scipy import special

from bench.analysis.question_groups import FEW_GROUPS, QuestionGroups
from bench.analysis.seed_variance import (
    MIN_VARIANCE,
    NO_PRIOR,
    NO_SPREAD,
    KnownSpread,
    Scores,
    SeedVariancePrior,
)
from bench.analysis.statistic import MIN_COUNT_FOR_BOOTSTRAP, SIGNIFICANCE_LEVEL, Statistic, Weights, as_statistic

BOOTSTRAP_RESAMPLES = 4000
MAX_QUESTIONS_TO_RESAMPLE = 5000
ENOUGH_SEEDS = 3
"""From this number of seeds on, the variance between them is measured, and a known spread is not used."""
EQUIVALENCE_MARGIN = 0.02
"""Default margin: methods whose scores differ by less are equivalent for the user."""

Resamples = NDArray[numpy.float64]
"""Resampled statistics (resamples,)."""
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class VarianceComponents:
    """Error of a mean over questions and seeds, split by its source."""

    n_units: int
    """Number of questions, or of groups of questions that belong together."""
    unit_std: float
    """Standard deviation over these of the scores averaged over seeds."""
    seed_stderr: float
    """Standard error of the mean that the seeds add; 0 for a single seed whose spread is not known."""
    dof: float
    """Degrees of freedom of `seed_stderr`."""
    unit_dof: float = inf
    """Degrees of freedom of `unit_std`; infinite for single questions, of which there are many."""

    @property
    def unit_stderr(self) -> float:
        """Standard error of the mean that the questions add."""
        return self.unit_std / sqrt(self.n_units)

    @classmethod
    def estimate(
        cls,
        scores: Scores,
        prior: SeedVariancePrior = NO_PRIOR,
        known: KnownSpread = NO_SPREAD,
        groups: QuestionGroups | None = None,
    ) -> VarianceComponents:
        """Estimate variance components from scores, or differences, of shape (seeds, questions)."""
        if groups is None:
            return cls(scores.shape[1], _unit_std(scores), *_seed_stderr(scores, prior, known))
        values = groups.group_values(scores)
        unit_std = _unit_std(values) if groups.n_groups > 1 else inf
        return cls(groups.n_groups, unit_std, *_seed_stderr(values, prior, known), unit_dof=groups.dof)


@dataclass(frozen=True)
class PairedDifference:
    """Scores of a method minus the scores of a reference, paired by seed and question."""

    ci95: Interval
    ci90: Interval
    """Two one-sided tests (TOST) at the 5 % level show equivalence if it lies inside the margin."""
    p_value: float
    """Two-sided, against a difference of zero; not adjusted for multiple comparisons."""
    n_seeds: int
    n_questions: int
    question_std: float
    """Standard deviation over questions of the differences averaged over seeds.

    Of groups of questions it is that of as many separate questions whose mean has the same standard error."""
    seed_stderr: float
    """Standard error of the mean that the seeds add; 0 for a single seed whose spread is not known."""
    dof: float
    """Degrees of freedom of `seed_stderr`."""
    questions_per_unit: float = 1.0
    """Mean number of questions of a group; 1 if every question stands for itself."""


@dataclass(frozen=True)
class ScorePair:
    """Statistics of two methods on equal questions."""

    method: Scores | Statistic
    """Scores of the method (seeds, questions), or a statistic of them."""
    reference: Scores | Statistic
    """The same of the reference, of the same shape."""
    known: KnownSpread = NO_SPREAD
    """Known spread of their difference between seeds."""

    def __post_init__(self) -> None:
        """Raise `ValueError` if the two shapes differ."""
        if self.scores.shape != self.reference_scores.shape:
            shapes = f"{self.scores.shape} and {self.reference_scores.shape}"
            raise ValueError(f"scores of unequal shape cannot be paired: {shapes}")

    @property
    def scores(self) -> Scores:
        """Values of the method (seeds, questions)."""
        return as_statistic(self.method).values

    @property
    def reference_scores(self) -> Scores:
        """Values of the reference."""
        return as_statistic(self.reference).values

    @property
    def statistic(self) -> Statistic:
        """Statistic of the method minus that of the reference."""
        return as_statistic(self.method) - as_statistic(self.reference)

    @property
    def differences(self) -> Scores:
        """Values of the method minus those of the reference."""
        return self.scores - self.reference_scores

    @property
    def groups(self) -> QuestionGroups | None:
        """Groups of the questions, if there are any."""
        return as_statistic(self.method).groups

    def p_value(self, prior: SeedVariancePrior = NO_PRIOR) -> float:
        """Return the two-sided p value of the difference (`p_value`)."""
        return p_value(self.scores, self.reference_scores, prior, self.known, self.groups)


def score_interval(
    scores: Scores | Statistic, prior: SeedVariancePrior = NO_PRIOR, known: KnownSpread = NO_SPREAD
) -> Interval:
    """Return the mean score and its 95 % confidence interval over questions and seeds.

    Questions are resampled (percentile bootstrap); a metric of all answers is computed anew in each resample. Seeds are
    too few to resample: their part is drawn from Student's t with the degrees of freedom that their number, the prior
    and the known spread give. With one seed, the known spread is all of it. The bounds of scores between 0 and 1 are
    clipped to 0 and 1; if nearly all answers are right or nearly all are wrong, the interval is at least that of
    Clopper and Pearson (https://doi.org/10.2307/2331986).

    Args:
        scores: Scores of one method (seeds, questions), or a statistic of them.
        prior: Seed variance expected from the other methods of the comparison.
        known: Spread between seeds that such a method is known to have.
    """
    return score_intervals([(scores, known)], prior)[0]


def score_intervals(
    method_scores: Sequence[tuple[Scores | Statistic, KnownSpread]], prior: SeedVariancePrior = NO_PRIOR
) -> list[Interval]:
    """Return the interval of each of several methods with equally many questions.

    One matrix product resamples all methods, which takes a fraction of the time of separate calls.
    """
    statistics = [(as_statistic(scores), known) for scores, known in method_scores]
    resampled = _resampled_means(statistics, prior)
    return [_bounded_interval(statistic, means) for (statistic, _), means in zip(statistics, resampled, strict=True)]


def group_interval(scores: Scores, level: float, seed_stderr: float, seed_dof: float) -> Interval:
    """Return the mean score of the questions of one group and its confidence interval.

    There are too few questions for resampling, so it is that of Student's t, with Satterthwaite's degrees of freedom
    for questions and seeds (https://doi.org/10.2307/3002019). Of right-or-wrong scores it is at least that of Clopper
    and Pearson.

    Args:
        scores: Scores from 0 to 1 (seeds, questions) of two or more questions.
        level: Probability that the interval does not contain the mean of all questions of the group.
        seed_stderr: Standard error that the seeds add to the mean.
        seed_dof: Degrees of freedom of `seed_stderr`.
    """
    n_questions, mean = scores.shape[1], float(scores.mean())
    question_variance, seed_variance = _unit_std(scores) ** 2 / n_questions, seed_stderr**2
    variance = question_variance + seed_variance
    parts = question_variance**2 / (n_questions - 1) + (seed_variance**2 / seed_dof if seed_variance else 0.0)
    distance = float(-special.stdtrit(variance**2 / parts, level / 2)) * sqrt(variance) if parts else 0.0
    exact_low, exact_high = _exact_bounds(scores, level=level)
    return Interval(mean, max(min(mean - distance, exact_low), 0.0), min(max(mean + distance, exact_high), 1.0))


def paired_difference(
    scores: Scores,
    reference_scores: Scores,
    prior: SeedVariancePrior = NO_PRIOR,
    known: KnownSpread = NO_SPREAD,
) -> PairedDifference:
    """Return the paired difference of two methods with equal questions and seeds.

    Args:
        scores: Scores of the method (seeds, questions).
        reference_scores: Scores of the reference, of the same shape.
        prior: Variance over seeds that differences of this comparison have.
        known: Known spread of their difference between seeds.

    Raises:
        ValueError: If the shapes differ.
    """
    return paired_differences([ScorePair(scores, reference_scores, known)], prior)[0]


def paired_differences(pairs: Sequence[ScorePair], prior: SeedVariancePrior = NO_PRIOR) -> list[PairedDifference]:
    """Return the paired difference of each of several pairs with equally many questions.

    Args:
        pairs: Scores of methods and of their references.
        prior: Variance over seeds that differences of this comparison have.
    """
    gaps = [(pair.statistic, pair.known) for pair in pairs]
    differences = []
    for pair, (statistic, known), means in zip(pairs, gaps, _resampled_means(gaps, prior), strict=True):
        gap = statistic.values
        components = VarianceComponents.estimate(gap, prior, known, pair.groups)
        questions_per_unit = gap.shape[1] / components.n_units
        differences.append(
            PairedDifference(
                ci95=_percentile_interval(gap, means, SIGNIFICANCE_LEVEL),
                ci90=_percentile_interval(gap, means, 2 * SIGNIFICANCE_LEVEL),
                p_value=pair.p_value(prior),
                n_seeds=len(gap),
                n_questions=gap.shape[1],
                question_std=components.unit_std * sqrt(questions_per_unit),
                seed_stderr=components.seed_stderr,
                dof=components.dof,
                questions_per_unit=questions_per_unit,
            )
        )
    return differences


def independent_gap(interval: Interval, reference: Interval) -> Interval:
    """Return the difference of two means of independent samples and its interval.

    It is made from the intervals of the two means (Newcombe 1998, Zou and Donner 2008,
    https://doi.org/10.1002/sim.3095), so their exact bounds near 0 and 1 count.
    """
    gap = interval.mean - reference.mean
    below = hypot(interval.mean - interval.low, reference.high - reference.mean)
    above = hypot(interval.high - interval.mean, reference.mean - reference.low)
    return Interval(gap, gap - below, gap + above)


def p_value(
    scores: Scores,
    reference_scores: Scores,
    prior: SeedVariancePrior = NO_PRIOR,
    known: KnownSpread = NO_SPREAD,
    groups: QuestionGroups | None = None,
) -> float:
    """Return the two-sided p value of a paired difference, against a difference of zero.

    For one seed of methods that do not depend on it, and right-or-wrong scores, this is McNemar's exact test. Otherwise
    it comes from `two_sided_tail`, and not from bootstrap resamples as the intervals do: a p value from a limited
    number of resamples cannot be small enough to stay significant after the adjustment for many comparisons.
    """
    gap = scores - reference_scores
    if (
        groups is None
        and len(scores) == 1
        and not known.variance
        and _is_binary(scores)
        and _is_binary(reference_scores)
    ):
        return _mcnemar_p_value(scores, reference_scores)
    return two_sided_tail(float(gap.mean()), VarianceComponents.estimate(gap, prior, known, groups))


def two_sided_tail(mean: float, components: VarianceComponents) -> float:
    """Return the probability of a mean at least this far from zero if the true mean is zero.

    The error of the questions is normal (Student's t for one seed); the error of the seeds is Student's t and is added
    to it. The sum is integrated over Student's t, on nodes that reach far into its tails: the smallest of many adjusted
    p values comes from there.
    """
    distance, seed_stderr, unit_stderr = abs(mean), components.seed_stderr, components.unit_stderr
    if not unit_stderr:
        return (
            float(2 * special.stdtr(components.dof, -distance / seed_stderr)) if seed_stderr else float(distance == 0)
        )
    if not seed_stderr:
        unit_dof = max(components.n_units - 1, 1) if isinf(components.unit_dof) else components.unit_dof
        return float(2 * special.stdtr(unit_dof, -distance / unit_stderr))
    seed_errors, weights = _t_nodes(components.dof)
    errors = (seed_stderr * seed_errors - distance) / unit_stderr
    tails = special.ndtr(errors) if isinf(components.unit_dof) else special.stdtr(components.unit_dof, errors)
    return float(2 * tails @ weights)


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple comparisons by Holm's method.

    Source: Holm (1979), https://www.jstor.org/stable/4615733.

    Returns:
        The adjusted p values, in the order of `p_values`.
    """
    adjusted, running_max = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running_max = max(running_max, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = running_max
    return adjusted


def judge_difference(difference: PairedDifference, p_value: float, margin: float = EQUIVALENCE_MARGIN) -> Verdict:
    """Return the verdict on a difference.

    Args:
        difference: The method's scores minus those of the reference.
        p_value: P value adjusted for all comparisons that were made.
        margin: Equivalence margin, in units of the score.

    Returns:
        "better" or "worse" if the difference is significant, otherwise "equivalent" if the 90 % interval lies inside
        the margin (TOST), otherwise "inconclusive".
    """
    if p_value < SIGNIFICANCE_LEVEL and difference.ci95.mean:
        return "better" if difference.ci95.mean > 0 else "worse"
    if -margin < difference.ci90.low and difference.ci90.high < margin:
        return "equivalent"
    return "inconclusive"


def _resampled_means(
    statistics: Sequence[tuple[Statistic, KnownSpread]], prior: SeedVariancePrior
) -> Iterator[Resamples]:
    """Yield resampled statistics for each method.

    The seed of the random generator is fixed, so equal data give equal resamples.
    """
    if not statistics:
        return
    n_questions, groups = statistics[0][0].values.shape[1], statistics[0][0].groups
    is_normal = n_questions > MAX_QUESTIONS_TO_RESAMPLE or (groups is not None and groups.n_groups < FEW_GROUPS)
    if is_normal:
        # The mean of so many questions is normal in practice, and the matrix of resamples would take gigabytes. Few
        # groups have too few different resamples, and Student's t below takes their place.
        quantiles = special.ndtri((numpy.arange(BOOTSTRAP_RESAMPLES) + 0.5) / BOOTSTRAP_RESAMPLES)
        resampled = [
            statistic.values.mean() + quantiles * max(_unit_std(units), MIN_VARIANCE) / sqrt(units.shape[1])
            for statistic, _ in statistics
            for units in [statistic.values if groups is None else groups.group_values(statistic.values)]
        ]
    else:
        weights = _bootstrap_weights(n_questions, groups)
        resampled = list(numpy.stack([statistic.values.mean(axis=0) for statistic, _ in statistics]) @ weights.T)
        for position, (statistic, _) in enumerate(statistics):
            if statistic.recompute is not None:
                resampled[position] = statistic.recompute(weights).mean(axis=0)
    for (statistic, known), question_means in zip(statistics, resampled, strict=True):
        units = statistic.values
        if groups is not None:
            question_means = groups.widen(question_means, float(units.mean()), is_normal=is_normal)
            units = groups.group_values(units)
        seed_stderr, dof = _seed_stderr(units, prior, known)
        yield question_means + seed_stderr * _shuffled_t_quantiles(dof) if seed_stderr else question_means


@lru_cache(maxsize=2)
def _bootstrap_weights(n_questions: int, groups: QuestionGroups | None) -> Weights:
    """Return the weight of each question in each resample (resamples, questions)."""
    random_generator = numpy.random.default_rng(0)
    if groups is not None:
        return numpy.asfortranarray(groups.draw_weights(BOOTSTRAP_RESAMPLES, random_generator))
    uniform = numpy.full(n_questions, 1 / n_questions)
    counts = random_generator.multinomial(n_questions, uniform, size=BOOTSTRAP_RESAMPLES)
    return numpy.asfortranarray(counts / n_questions)  # Sparse products need the transposed weights in C order.


def _unit_std(scores: Scores) -> float:
    return float(scores.mean(axis=0).std(ddof=1)) if scores.shape[1] > 1 else 0.0


def _seed_stderr(scores: Scores, prior: SeedVariancePrior, known: KnownSpread) -> tuple[float, float]:
    """Return the standard error that the seeds add, and its degrees of freedom.

    One seed has the known spread. With two, it is pooled with the measured variance and with the prior; three need it
    no longer.

    Part of the variance of the seed means is the interaction of seed and question, which `_unit_std` already
    contains. It is subtracted, as in a two-way analysis of variance. At least a third of the variance is kept, because
    a few seeds can be close together by chance; docs/judging.md has the simulated coverage.
    """
    n_seeds, n_questions = scores.shape
    if n_seeds == 1:
        return sqrt(known.variance), known.dof or 1
    means = scores.mean(axis=1)
    residuals = scores - scores.mean(axis=0) - means[:, None] + means.mean()
    if (scores == scores[0]).all():  # The method does not depend on the seed.
        return 0.0, n_seeds - 1
    interaction = float((residuals**2).sum()) / (n_seeds - 1) / max(n_questions - 1, 1) / n_questions
    expected = prior.pool(known.variance + interaction, known.dof) if n_seeds < ENOUGH_SEEDS else prior
    variance, dof = expected.moderate(float(means.var(ddof=1)), n_seeds - 1)
    return sqrt(max(variance - interaction, variance / 3) / n_seeds), dof


def _bounded_interval(statistic: Statistic, means: Resamples) -> Interval:
    """Return the 95 % interval within the possible values, at least as wide as exact bounds."""
    scores = statistic.values
    interval = _percentile_interval(scores, means, SIGNIFICANCE_LEVEL)
    if statistic.recompute is None and (scores.min() < 0 or scores.max() > 1):
        return interval
    exact_low, exact_high = (
        statistic.exact_bounds() if statistic.exact_bounds else _exact_bounds(scores, statistic.groups)
    )
    low, high = min(interval.low, exact_low), max(interval.high, exact_high)
    lowest, highest = statistic.limits
    return Interval(interval.mean, max(low, lowest), min(high, highest))


def _exact_bounds(
    scores: Scores, groups: QuestionGroups | None = None, level: float = SIGNIFICANCE_LEVEL
) -> tuple[float, float]:
    """Return Clopper-Pearson bounds if few answers are right or wrong, else the mean twice.

    Resamples of such answers hardly differ, so the bootstrap interval would be too narrow. Groups of questions have
    them whatever the number of right answers, with as many questions as the groups are worth (Korn and Graubard 1998,
    Survey Methodology 24), because a few groups may hold most of the wrong answers.
    """
    n_questions, mean = scores.shape[1], float(scores.mean())
    n_right: float = round(mean * n_questions)
    n_wrong = n_questions - n_right
    if not _is_binary(scores) or (groups is None and min(n_right, n_wrong) >= MIN_COUNT_FOR_BOOTSTRAP):
        return mean, mean
    if groups is not None:
        share = groups.effective_questions(scores, mean * (1 - mean)) / n_questions
        n_right, n_wrong = share * n_right, share * n_wrong
    low = special.betaincinv(n_right, n_wrong + 1, level / 2) if n_right else 0.0
    high = special.betaincinv(n_right + 1, n_wrong, 1 - level / 2) if n_wrong else 1.0
    return float(low), float(high)


def _percentile_interval(scores: Scores, means: Resamples, level: float) -> Interval:
    low, high = numpy.quantile(means, [level / 2, 1 - level / 2])
    return Interval(float(scores.mean()), float(low), float(high))


@lru_cache(maxsize=8)
def _shuffled_t_quantiles(dof: float) -> Resamples:
    """Return quantiles of Student's t at equidistant probabilities, in random order."""
    quantiles = special.stdtrit(dof, (numpy.arange(BOOTSTRAP_RESAMPLES) + 0.5) / BOOTSTRAP_RESAMPLES)
    return numpy.random.default_rng(1).permutation(quantiles)


@lru_cache(maxsize=8)
def _t_nodes(dof: float) -> tuple[Resamples, Resamples]:
    """Return values of Student's t and the share of its mass that each stands for.

    They are the quantiles that equidistant normal scores have in Student's t.
    """
    normal_scores = numpy.linspace(-8, 8, 1601)
    densities = numpy.exp(-(normal_scores**2) / 2)
    values: Resamples = special.stdtrit(dof, special.ndtr(normal_scores))
    return values, densities / densities.sum()


def _is_binary(scores: Scores) -> bool:
    """Return True if every score is 0 or 1."""
    return bool(numpy.isin(scores, (0.0, 1.0)).all())


def _mcnemar_p_value(scores: Scores, reference_scores: Scores) -> float:
    """Return the p value of McNemar's exact test.

    It is a binomial test over the questions that exactly one method answers right.
    """
    n_won, n_lost = int((scores > reference_scores).sum()), int((scores < reference_scores).sum())
    return min(float(2 * special.bdtr(min(n_won, n_lost), n_won + n_lost, 0.5)), 1.0)
