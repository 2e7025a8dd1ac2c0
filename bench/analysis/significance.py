"""How sure a score and a difference are: intervals over seeds and questions, paired differences, verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Literal

import numpy
from numpy.typing import NDArray
from scipy import special

from bench.analysis.seed_variance import NO_PRIOR, TINY, Scores, SeedVariancePrior

BOOTSTRAP_DRAWS = 4000
MANY = 5000
FEW = 10  # right or wrong answers, below which draws of them say too little
SIGNIFICANCE_LEVEL = 0.05
EQUIVALENCE_MARGIN = 0.02  # a difference smaller than this makes no difference, if nothing else is said

Draws = NDArray[numpy.float64]
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence bounds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Noise:
    """How far off a mean of differences may be."""

    questions: int
    question_std: float
    """Standard deviation of the questions, each averaged over the seeds."""
    seed_stderr: float
    """Standard error that the seeds add; 0 where there is one."""
    dof: float
    """With how many degrees of freedom that is known."""

    @classmethod
    def of(cls, gap: Scores, prior: SeedVariancePrior = NO_PRIOR) -> Noise:
        """From differences (seeds, items)."""
        return cls(gap.shape[1], _spread(gap), *_wobble(gap, prior))


@dataclass(frozen=True)
class Difference:
    """A method's scores less another's, paired by seed and question."""

    interval: Interval
    ci90: Interval
    """The 90 % interval, by which two one-sided tests call it the same."""
    p: float
    seeds: int
    questions: int
    question_std: float
    """Standard deviation of the questions' differences, each averaged over the seeds."""
    seed_stderr: float
    """Standard error that the seeds add; 0 where there is one."""
    dof: float
    """With how many degrees of freedom that is known."""


def score_interval(scores: Scores, prior: SeedVariancePrior = NO_PRIOR) -> Interval:
    """The mean of scores and its 95 % interval, on two levels: other questions, and other seeds.

    Questions are resampled (percentile bootstrap). Seeds are too few for that: what they add is drawn from Student's t
    with the degrees of freedom that their number, and the other methods of the comparison (`prior`), allow. One seed
    says nothing about others, and the interval is then about the questions alone. Scores from 0 to 1 have bounds from
    0 to 1, and where nearly all are right or nearly all wrong these are at least Clopper and Pearson's.
    """
    return score_intervals([scores], prior)[0]


def score_intervals(some: Sequence[Scores], prior: SeedVariancePrior = NO_PRIOR) -> list[Interval]:
    """Those of several methods that answered as many questions, drawn together, which takes a fraction of the time."""
    return [_bounded(scores, draws) for scores, draws in zip(some, _draws(some, prior), strict=True)]


def _bounded(scores: Scores, draws: Draws) -> Interval:
    found = _between(scores, draws, SIGNIFICANCE_LEVEL)
    if scores.min() < 0 or scores.max() > 1:
        return found
    least, most = _exact(scores)
    return Interval(found.mean, max(min(found.low, least), 0.0), min(max(found.high, most), 1.0))


def paired_difference(ours: Scores, theirs: Scores, prior: SeedVariancePrior = NO_PRIOR) -> Difference:
    """The paired difference of two methods that answered the same questions with the same seeds.

    Raises ValueError where the shapes differ.
    """
    return paired_differences([(ours, theirs)], prior)[0]


def paired_differences(pairs: Sequence[tuple[Scores, Scores]], prior: SeedVariancePrior = NO_PRIOR) -> list[Difference]:
    """Those of several pairs that answered as many questions, drawn together; raises ValueError likewise."""
    for ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise ValueError(f"scores of unequal shape cannot be paired: {ours.shape} and {theirs.shape}")
    gaps = [ours - theirs for ours, theirs in pairs]
    return [
        Difference(
            interval=_between(gap, draws, SIGNIFICANCE_LEVEL),
            ci90=_between(gap, draws, 2 * SIGNIFICANCE_LEVEL),
            p=p_value(*pair, prior),
            seeds=len(gap),
            questions=gap.shape[1],
            question_std=(noise := Noise.of(gap, prior)).question_std,
            seed_stderr=noise.seed_stderr,
            dof=noise.dof,
        )
        for pair, gap, draws in zip(pairs, gaps, _draws(gaps, prior), strict=True)
    ]


def p_value(ours: Scores, theirs: Scores, prior: SeedVariancePrior = NO_PRIOR) -> float:
    """Two-sided p of a paired difference that is none.

    For one seed and scores of right or wrong it is McNemar's exact test, otherwise that of the two levels of
    `interval`, whose draws would be too few for the small p that many contrasts ask for.
    """
    if _right_or_wrong(ours, theirs):
        return _mcnemar(ours, theirs)
    gap = ours - theirs
    return two_sided_tail(float(gap.mean()), Noise.of(gap, prior))


def two_sided_tail(mean: float, noise: Noise) -> float:
    """How often a mean of zero would come out as far off as this one, on either side.

    The questions' part of the error is normal (Student's t for one seed), the seeds' part is Student's t beside it:
    what `interval` draws, without the noise of draws.
    """
    far, of_items, of_seeds = abs(mean), noise.question_std / sqrt(noise.questions), noise.seed_stderr
    if not of_items:
        return float(2 * special.stdtr(noise.dof, -far / of_seeds)) if of_seeds else float(far == 0)
    if not of_seeds:
        return float(2 * special.stdtr(max(noise.questions - 1, 1), -far / of_items))
    return float(2 * special.ndtr((of_seeds * _quantiles(noise.dof) - far) / of_items).mean())


def holm_adjust(ps: Sequence[float]) -> list[float]:
    """P values adjusted for having asked so many questions (Holm, https://www.jstor.org/stable/4615733)."""
    adjusted, least = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min((len(ps) - rank) * ps[place], 1.0))
        adjusted[place] = least
    return adjusted


def judge_difference(found: Difference, p: float, margin: float = EQUIVALENCE_MARGIN) -> Verdict:
    """What a difference says, with its p value adjusted for the company it came in.

    Better and worse are told from zero; the same is shown to be smaller than `within`; all else is open.
    """
    if p < SIGNIFICANCE_LEVEL and found.interval.mean:
        return "better" if found.interval.mean > 0 else "worse"
    if -margin < found.ci90.low and found.ci90.high < margin:
        return "equivalent"
    return "inconclusive"


def _draws(some: Sequence[Scores], prior: SeedVariancePrior) -> Iterator[Draws]:
    """Means as they might have come, with a seed of their own: the same data give the same draws."""
    if not some:
        return
    items = some[0].shape[1]
    if items > MANY:  # the mean of so many is as good as normal, and draws would take gigabytes
        shares = special.ndtri((numpy.arange(BOOTSTRAP_DRAWS) + 0.5) / BOOTSTRAP_DRAWS)
        drawn = [one.mean() + shares * max(_spread(one), TINY) / sqrt(items) for one in some]
    else:
        drawn = list(numpy.stack([one.mean(axis=0) for one in some]) @ _resampled(items).T)
    for scores, draws in zip(some, drawn, strict=True):
        wobble, freedom = _wobble(scores, prior)
        yield draws + wobble * _shuffled(freedom) if len(scores) > 1 else draws


@lru_cache(maxsize=2)
def _resampled(items: int) -> Draws:
    """How large a part each question has in each draw (draws, items)."""
    dice = numpy.random.default_rng(0)
    return dice.multinomial(items, numpy.full(items, 1 / items), size=BOOTSTRAP_DRAWS) / items


def _spread(scores: Scores) -> float:
    return float(scores.mean(axis=0).std(ddof=1)) if scores.shape[1] > 1 else 0.0


def _wobble(scores: Scores, prior: SeedVariancePrior) -> tuple[float, float]:
    """Standard error that the seeds add to that of the questions, and with how many degrees of freedom it is known.

    The means of the seeds also differ by what is left over, seed by seed and question by question, and `_spread` has
    that already: it is taken off, as in an analysis of variance. A third is kept at least, since of few seeds some
    come close by chance; simulated coverage stands in docs/judging.md.
    """
    seeds, items = scores.shape
    if seeds == 1:
        return 0.0, 1
    means = scores.mean(axis=1)
    rest = scores - scores.mean(axis=0) - means[:, None] + means.mean()
    if (scores == scores[0]).all():  # a method that does not depend on the seed
        return 0.0, seeds - 1
    found, freedom = prior.moderate(float(means.var(ddof=1)), seeds - 1)
    left_over = float((rest**2).sum()) / (seeds - 1) / max(items - 1, 1) / items
    return sqrt(max(found - left_over, found / 3) / seeds), freedom


def _exact(scores: Scores) -> tuple[float, float]:
    """Bounds of a share of right answers so small, or so large, that draws of it hardly differ; else its mean."""
    items, mean = scores.shape[1], float(scores.mean())
    right = round(mean * items)
    if not numpy.isin(scores, (0.0, 1.0)).all() or min(right, items - right) >= FEW:
        return mean, mean
    least = special.betaincinv(right, items - right + 1, SIGNIFICANCE_LEVEL / 2) if right else 0.0
    most = special.betaincinv(right + 1, items - right, 1 - SIGNIFICANCE_LEVEL / 2) if right < items else 1.0
    return float(least), float(most)


def _between(scores: Scores, draws: Draws, level: float) -> Interval:
    low, high = numpy.quantile(draws, [level / 2, 1 - level / 2])
    return Interval(float(scores.mean()), float(low), float(high))


@lru_cache(maxsize=8)
def _shuffled(freedom: float) -> Draws:
    return numpy.random.default_rng(1).permutation(_quantiles(freedom))


@lru_cache(maxsize=8)
def _quantiles(freedom: float) -> Draws:
    """Student's t at the middles of equal shares of its mass."""
    found: Draws = special.stdtrit(freedom, (numpy.arange(BOOTSTRAP_DRAWS) + 0.5) / BOOTSTRAP_DRAWS)
    return found


def _right_or_wrong(ours: Scores, theirs: Scores) -> bool:
    return len(ours) == 1 and all(bool(numpy.isin(scores, (0.0, 1.0)).all()) for scores in (ours, theirs))


def _mcnemar(ours: Scores, theirs: Scores) -> float:
    won, lost = int((ours > theirs).sum()), int((ours < theirs).sum())
    return min(float(2 * special.bdtr(min(won, lost), won + lost, 0.5)), 1.0)
