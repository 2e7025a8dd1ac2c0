"""How sure a score and a difference are: intervals over seeds and questions, paired differences, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt
from typing import Literal

import numpy
from numpy.typing import NDArray
from scipy import stats as scipy_stats

DRAWS = 4000
QUANTILES = 4000
LEVEL = 0.05
POWER = 0.80
WITHIN = 0.02  # a difference smaller than this makes no difference, if nothing else is said

Scores = NDArray[numpy.float64]
"""Per-example scores (seeds, items); every row answers the same items in the same order."""
Verdict = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold it in 95 of 100 such experiments."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A method's scores less another's, paired by seed and question."""

    interval: Interval
    narrow: Interval
    """The bounds of 90 of 100, by which two one-sided tests call it equivalent."""
    p: float
    seeds: int
    items: int
    spread: float
    """Standard deviation of the questions' differences, each averaged over the seeds."""
    wobble: float
    """Standard error that the seeds add; 0 where there is one."""


def interval(scores: Scores) -> Interval:
    """The mean of scores and its 95 % interval, on two levels: other questions, and other seeds.

    Questions are resampled (percentile bootstrap). Seeds are too few for that: what they add is drawn from Student's t
    with one degree of freedom less than there are seeds. One seed says nothing about others, and the interval is then
    about the questions alone.
    """
    return _between(scores, _draws(scores), LEVEL)


def difference(ours: Scores, theirs: Scores) -> Difference:
    """The paired difference of two methods that answered the same questions with the same seeds.

    Raises ValueError where the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"scores of unequal shape cannot be paired: {ours.shape} and {theirs.shape}")
    gap = ours - theirs
    draws = _draws(gap)
    return Difference(
        interval=_between(gap, draws, LEVEL),
        narrow=_between(gap, draws, 2 * LEVEL),
        p=p_value(ours, theirs),
        seeds=len(gap),
        items=gap.shape[1],
        spread=_spread(gap),
        wobble=_wobble(gap),
    )


def p_value(ours: Scores, theirs: Scores) -> float:
    """Two-sided p of a paired difference that is none.

    For one seed and scores of right or wrong it is McNemar's exact test, otherwise that of the two levels of
    `interval`, whose draws would be too few for the small p that many contrasts ask for.
    """
    return _mcnemar(ours, theirs) if _right_or_wrong(ours, theirs) else _tails(ours - theirs)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for having asked so many questions (Holm, https://www.jstor.org/stable/4615733)."""
    adjusted, least = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min((len(ps) - rank) * ps[place], 1.0))
        adjusted[place] = least
    return adjusted


def verdict(found: Difference, p: float, within: float = WITHIN) -> Verdict:
    """What a difference says, with its p value adjusted for the company it came in.

    Better and worse are told from zero; equivalent is shown to be smaller than `within`; all else is undecided.
    """
    if p < LEVEL and found.interval.mean:
        return "better" if found.interval.mean > 0 else "worse"
    if -within < found.narrow.low and found.narrow.high < within:
        return "equivalent"
    return "undecided"


def items_to_decide(found: Difference, contrasts: int = 1, within: float = WITHIN) -> int | None:
    """About how many test questions would settle an undecided difference if it is what it seems to be.

    The fewer of: enough to tell it from zero with 80 % power at the level left by `contrasts` (Bonferroni), and
    enough to show it smaller than `within`. None where the seeds differ too much for any number of questions.
    """
    gap, beta = abs(found.interval.mean), scipy_stats.norm.ppf(POWER)
    errors = [gap / (scipy_stats.norm.ppf(1 - LEVEL / 2 / contrasts) + beta)]
    errors += [(within - gap) / (scipy_stats.norm.ppf(1 - LEVEL) + beta)] if gap < within else []
    left = max(errors) ** 2 - found.wobble**2
    return max(ceil(found.spread**2 / left), found.items + 1) if left > 0 else None


def _draws(scores: Scores) -> NDArray[numpy.float64]:
    """Means as they might have come, with a seed of their own: the same data give the same draws."""
    seeds, items = scores.shape
    drawn: NDArray[numpy.float64] = _resampled(items) @ scores.mean(axis=0)
    if seeds == 1:
        return drawn
    return drawn + _wobble(scores) * numpy.random.default_rng(1).standard_t(seeds - 1, size=DRAWS)


@lru_cache(maxsize=2)
def _resampled(items: int) -> NDArray[numpy.float64]:
    """How large a part each question has in each draw (draws, items)."""
    dice = numpy.random.default_rng(0)
    return dice.multinomial(items, numpy.full(items, 1 / items), size=DRAWS) / items


def _spread(scores: Scores) -> float:
    return float(scores.mean(axis=0).std(ddof=1)) if scores.shape[1] > 1 else 0.0


def _wobble(scores: Scores) -> float:
    """Standard error that the seeds add to that of the questions.

    The means of the seeds also differ by what is left over, seed by seed and question by question, and `_spread` has
    that already: it is taken off, as in an analysis of variance. A third is kept at least, since of few seeds some
    come close by chance; simulated coverage is 93 to 98 % for three and five seeds (docs/measuring.md).
    """
    seeds, items = scores.shape
    if seeds == 1:
        return 0.0
    means = scores.mean(axis=1)
    rest = scores - scores.mean(axis=0) - means[:, None] + means.mean()
    found = float(means.var(ddof=1))
    left_over = float((rest**2).sum()) / (seeds - 1) / max(items - 1, 1) / items
    return sqrt(max(found - left_over, found / 3) / seeds)


def _between(scores: Scores, draws: NDArray[numpy.float64], level: float) -> Interval:
    low, high = numpy.quantile(draws, [level / 2, 1 - level / 2])
    return Interval(float(scores.mean()), float(low), float(high))


def _tails(gap: Scores) -> float:
    """How often a mean of zero would come out as far off as this one, on either side.

    The questions' part of the error is normal (Student's t for one seed), the seeds' part is Student's t beside it:
    what `interval` draws, without the noise of draws.
    """
    seeds, items = gap.shape
    mean, of_items, of_seeds = abs(float(gap.mean())), _spread(gap) / sqrt(items), _wobble(gap)
    if not of_items:
        return float(2 * scipy_stats.t.sf(mean / of_seeds, seeds - 1)) if of_seeds else float(mean == 0)
    if not of_seeds:
        return float(2 * scipy_stats.t.sf(mean / of_items, max(items - 1, 1)))
    return float(2 * scipy_stats.norm.sf((mean - of_seeds * _quantiles(seeds - 1)) / of_items).mean())


@lru_cache(maxsize=8)
def _quantiles(freedom: int) -> NDArray[numpy.float64]:
    """Student's t at the middles of equal shares of its mass."""
    found: NDArray[numpy.float64] = scipy_stats.t.ppf((numpy.arange(QUANTILES) + 0.5) / QUANTILES, freedom)
    return found


def _right_or_wrong(ours: Scores, theirs: Scores) -> bool:
    return len(ours) == 1 and all(bool(numpy.isin(scores, (0.0, 1.0)).all()) for scores in (ours, theirs))


def _mcnemar(ours: Scores, theirs: Scores) -> float:
    won, lost = int((ours > theirs).sum()), int((ours < theirs).sum())
    return float(scipy_stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
