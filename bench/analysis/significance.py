"""Confidence intervals, paired tests and verdicts for scores over questions and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Literal

import numpy
from numpy.typing import NDArray
from scipy import special

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

    n_questions: int
    question_std: float
    """Standard deviation over questions of the scores averaged over seeds."""
    seed_stderr: float
    """Standard error of the mean that the seeds add; 0 for a single seed whose spread is not known."""
    dof: float
    """Degrees of freedom of `seed_stderr`."""

    @classmethod
    def estimate(
        cls, scores: Scores, prior: SeedVariancePrior = NO_PRIOR, known: KnownSpread = NO_SPREAD
    ) -> VarianceComponents:
        """Estimate variance components from scores, or differences, of shape (seeds, questions)."""
        return cls(scores.shape[1], _question_std(scores), *_seed_stderr(scores, prior, known))


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
    """Standard deviation over questions of the differences averaged over seeds."""
    seed_stderr: float
    """Standard error of the mean that the seeds add; 0 for a single seed whose spread is not known."""
    dof: float
    """Degrees of freedom of `seed_stderr`."""


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
        components = VarianceComponents.estimate(gap, prior, known)
        differences.append(
            PairedDifference(
                ci95=_percentile_interval(gap, means, SIGNIFICANCE_LEVEL),
                ci90=_percentile_interval(gap, means, 2 * SIGNIFICANCE_LEVEL),
                p_value=p_value(pair.scores, pair.reference_scores, prior, known),
                n_seeds=len(gap),
                n_questions=gap.shape[1],
                question_std=components.question_std,
                seed_stderr=components.seed_stderr,
                dof=components.dof,
            )
        )
    return differences


def p_value(
    scores: Scores,
    reference_scores: Scores,
    prior: SeedVariancePrior = NO_PRIOR,
    known: KnownSpread = NO_SPREAD,
) -> float:
    """Return the two-sided p value of a paired difference, against a difference of zero.

    For one seed of methods that do not depend on it, and right-or-wrong scores, this is McNemar's exact test. Otherwise
    it comes from `two_sided_tail`, and not from bootstrap resamples as the intervals do: a p value from a limited
    number of resamples cannot be small enough to stay significant after the adjustment for many comparisons.
    """
    if len(scores) == 1 and not known.variance and _is_binary(scores) and _is_binary(reference_scores):
        return _mcnemar_p_value(scores, reference_scores)
    gap = scores - reference_scores
    return two_sided_tail(float(gap.mean()), VarianceComponents.estimate(gap, prior, known))


def two_sided_tail(mean: float, components: VarianceComponents) -> float:
    """Return the probability of a mean at least this far from zero if the true mean is zero.

    The error of the questions is normal (Student's t for one seed); the error of the seeds is Student's t and is added
    to it. The sum is integrated over Student's t, on nodes that reach far into its tails: the smallest of many adjusted
    p values comes from there.
    """
    distance, seed_stderr = abs(mean), components.seed_stderr
    question_stderr = components.question_std / sqrt(components.n_questions)
    if not question_stderr:
        return (
            float(2 * special.stdtr(components.dof, -distance / seed_stderr)) if seed_stderr else float(distance == 0)
        )
    if not seed_stderr:
        return float(2 * special.stdtr(max(components.n_questions - 1, 1), -distance / question_stderr))
    seed_errors, weights = _t_nodes(components.dof)
    return float(2 * special.ndtr((seed_stderr * seed_errors - distance) / question_stderr) @ weights)


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
    n_questions = statistics[0][0].values.shape[1]
    if n_questions > MAX_QUESTIONS_TO_RESAMPLE:
        # The mean of so many questions is normal in practice, and the matrix of resamples would take gigabytes.
        quantiles = special.ndtri((numpy.arange(BOOTSTRAP_RESAMPLES) + 0.5) / BOOTSTRAP_RESAMPLES)
        resampled = [
            statistic.values.mean() + quantiles * max(_question_std(statistic.values), MIN_VARIANCE) / sqrt(n_questions)
            for statistic, _ in statistics
        ]
    else:
        weights = _bootstrap_weights(n_questions)
        resampled = list(numpy.stack([statistic.values.mean(axis=0) for statistic, _ in statistics]) @ weights.T)
        for position, (statistic, _) in enumerate(statistics):
            if statistic.recompute is not None:
                resampled[position] = statistic.recompute(weights).mean(axis=0)
    for (statistic, known), question_means in zip(statistics, resampled, strict=True):
        seed_stderr, dof = _seed_stderr(statistic.values, prior, known)
        yield question_means + seed_stderr * _shuffled_t_quantiles(dof) if seed_stderr else question_means


@lru_cache(maxsize=2)
def _bootstrap_weights(n_questions: int) -> Weights:
    """Return the weight of each question in each resample (resamples, questions)."""
    random_generator = numpy.random.default_rng(0)
    uniform = numpy.full(n_questions, 1 / n_questions)
    counts = random_generator.multinomial(n_questions, uniform, size=BOOTSTRAP_RESAMPLES)
    return numpy.asfortranarray(counts / n_questions)  # Sparse products need the transposed weights in C order.


def _question_std(scores: Scores) -> float:
    return float(scores.mean(axis=0).std(ddof=1)) if scores.shape[1] > 1 else 0.0


def _seed_stderr(scores: Scores, prior: SeedVariancePrior, known: KnownSpread) -> tuple[float, float]:
    """Return the standard error that the seeds add, and its degrees of freedom.

    One seed has the known spread. With two, it is pooled with the measured variance and with the prior; three need it
    no longer.

    Part of the variance of the seed means is the interaction of seed and question, which `_question_std` already
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
    exact_low, exact_high = statistic.exact_bounds() if statistic.exact_bounds else _exact_bounds(scores)
    low, high = min(interval.low, exact_low), max(interval.high, exact_high)
    lowest, highest = statistic.limits
    return Interval(interval.mean, max(low, lowest), min(high, highest))


def _exact_bounds(scores: Scores) -> tuple[float, float]:
    """Return Clopper-Pearson bounds if few answers are right or wrong, else the mean twice.

    Resamples of such answers hardly differ, so the bootstrap interval would be too narrow.
    """
    n_questions, mean = scores.shape[1], float(scores.mean())
    n_right = round(mean * n_questions)
    n_wrong = n_questions - n_right
    if not _is_binary(scores) or min(n_right, n_wrong) >= MIN_COUNT_FOR_BOOTSTRAP:
        return mean, mean
    low = special.betaincinv(n_right, n_wrong + 1, SIGNIFICANCE_LEVEL / 2) if n_right else 0.0
    high = special.betaincinv(n_right + 1, n_wrong, 1 - SIGNIFICANCE_LEVEL / 2) if n_wrong else 1.0
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
