"""Intervals, p values and verdicts: agreement with scipy and statsmodels, coverage, and false-alarm rates."""

from __future__ import annotations

from itertools import combinations

import numpy
import pandas
import pytest
from scipy import integrate
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from bench.analysis.seed_variance import NO_PRIOR, NO_SPREAD, KnownSpread, Scores, SeedVariancePrior
from bench.analysis.significance import (
    ScorePair,
    VarianceComponents,
    holm_adjust,
    judge_difference,
    p_value,
    paired_difference,
    paired_differences,
    score_interval,
    score_intervals,
    two_sided_tail,
)

RNG = numpy.random.default_rng(7)
INITIAL_STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _reset_random_state() -> None:
    """Every test draws the same numbers, in whatever order tests run."""
    RNG.bit_generator.state = INITIAL_STATE


def binary_scores(accuracy: float, n_questions: int = 500, n_seeds: int = 1) -> Scores:
    return (RNG.random((n_seeds, n_questions)) < accuracy).astype(float)


def simulate_scores(rng: numpy.random.Generator, n_seeds: int, skill: float = 0.0, seed_std: float = 0.02) -> Scores:
    """Right-or-wrong scores of a method; questions differ in difficulty and seeds in skill."""
    easiness = rng.beta(1.5, 1.5, 400)
    seed_skill = skill + seed_std * rng.standard_normal((n_seeds, 1))
    return (rng.random((n_seeds, 400)) < numpy.clip(easiness + seed_skill, 0, 1)).astype(float)


def simulate_methods(rng: numpy.random.Generator, skills: list[float], n_seeds: int = 3) -> list[Scores]:
    """Scores of methods that answer the same questions; some depend on the seed more than others."""
    easiness = rng.beta(1.5, 1.5, 300)
    methods = []
    for skill in skills:
        seed_std = 0.015 * numpy.exp(0.6 * rng.standard_normal())
        seed_skill = seed_std * rng.standard_normal((n_seeds, 1))
        methods.append((rng.random((n_seeds, 300)) < numpy.clip(easiness + skill + seed_skill, 0, 1)).astype(float))
    return methods


def adjusted_p_values(methods: list[Scores]) -> list[float]:
    """Adjusted p values of all pairs, as a comparison computes them."""
    pairs = list(combinations(methods, 2))
    prior = SeedVariancePrior.fit([scores - reference for scores, reference in pairs], len(methods))
    return holm_adjust([p_value(scores, reference, prior) for scores, reference in pairs])


def test_seed_stderr_is_variance_component_of_statsmodels_anova() -> None:
    scores = simulate_scores(RNG, n_seeds=4, seed_std=0.2)[:, :40]
    n_seeds, n_questions = scores.shape
    cells = [(score, seed, question) for (seed, question), score in numpy.ndenumerate(scores)]
    frame = pandas.DataFrame(cells, columns=["score", "seed", "question"])
    mean_squares = anova_lm(ols("score ~ C(seed) + C(question)", frame).fit())["mean_sq"]
    component = (mean_squares["C(seed)"] - mean_squares["Residual"]) / n_questions
    assert component > mean_squares["C(seed)"] / n_questions / 3, "or a third would be kept"
    components = VarianceComponents.estimate(scores, NO_PRIOR)
    assert components.seed_stderr == pytest.approx((component / n_seeds) ** 0.5)
    assert components.dof == n_seeds - 1


def test_score_interval_single_seed_is_scipy_bootstrap() -> None:
    scores = binary_scores(0.7)
    interval = score_interval(scores)
    expected = scipy_stats.bootstrap(
        (scores[0],), numpy.mean, n_resamples=4000, method="percentile", rng=numpy.random.default_rng(1)
    ).confidence_interval
    assert interval.mean == scores.mean()
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_score_interval_equal_questions_is_student_t() -> None:
    scores = numpy.repeat(numpy.array([[0.4], [0.5], [0.7]]), 300, axis=1)
    expected = scipy_stats.t.interval(0.95, 2, scores[:, 0].mean(), scipy_stats.sem(scores[:, 0]))
    interval = score_interval(scores)
    assert (interval.low, interval.high) == pytest.approx(expected, rel=0.15)


def test_p_value_single_seed_binary_is_statsmodels_mcnemar() -> None:
    scores, reference = binary_scores(0.62), binary_scores(0.55)
    table = [[((scores == a) & (reference == b)).sum() for b in (1, 0)] for a in (1, 0)]
    assert paired_difference(scores, reference).p_value == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_p_value_single_seed_real_scores_is_scipy_paired_t_test() -> None:
    scores, reference = RNG.random((1, 300)), RNG.random((1, 300))
    expected = scipy_stats.ttest_rel(scores[0], reference[0]).pvalue
    assert paired_difference(scores, reference).p_value == pytest.approx(expected)


@pytest.mark.parametrize("p_values", [[0.001, 0.04, 0.03, 0.2], [0.9, 0.8, 0.7], [0.3], [0.6, 0.02]])
def test_holm_adjust_is_statsmodels_holm(p_values: list[float]) -> None:
    assert holm_adjust(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm_adjust([]) == []


def test_p_value_equal_wins_and_losses_is_one() -> None:
    scores, reference = numpy.array([[1.0, 0.0, 1.0, 0.0]]), numpy.array([[0.0, 1.0, 1.0, 0.0]])
    assert paired_difference(scores, reference).p_value == 1


def test_paired_difference_ci90_is_scipy_normal_interval() -> None:
    differences = RNG.standard_normal((1, 900))
    difference = paired_difference(differences, 0 * differences)
    low, high = scipy_stats.norm.interval(0.9, differences.mean(), scipy_stats.sem(differences[0]))
    assert (difference.ci90.low, difference.ci90.high) == pytest.approx((low, high), abs=0.004)


def test_paired_difference_with_prior_uses_it_in_every_field() -> None:
    scores, reference = (simulate_scores(RNG, 3, skill) for skill in (0.1, 0.0))
    prior = SeedVariancePrior(dof=4.0, variance=0.01)
    without_prior = paired_difference(scores, reference)
    with_prior = paired_difference(scores, reference, prior)
    assert with_prior == paired_differences([ScorePair(scores, reference)], prior)[0]
    assert with_prior.p_value == p_value(scores, reference, prior) != without_prior.p_value
    components = VarianceComponents.estimate(scores - reference, prior)
    assert (with_prior.question_std, with_prior.seed_stderr, with_prior.dof) == (
        components.unit_std,
        components.seed_stderr,
        components.dof,
    )
    assert with_prior.dof == without_prior.dof + 4
    assert with_prior.seed_stderr > without_prior.seed_stderr
    assert with_prior.ci95.low < without_prior.ci95.low


def test_paired_difference_swapped_methods_is_mirrored() -> None:
    scores, reference = binary_scores(0.6, n_seeds=3), binary_scores(0.5, n_seeds=3)
    difference, mirrored = paired_difference(scores, reference), paired_difference(reference, scores)
    assert difference.ci95.mean == -mirrored.ci95.mean
    assert difference.p_value == mirrored.p_value
    assert difference.ci95.low == pytest.approx(-mirrored.ci95.high, abs=0.004)


def test_paired_difference_detects_more_than_separate_intervals() -> None:
    easiness = RNG.random((1, 500))
    scores, reference = easiness + 0.02, easiness + 0.01 * RNG.standard_normal((1, 500))
    assert paired_difference(scores, reference).p_value < 1e-6
    assert score_interval(scores).low < score_interval(reference).high


def test_paired_difference_unequal_shapes_raises() -> None:
    with pytest.raises(ValueError, match="unequal shape"):
        paired_difference(binary_scores(0.5, n_questions=4), binary_scores(0.5, n_questions=5))


def test_score_interval_equal_data_gives_equal_bounds() -> None:
    scores = binary_scores(0.5, n_seeds=3)
    assert score_interval(scores) == score_interval(scores.copy())


@pytest.mark.parametrize("dof", [1.0, 2.0, 7.5])
def test_two_sided_tail_seeds_only_is_student_t(dof: float) -> None:
    components = VarianceComponents(n_units=100, unit_std=0.0, seed_stderr=0.02, dof=dof)
    assert two_sided_tail(-0.05, components) == pytest.approx(2 * scipy_stats.t.sf(0.05 / 0.02, dof))
    no_error = VarianceComponents(n_units=100, unit_std=0.0, seed_stderr=0.0, dof=dof)
    assert (two_sided_tail(0.0, no_error), two_sided_tail(0.01, no_error)) == (1, 0)


@pytest.mark.parametrize("n_questions", [2, 3, 30])
def test_two_sided_tail_questions_only_is_student_t(n_questions: int) -> None:
    differences = RNG.standard_normal((1, n_questions)) + 0.3
    expected = scipy_stats.ttest_1samp(differences[0], 0.0).pvalue
    tail = two_sided_tail(differences.mean(), VarianceComponents.estimate(differences))
    assert tail == pytest.approx(expected)
    assert VarianceComponents.estimate(differences[:, :1]).unit_std == 0


@pytest.mark.parametrize(("mean", "dof"), [(0.03, 2.0), (0.06, 2.0), (0.06, 6.0), (0.1, 3.0)])
def test_two_sided_tail_questions_and_seeds_is_their_sum(mean: float, dof: float) -> None:
    question_stderr, seed_stderr = 0.4 / 400**0.5, 0.015

    def tail_density(seed_error: float) -> float:
        density = scipy_stats.t.pdf(seed_error, dof)
        return float(density * 2 * scipy_stats.norm.sf((mean - seed_stderr * seed_error) / question_stderr))

    expected, _ = integrate.quad(tail_density, -400, 400, points=[0, mean / seed_stderr], limit=500)
    components = VarianceComponents(n_units=400, unit_std=0.4, seed_stderr=seed_stderr, dof=dof)
    assert two_sided_tail(mean, components) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("n_right", [0, 1, 3, 197, 199, 200])
def test_score_interval_few_right_or_wrong_covers_exact_bounds(n_right: int) -> None:
    scores = (numpy.arange(200) < n_right).astype(float)[None]
    low, high = proportion_confint(n_right, 200, method="beta")
    interval = score_interval(scores)
    assert interval.low <= low + 1e-12 and interval.high >= high - 1e-12
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


def test_score_interval_scores_outside_unit_range_are_not_clipped() -> None:
    assert score_interval(RNG.standard_normal((1, 50)) * 0.1 - 0.01).low < 0
    assert score_interval(RNG.standard_normal((1, 50)) * 0.1 + 1.2).high > 1
    assert score_interval(numpy.abs(RNG.standard_normal((1, 50))) + 0.9).high > 1


def test_score_interval_with_prior_of_variable_seeds_is_wider() -> None:
    scores = simulate_scores(RNG, 3, seed_std=0.0)
    prior = SeedVariancePrior(dof=8.0, variance=0.04)
    with_prior, without_prior = score_interval(scores, prior), score_interval(scores)
    assert with_prior.high - with_prior.low > 1.5 * (without_prior.high - without_prior.low)
    assert score_intervals([(scores, NO_SPREAD)], prior) == [with_prior]


def test_all_answers_right_has_exact_bound_and_certain_verdict() -> None:
    all_right = numpy.ones((2, 50))
    interval = score_interval(all_right)
    assert (interval.mean, interval.high) == (1, 1)
    assert interval.low == pytest.approx(0.025 ** (1 / 50))
    difference = paired_difference(all_right, all_right)
    assert (difference.p_value, judge_difference(difference, difference.p_value)) == (1, "equivalent")
    difference = paired_difference(all_right, 0 * all_right)
    assert (difference.p_value, judge_difference(difference, difference.p_value)) == (0, "better")


@pytest.mark.parametrize(
    ("gap", "n_questions", "verdict"),
    [(0.12, 500, "better"), (-0.12, 500, "worse"), (0.0, 40_000, "equivalent"), (0.02, 100, "inconclusive")],
)
def test_judge_difference_known_gap_gives_verdict(gap: float, n_questions: int, verdict: str) -> None:
    rng = numpy.random.default_rng(3)
    difficulty = rng.random((1, n_questions))
    scores, reference = (difficulty < 0.5 + gap).astype(float), (difficulty < 0.5).astype(float)
    if not gap:
        flipped = rng.random(n_questions) < 0.05
        scores[:, flipped] = 1 - scores[:, flipped]
    difference = paired_difference(scores, reference)
    assert judge_difference(difference, difference.p_value) == verdict


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
def test_score_interval_covers_true_mean(n_seeds: int) -> None:
    rng, n_covered, n_rounds = numpy.random.default_rng(n_seeds), 0, 600
    for _ in range(n_rounds):
        interval = score_interval(simulate_scores(rng, n_seeds), known=KnownSpread(0.02**2, 30.0))
        n_covered += interval.low <= 0.5 <= interval.high
    assert 0.93 <= n_covered / n_rounds <= 0.975


def test_score_interval_with_prior_covers_true_mean() -> None:
    rng, n_covered = numpy.random.default_rng(13), 0
    for _ in range(120):
        methods = simulate_methods(rng, [0.0] * 8)
        prior = SeedVariancePrior.fit(methods, 8)
        for scores in methods:
            interval = score_interval(scores, prior)
            n_covered += interval.low <= 0.5 <= interval.high
    assert 0.93 <= n_covered / 960 <= 0.97


def test_adjusted_p_values_equal_methods_rarely_significant() -> None:
    """Eight equal methods, compared in pairs: at most one comparison in twenty has a false alarm."""
    rng, n_rounds = numpy.random.default_rng(11), 250
    false_alarms = sum(min(adjusted_p_values(simulate_methods(rng, [0.0] * 8))) < 0.05 for _ in range(n_rounds))
    assert false_alarms / n_rounds <= 0.06


def test_adjusted_p_values_with_prior_have_more_power() -> None:
    rng, detected, detected_without_prior = numpy.random.default_rng(12), 0, 0
    for _ in range(40):
        methods = simulate_methods(rng, [0.15] + [0.0] * 7)
        detected += sum(p < 0.05 for p in adjusted_p_values(methods)[:7])
        p_values = [p_value(scores, reference) for scores, reference in combinations(methods, 2)]
        detected_without_prior += sum(p < 0.05 for p in holm_adjust(p_values)[:7])
    assert detected / 280 > 0.8
    assert detected_without_prior / 280 < 0.4


@pytest.mark.parametrize("n_methods", [2, 6])
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_adjusted_p_values_few_seeds_with_known_spread_rarely_alarm(n_seeds: int, n_methods: int) -> None:
    rng, known = numpy.random.default_rng(17), KnownSpread(0.03**2, 30.0)
    alarms, alarms_without, n_rounds = 0, 0, 1600 // n_methods
    for _ in range(n_rounds):
        methods = [simulate_scores(rng, n_seeds, seed_std=0.03) for _ in range(n_methods)]
        pairs = list(combinations(methods, 2))
        alarms += min(holm_adjust([p_value(*pair, known=known + known) for pair in pairs])) < 0.05
        alarms_without += min(holm_adjust([p_value(*pair) for pair in pairs])) < 0.05
    assert alarms / n_rounds <= 0.06
    assert n_seeds == 2 or alarms_without / n_rounds > 0.1, "or the known spread makes no difference"


def test_known_spread_of_one_seed_is_in_p_value_and_intervals() -> None:
    scores, reference = binary_scores(0.6), binary_scores(0.5)
    known = KnownSpread(0.05**2, 30.0)
    difference = paired_difference(scores, reference, known=known)
    assert (difference.seed_stderr, difference.dof) == (0.05, 30.0)
    stderr = ((scores - reference).std(ddof=1) ** 2 / 500 + 0.05**2) ** 0.5
    assert difference.p_value == pytest.approx(2 * scipy_stats.norm.sf(difference.ci95.mean / stderr), rel=0.2)
    assert difference.ci95.high - difference.ci95.low == pytest.approx(2 * 2.03 * stderr, rel=0.05)
    interval = score_interval(scores, known=known)
    assert interval.high - interval.low == pytest.approx(2 * 2.03 * (0.24 / 500 + 0.05**2) ** 0.5, rel=0.05)


def test_known_spread_is_not_used_from_three_seeds_on() -> None:
    known = KnownSpread(0.2**2, 30.0)
    for n_seeds, is_used in ((2, True), (3, False), (5, False)):
        pair = simulate_scores(RNG, n_seeds), simulate_scores(RNG, n_seeds)
        assert (paired_difference(*pair, known=known) != paired_difference(*pair)) is is_used


def test_known_spread_of_a_sum_has_both_variances_and_the_fewer_dof() -> None:
    assert KnownSpread(0.25, 30.0) + KnownSpread(0.5, 4.0) == KnownSpread(0.75, 4.0)
    assert KnownSpread(0.25, 30.0) + NO_SPREAD == KnownSpread(0.25, 30.0)
    assert NO_SPREAD + NO_SPREAD == NO_SPREAD
    assert KnownSpread(0.25, 30.0).of_mean(5) == KnownSpread(0.05, 30.0)


def test_seed_stderr_deterministic_method_is_zero() -> None:
    deterministic = numpy.repeat(binary_scores(0.5), 3, axis=0)
    prior = SeedVariancePrior(10.0, 0.05**2)
    assert paired_difference(deterministic, 0 * deterministic, prior).seed_stderr == 0
    assert score_interval(deterministic, prior) == score_interval(deterministic)


def test_score_interval_nearly_all_wrong_is_clopper_pearson() -> None:
    scores = numpy.zeros((1, 500))
    assert score_interval(scores).high == pytest.approx(1 - 0.025 ** (1 / 500), rel=1e-6)
    scores[0, :2] = 1
    exact = scipy_stats.binomtest(2, 500).proportion_ci(method="exact")
    assert score_interval(scores).high == pytest.approx(exact.high, abs=0.002)
