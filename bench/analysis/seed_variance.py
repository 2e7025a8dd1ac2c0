"""What the seeds of a whole comparison say about how far seeds of one method lie apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy
from numpy.typing import NDArray
from scipy import special

TINY = 1e-12  # a variance as small as this is rounding
FEWEST = 3  # variances that can say anything of how variances differ

Scores = NDArray[numpy.float64]
"""Per-example scores (seeds, items); every row answers the same items in the same order."""


@dataclass(frozen=True)
class SeedVariancePrior:
    """A variance of seeds to be expected, and how many degrees of freedom that is worth.

    Three seeds alone know their own variance so badly that Student's t, with two degrees of freedom, would call almost
    nothing different. All methods together know better what to expect, and each method's own variance is drawn towards
    that as far as they agree: the moderated t of Smyth (2004), https://doi.org/10.2202/1544-6115.1027.
    """

    dof: float
    variance: float

    @classmethod
    def fit(cls, some: Sequence[Scores], methods: int) -> SeedVariancePrior:
        """From scores or differences (seeds, items) of so many methods that depend on the seed.

        It is an estimate itself, so it is worth no more than half a degree of freedom for each other method: with more,
        comparisons of equals saw differences in 7 of 100 cases (benchmarks/verdicts.py).
        """
        found: dict[int, list[float]] = defaultdict(list)
        for scores in some:
            if len(scores) > 1 and (variance := float(scores.mean(axis=1).var(ddof=1))) > TINY:
                found[len(scores) - 1].append(variance)
        own, variances = max(found.items(), key=lambda one: len(one[1]), default=(0, []))
        if methods < 2 or len(variances) < FEWEST:
            return NO_PRIOR
        logs = numpy.log(variances) - special.digamma(own / 2) + log(own / 2)
        left = float(logs.var(ddof=1)) - float(special.polygamma(1, own / 2))
        freedom = min(2 * _inverse_trigamma(left) if left > 0 else inf, (methods - 1) / 2)
        centre = special.digamma(freedom / 2) - log(freedom / 2)
        return cls(freedom, exp(float(logs.mean()) + float(centre)))

    def moderate(self, variance: float, own: int) -> tuple[float, float]:
        """A variance known with `own` degrees of freedom, and with how many it is known beside the others."""
        both = self.dof + own
        return (self.dof * self.variance + own * variance) / both, both


NO_PRIOR = SeedVariancePrior(0.0, 0.0)


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function has this value: Newton's method on its reciprocal, as in Smyth's appendix."""
    x, step = 0.5 + 1 / value, 1.0
    while abs(step) > 1e-10 * x:
        here = float(special.polygamma(1, x))
        step = here * (1 - here / value) / float(special.polygamma(2, x))
        x += step
    return x
