"""Prior of the variance over seeds: agreement with Smyth's estimator, and the cases without a prior."""

from __future__ import annotations

import numpy
import pytest
from scipy import optimize, special

from bench.analysis.seed_variance import NO_PRIOR, Scores, SeedVariancePrior


@pytest.fixture
def rng() -> numpy.random.Generator:
    return numpy.random.default_rng(7)


def binary_scores(rng: numpy.random.Generator, n_seeds: int = 1) -> Scores:
    return (rng.random((n_seeds, 500)) < 0.5).astype(float)


@pytest.mark.parametrize(("n_methods", "dof"), [(200, 2), (200, 4), (8, 2)])
def test_prior_fit_is_smyth_estimator(rng: numpy.random.Generator, n_methods: int, dof: int) -> None:
    variances = 0.0004 / rng.chisquare(6, n_methods) * 6 * rng.chisquare(dof, n_methods) / dof
    seed_means = numpy.array([rng.standard_normal(dof + 1) for _ in range(n_methods)])
    seed_means -= seed_means.mean(axis=1, keepdims=True)
    seed_means *= numpy.sqrt(variances / seed_means.var(axis=1, ddof=1))[:, None]
    prior = SeedVariancePrior.fit([means[:, None] + numpy.zeros((1, 5)) for means in seed_means], n_methods)
    logs = numpy.log(variances)
    excess = logs.var(ddof=1) - special.polygamma(1, dof / 2)
    half_dof = optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e6) if excess > 0 else numpy.inf
    prior_dof = min(2 * half_dof, (n_methods - 1) / 2)
    center = logs.mean() - special.digamma(dof / 2) + numpy.log(dof / 2) + special.digamma(prior_dof / 2)
    assert prior.dof == pytest.approx(prior_dof)
    assert prior.variance == pytest.approx(numpy.exp(center - numpy.log(prior_dof / 2)))


def test_prior_fit_uses_most_frequent_seed_count_and_three_methods(rng: numpy.random.Generator) -> None:
    three_seeds = [rng.standard_normal((3, 6)) for _ in range(4)]
    five_seeds = [rng.standard_normal((5, 6)) for _ in range(3)]
    deterministic = [numpy.full((7, 6), 0.5)] * 5
    single_seed = [rng.standard_normal((1, 6))] * 9
    prior = SeedVariancePrior.fit(three_seeds, 7)
    assert SeedVariancePrior.fit([*five_seeds, *three_seeds, *deterministic, *single_seed], 7) == prior != NO_PRIOR
    assert SeedVariancePrior.fit(three_seeds[:2], 7) == NO_PRIOR
    assert SeedVariancePrior.fit([], 7) == NO_PRIOR
    assert SeedVariancePrior.fit(three_seeds, 1) == NO_PRIOR
    assert SeedVariancePrior.fit(three_seeds[:3], 2) != NO_PRIOR


def test_prior_fit_few_methods_or_single_seeds_is_no_prior(rng: numpy.random.Generator) -> None:
    assert SeedVariancePrior.fit([binary_scores(rng, n_seeds=3)] * 2, 2) is NO_PRIOR
    assert SeedVariancePrior.fit([binary_scores(rng, n_seeds=3)] * 4, 1) is NO_PRIOR
    assert SeedVariancePrior.fit([binary_scores(rng)] * 9, 9) is NO_PRIOR


def test_prior_moderate_equal_variances_is_pooled_variance() -> None:
    rng = numpy.random.default_rng(14)
    means = 0.5 + 0.02 * rng.standard_normal((4000, 3, 1))
    prior = SeedVariancePrior.fit(list(means + numpy.zeros((4000, 3, 2))), 4000)
    assert prior.variance == pytest.approx(0.02**2, rel=0.15)
    variance, dof = prior.moderate(0.04**2, 2)
    assert 0.02**2 < variance < 0.04**2
    assert dof == prior.dof + 2
