"""Seed variance expected from other methods of a comparison, and from earlier runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy
from numpy.typing import NDArray
from scipy import special

MIN_VARIANCE = 1e-12
"""A variance up to this is a rounding error."""
MIN_VARIANCES = 3
"""Fewer variances than this do not show how much variances differ between methods."""

Scores = NDArray[numpy.float64]
"""Scores by seed and question (seeds, questions); every row has the same questions in the same order."""


@dataclass(frozen=True)
class KnownSpread:
    """Variance between seeds that is known from other runs, before it is measured.

    It is the variance of the mean score over all possible questions, without the interaction of seed and question.
    """

    variance: float
    """Variance of one row of the scores, in squared units of the score."""
    dof: float
    """Degrees of freedom: few if the variance differs much from run to run; 0 if the seed makes no difference."""

    def __add__(self, other: KnownSpread) -> KnownSpread:
        """Return the spread of a sum, or a difference, of independent scores.

        The fewer degrees of freedom are kept: the tails of a sum are those of the part with the heavier tails.
        """
        variance = self.variance + other.variance
        return KnownSpread(variance, min((spread.dof for spread in (self, other) if spread.variance), default=0.0))

    def of_mean(self, n_seeds: int) -> KnownSpread:
        """Return the spread of a mean over several seeds."""
        return KnownSpread(self.variance / n_seeds, self.dof)


NO_SPREAD = KnownSpread(0.0, 0.0)
"""Spread of scores that do not depend on the seed, or whose spread is not known."""


@dataclass(frozen=True)
class SeedVariancePrior:
    """Prior of the variance over seeds: expected variance and its degrees of freedom.

    Three seeds estimate their own variance so badly that Student's t, with two degrees of freedom, finds almost no
    difference significant. All methods together give a better estimate of the variance to expect, and the variance of
    each method is drawn towards it, the more the methods agree: the moderated t of Smyth (2004),
    https://doi.org/10.2202/1544-6115.1027.
    """

    dof: float
    """Degrees of freedom; 0 for no prior."""
    variance: float
    """Expected variance of the seed means, in squared units of the score."""

    @classmethod
    def fit(cls, method_scores: Sequence[Scores], n_methods: int) -> SeedVariancePrior:
        """Fit the prior to scores or score differences.

        Only the most frequent number of seeds is used. The prior is an estimate itself, so it counts for at most half
        a degree of freedom per other method: with more, comparisons of equal methods found a difference in 7 of 100
        cases (benchmarks/verdicts.py).

        Args:
            method_scores: Scores of each method, or score differences of each pair (seeds, questions).
            n_methods: Number of methods whose scores depend on the seed.

        Returns:
            The prior, or `NO_PRIOR` for fewer than two methods or fewer than three variances.
        """
        variances_by_dof: dict[int, list[float]] = defaultdict(list)
        for scores in method_scores:
            if len(scores) < 2:
                continue
            variance = float(scores.mean(axis=1).var(ddof=1))
            if variance > MIN_VARIANCE:
                variances_by_dof[len(scores) - 1].append(variance)
        own_dof, variances = max(variances_by_dof.items(), key=lambda item: len(item[1]), default=(0, []))
        if n_methods < 2 or len(variances) < MIN_VARIANCES:
            return NO_PRIOR
        logs = numpy.log(variances) - special.digamma(own_dof / 2) + log(own_dof / 2)
        excess = float(logs.var(ddof=1)) - float(special.polygamma(1, own_dof / 2))
        dof = min(2 * _inverse_trigamma(excess) if excess > 0 else inf, (n_methods - 1) / 2)
        offset = special.digamma(dof / 2) - log(dof / 2)
        return cls(dof, exp(float(logs.mean()) + float(offset)))

    def pool(self, variance: float, dof: float) -> SeedVariancePrior:
        """Return the prior with a second variance, weighted by degrees of freedom."""
        if not dof:
            return self
        pooled_variance, pooled_dof = self.moderate(variance, dof)
        return SeedVariancePrior(pooled_dof, pooled_variance)

    def moderate(self, variance: float, dof: float) -> tuple[float, float]:
        """Combine an observed variance with the prior, each weighted by its degrees of freedom.

        Args:
            variance: Observed variance.
            dof: Degrees of freedom of the observed variance.

        Returns:
            The moderated variance and its degrees of freedom.
        """
        total_dof = self.dof + dof
        return (self.dof * self.variance + dof * variance) / total_dof, total_dof


NO_PRIOR = SeedVariancePrior(0.0, 0.0)


def _inverse_trigamma(value: float) -> float:
    """Return x such that trigamma(x) equals the value.

    Newton's method on the reciprocal of the function, as in the appendix of Smyth (2004).
    """
    x, step = 0.5 + 1 / value, 1.0
    while abs(step) > 1e-10 * x:
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
    return x
