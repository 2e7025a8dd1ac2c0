"""Groups of questions that belong together: resampling and errors of whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

import numpy
from numpy.typing import NDArray
from scipy import special

FEW_GROUPS = 10
"""With fewer groups there are too few different resamples, so Student's t takes their place."""
T_LEVEL = 0.975
"""Quantile at which Student's t is compared with the normal distribution."""
Values = NDArray[numpy.float64]


class QuestionGroups:
    """The group of each question, such as its passage or its customer.

    Answers to the questions of a group resemble each other, so a group tells less than as many separate questions. The
    sample is that of the groups: whole groups are resampled (cluster bootstrap), and standard errors are those of the
    jackknife that leaves out one group at a time (CV3 of MacKinnon, Nielsen and Webb 2023,
    https://doi.org/10.1016/j.jeconom.2022.04.001), with Student's t for their number.

    Args:
        codes: Number of the group of each question, from 0 without gaps.
        names: Names of the groups by number.
    """

    def __init__(self, codes: NDArray[numpy.intp], names: Sequence[str] = ()) -> None:
        self.codes, self.names = codes, tuple(names)
        self.sizes: Values = numpy.bincount(codes).astype(float)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.sizes)

    @property
    def n_questions(self) -> int:
        """Number of questions."""
        return len(self.codes)

    @property
    def dof(self) -> float:
        """Degrees of freedom of a standard error over groups, at least 1.

        They are one less than the effective number of groups: the squared sum of their sizes over the sum of squares.
        It is smaller than their number if the sizes differ.
        """
        return max(float(self.sizes.sum() ** 2 / (self.sizes**2).sum()) - 1, 1.0)

    def group_values(self, values: Values) -> Values:
        """Return values (rows, groups) with the mean of those of the questions (rows, questions).

        They are the jackknife values of the mean over questions when groups are left out, so their variance over the
        number of groups is the squared standard error of that mean.
        """
        means = values.mean(axis=1, keepdims=True)
        if self.n_groups == 1:
            return numpy.asarray(means)
        sums = numpy.stack([numpy.bincount(self.codes, row) for row in values - means])
        errors = (self.n_groups - 1) * sums / (self.n_questions - self.sizes)
        return numpy.asarray(means + errors - errors.mean(axis=1, keepdims=True))

    def draw_weights(self, resamples: int, random_generator: numpy.random.Generator) -> Values:
        """Return the weight of each question in resamples of whole groups (resamples, questions)."""
        counts = random_generator.multinomial(
            self.n_groups, numpy.full(self.n_groups, 1 / self.n_groups), size=resamples
        )
        totals = counts @ self.sizes
        return numpy.asarray((counts / totals[:, None])[:, self.codes])

    def widen(self, means: Values, mean: float, *, is_normal: bool = False) -> Values:
        """Return resampled means with the spread of Student's t about the observed mean.

        The bootstrap of few groups is too narrow: its variance lacks the factor groups / (groups - 1), and its tails
        are those of a known variance.

        Args:
            means: The resampled means.
            mean: The observed mean.
            is_normal: True for normal quantiles, whose variance lacks no factor.
        """
        if self.n_groups == 1:  # It says nothing of other groups.
            return numpy.where(numpy.arange(len(means)) % 2, mean + 2, mean - 2)
        factor = 1.0 if is_normal else sqrt(self.n_groups / (self.n_groups - 1))
        return numpy.asarray(mean + factor * _shuffled_t_factors(self.dof, len(means)) * (means - mean))

    def effective_questions(self, scores: Values, question_variance: float | None = None) -> float:
        """Return the number of separate questions that tell as much as these groups.

        It is the number of questions divided by the design effect, reduced as far as Student's t is wider than the
        normal distribution, and at least the effective number of groups. Scores that do not differ show no design
        effect, so only the groups count.

        Args:
            scores: Scores (seeds, questions).
            question_variance: Variance of a single score; None for that over the questions of the means over seeds.
        """
        mean_scores = scores.mean(axis=0, keepdims=True)
        variance = float(mean_scores.var()) if question_variance is None else question_variance
        fewest = self.dof + 1
        if not variance or self.n_groups == 1:
            return fewest
        group_variance = float(self.group_values(mean_scores).var(ddof=1)) / self.n_groups
        if not group_variance:
            return float(self.n_questions)
        t_factor = float(special.ndtri(T_LEVEL) / special.stdtrit(self.dof, T_LEVEL))
        return min(max(t_factor**2 * variance / group_variance, fewest), float(self.n_questions))


def question_groups(names: Sequence[str] | None) -> QuestionGroups | None:
    """Return the groups of questions, given by their names.

    Returns:
        None if no question has a group, or if every question is a group of its own.
    """
    return None if names is None else _question_groups(tuple(names))


@lru_cache(maxsize=64)
def _question_groups(names: tuple[str, ...]) -> QuestionGroups | None:
    code_of: dict[str, int] = {}
    codes = [code_of.setdefault(name, len(code_of)) for name in names]
    return None if len(code_of) == len(names) else QuestionGroups(numpy.array(codes, dtype=numpy.intp), tuple(code_of))


@lru_cache(maxsize=8)
def _shuffled_t_factors(dof: float, n: int) -> Values:
    """Return factors that make normal values those of Student's t, in random order."""
    quantiles = special.chdtri(dof, (numpy.arange(n) + 0.5) / n)
    return numpy.asarray(numpy.random.default_rng(2).permutation(numpy.sqrt(dof / quantiles)))
