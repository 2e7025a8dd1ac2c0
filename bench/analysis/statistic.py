"""Statistics over questions and seeds: means, and metrics of all answers together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy
from numpy.typing import NDArray
from scipy import special

from bench.analysis.question_groups import QuestionGroups
from bench.analysis.seed_variance import Scores
from bench.records import corpus_metrics
from bench.records.corpus_metrics import CorpusMetric, LabelCounts, LabelMetric

MIN_COUNT_FOR_BOOTSTRAP = 10
"""With fewer right answers, or fewer wrong ones, the bootstrap interval is widened to the exact one."""
SIGNIFICANCE_LEVEL = 0.05

Weights = NDArray[numpy.float64]
"""Weight of each question in each resample (resamples, questions)."""
SeedResamples = NDArray[numpy.float64]
"""Resampled statistic of each seed (seeds, resamples)."""


@dataclass(frozen=True)
class Statistic:
    """A statistic by seed and question, and its value for any weights of the questions."""

    values: Scores
    """Values (seeds, questions) whose mean over the questions is the statistic of a seed.

    Of a metric of all answers they are jackknife values, so that their variance over the questions is that of the
    metric times the number of questions."""
    recompute: Callable[[Weights], SeedResamples] | None = None
    """Computes the statistic of each seed anew in every resample; None for a mean, which its values are enough for."""
    exact_bounds: Callable[[], tuple[float, float]] | None = None
    """Returns bounds that an interval must contain at least where resamples hardly differ; None for those of a mean."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest possible value."""
    groups: QuestionGroups | None = None
    """Groups of questions that belong together; None if every question stands for itself."""

    def take(self, seeds: Sequence[int]) -> Statistic:
        """Return the statistic of some seeds, given by their rows."""
        recompute, rows = self.recompute, list(seeds)
        return Statistic(
            self.values[rows],
            None if recompute is None else lambda weights: recompute(weights)[rows],
            groups=self.groups,
        )

    def pooled(self) -> Statistic:
        """Return the mean over the seeds as one row."""
        recompute = self.recompute
        return Statistic(
            self.values.mean(axis=0, keepdims=True),
            None if recompute is None else lambda weights: recompute(weights).mean(axis=0, keepdims=True),
            groups=self.groups,
        )

    def __sub__(self, other: Statistic) -> Statistic:
        """Return the difference of two statistics with equal questions and seeds."""
        values, own, others = self.values - other.values, self.recompute, other.recompute
        if own is None or others is None:
            return Statistic(values, groups=self.groups)
        return Statistic(values, lambda weights: own(weights) - others(weights), groups=self.groups)


def as_statistic(scores: Scores | Statistic) -> Statistic:
    """Return scores of single answers (seeds, questions) as the statistic of their mean."""
    return scores if isinstance(scores, Statistic) else Statistic(scores)


def corpus_statistic(runs: Sequence[CorpusMetric], groups: QuestionGroups | None = None) -> Statistic:
    """Return a metric of all answers of some runs on the same questions.

    Args:
        runs: The metric of each seed, the questions in equal order.
        groups: Groups of the questions, if there are any.
    """
    cached: list[tuple[Weights, SeedResamples]] = []

    def recompute(weights: Weights) -> SeedResamples:
        # Each method is compared with several others in the same resamples.
        if not cached or cached[0][0] is not weights:
            cached[:] = [(weights, numpy.stack([run.score(weights) for run in runs]))]
        return cached[0][1]

    values = numpy.stack([run.jackknife_values() for run in runs])
    labels = [run for run in runs if isinstance(run, LabelMetric)]
    bounds = partial(_label_bounds, labels) if labels else _all_or_none_bounds
    return Statistic(
        values,
        recompute,
        exact_bounds=partial(bounds, values, _effective_questions(values, groups)),
        limits=runs[0].limits,
        groups=groups,
    )


def linear_statistic(values: Scores, groups: QuestionGroups | None = None) -> Statistic:
    """Return a metric of all answers from its jackknife values (seeds, questions).

    Its function is a user's, which would run for minutes if it were called in thousands of resamples. So the values are
    resampled, which is right to the first order.
    """
    bounds = partial(_all_or_none_bounds, values, _effective_questions(values, groups))
    return Statistic(values, lambda weights: values @ weights.T, exact_bounds=bounds, groups=groups)


def _effective_questions(values: Scores, groups: QuestionGroups | None) -> float:
    """Return the number of separate questions that tell as much as these."""
    return float(values.shape[1] if groups is None else groups.effective_questions(values))


def _all_or_none_bounds(values: Scores, n_effective: float) -> tuple[float, float]:
    """Return Clopper-Pearson bounds if all answers are right or all wrong, else the mean.

    Args:
        values: Jackknife values of the metric (seeds, questions).
        n_effective: Number of separate questions that tell as much as these.
    """
    mean, margin = float(values.mean()), 1 - (SIGNIFICANCE_LEVEL / 2) ** (1 / n_effective)
    if (values == 1).all():
        return 1 - margin, 1.0
    return (0.0, margin) if not values.any() else (mean, mean)


def _label_bounds(runs: Sequence[LabelMetric], values: Scores, n_effective: float) -> tuple[float, float]:
    """Return bounds of a metric that its rarest events explain.

    Few right or wrong answers are all drawn, or none of them, in most resamples. So the metric is computed with the
    Clopper-Pearson bounds of the number of right answers, where there are few: of each label with the others as
    observed, and of all labels together.
    """
    counts, metric = _mean_counts(runs, n_effective / values.shape[1]), runs[0].name
    low = high = score = float(values.mean())
    observed = float(corpus_metrics.corpus_score(metric, counts))
    asked = numpy.flatnonzero(counts.asked).tolist()
    for labels in (*([label] for label in asked), asked):
        for right in _exact_right_answers(counts, labels):
            shift = float(corpus_metrics.corpus_score(metric, _with_right_answers(counts, right))) - observed
            low, high = min(low, score + shift), max(high, score + shift)
    return low, high


def _mean_counts(runs: Sequence[LabelMetric], share: float) -> LabelCounts:
    """Return a share of the counts of labels, averaged over some runs."""
    counts = [corpus_metrics.count_labels(run.codes, run.n_labels) for run in runs]
    parts = zip(*((each.right, each.answered, each.asked) for each in counts), strict=True)
    return LabelCounts(*(share * numpy.mean(part, axis=0) for part in parts))


def _exact_right_answers(counts: LabelCounts, labels: list[int]) -> Iterator[NDArray[numpy.float64]]:
    """Yield the right answers at the exact bounds of some labels, if few are right or wrong."""
    n_right, n_asked = float(counts.right[labels].sum()), float(counts.asked[labels].sum())
    n_wrong, tail = n_asked - n_right, SIGNIFICANCE_LEVEL / 2
    if min(n_right, n_wrong) >= MIN_COUNT_FOR_BOOTSTRAP:
        return
    low = float(special.betaincinv(n_right, n_wrong + 1, tail)) if n_right else 0.0
    high = float(special.betaincinv(n_right + 1, n_wrong, 1 - tail)) if n_wrong else 1.0
    right, missed = counts.right[labels], counts.asked[labels] - counts.right[labels]
    if n_right:
        yield _replace(counts.right, labels, right * (n_asked * low / n_right))
    if n_wrong:
        yield _replace(counts.right, labels, right + missed * (1 - n_asked * (1 - high) / n_wrong))


def _replace(
    right: NDArray[numpy.float64], labels: list[int], values: NDArray[numpy.float64]
) -> NDArray[numpy.float64]:
    replaced = right.copy()
    replaced[labels] = values
    return replaced


def _with_right_answers(counts: LabelCounts, right: NDArray[numpy.float64]) -> LabelCounts:
    """Return counts with other numbers of right answers.

    Answers that are no longer right name no label. Those that become right are taken from wrong answers in proportion.
    """
    gained = numpy.maximum(right - counts.right, 0.0).sum()
    wrong = numpy.append(counts.answered - counts.right, counts.total - counts.answered.sum())
    taken = gained * wrong / wrong.sum() if wrong.sum() else wrong
    return LabelCounts(right, counts.answered + right - counts.right - taken[:-1], counts.asked)
