"""Statistics agree with scipy and statsmodels, cover what they should, and say what the data allow."""

from __future__ import annotations

from itertools import combinations

import numpy
import pandas
import pytest
from scipy import integrate, optimize, special
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from bench.analysis import power, seed_variance, significance

DICE = numpy.random.default_rng(7)
THROWN = DICE.bit_generator.state


@pytest.fixture(autouse=True)
def _fresh_dice() -> None:
    """Every test throws the same dice, in whatever order tests run."""
    DICE.bit_generator.state = THROWN


def answers(rate: float, items: int = 500, seeds: int = 1, dice: numpy.random.Generator = DICE) -> seed_variance.Scores:
    return (dice.random((seeds, items)) < rate).astype(float)


def simulated(dice: numpy.random.Generator, seeds: int, gap: float = 0.0, wobble: float = 0.02) -> seed_variance.Scores:
    """Right or wrong of a method whose questions differ in difficulty and whose seeds differ in skill."""
    hard = dice.beta(1.5, 1.5, 400)
    skill = gap + wobble * dice.standard_normal((seeds, 1))
    return (dice.random((seeds, 400)) < numpy.clip(hard + skill, 0, 1)).astype(float)


def test_what_seeds_add_is_a_component_of_statsmodels_analysis_of_variance() -> None:
    scores = simulated(DICE, seeds=4, wobble=0.2)[:, :40]
    seeds, items = scores.shape
    long = [(score, seed, item) for (seed, item), score in numpy.ndenumerate(scores)]
    frame = pandas.DataFrame(long, columns=["score", "seed", "item"])
    squares = anova_lm(ols("score ~ C(seed) + C(item)", frame).fit())["mean_sq"]
    component = (squares["C(seed)"] - squares["Residual"]) / items
    assert component > squares["C(seed)"] / items / 3, "or a third would be kept"
    assert significance._wobble(scores, seed_variance.NO_PRIOR) == (
        pytest.approx((component / seeds) ** 0.5),
        seeds - 1,
    )


def test_the_interval_of_one_seed_is_scipys_bootstrap() -> None:
    scores = answers(0.7)
    ours = significance.score_interval(scores)
    theirs = scipy_stats.bootstrap(
        (scores[0],), numpy.mean, n_resamples=4000, method="percentile", rng=numpy.random.default_rng(1)
    ).confidence_interval
    assert ours.mean == scores.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_where_only_seeds_differ_the_interval_is_students() -> None:
    scores = numpy.repeat(numpy.array([[0.4], [0.5], [0.7]]), 300, axis=1)
    theirs = scipy_stats.t.interval(0.95, 2, scores[:, 0].mean(), scipy_stats.sem(scores[:, 0]))
    ours = significance.score_interval(scores)
    assert (ours.low, ours.high) == pytest.approx(theirs, rel=0.15)


def test_one_seed_of_right_or_wrong_is_mcnemars_exact_test() -> None:
    ours, theirs = answers(0.62), answers(0.55)
    table = [[((ours == a) & (theirs == b)).sum() for b in (1, 0)] for a in (1, 0)]
    assert significance.paired_difference(ours, theirs).p == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_scores_between_right_and_wrong_are_scipys_paired_test() -> None:
    ours, theirs = DICE.random((1, 300)), DICE.random((1, 300))
    assert significance.paired_difference(ours, theirs).p == pytest.approx(
        scipy_stats.ttest_rel(ours[0], theirs[0]).pvalue
    )


@pytest.mark.parametrize("ps", [[0.001, 0.04, 0.03, 0.2], [0.9, 0.8, 0.7], [0.3], [0.6, 0.02]])
def test_holm_is_statsmodels(ps: list[float]) -> None:
    assert significance.holm_adjust(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]))
    assert significance.holm_adjust([]) == []


def test_as_many_won_as_lost_is_no_evidence_at_all() -> None:
    ours, theirs = numpy.array([[1.0, 0.0, 1.0, 0.0]]), numpy.array([[0.0, 1.0, 1.0, 0.0]])
    assert significance.paired_difference(ours, theirs).p == 1


def test_the_narrow_interval_is_that_of_90_of_100() -> None:
    gap = DICE.standard_normal((1, 900))
    found = significance.paired_difference(gap, 0 * gap)
    low, high = scipy_stats.norm.interval(0.9, gap.mean(), scipy_stats.sem(gap[0]))
    assert (found.ci90.low, found.ci90.high) == pytest.approx((low, high), abs=0.004)


def test_what_other_methods_tell_of_seeds_is_in_every_figure_of_a_difference() -> None:
    ours, theirs = (simulated(DICE, 3, gap) for gap in (0.1, 0.0))
    expected = seed_variance.SeedVariancePrior(dof=4.0, variance=0.01)
    alone, known = significance.paired_difference(ours, theirs), significance.paired_difference(ours, theirs, expected)
    assert known == significance.paired_differences([(ours, theirs)], expected)[0]
    assert known.p == significance.p_value(ours, theirs, expected) != alone.p
    noise = significance.Noise.of(ours - theirs, expected)
    assert (known.question_std, known.seed_stderr, known.dof) == (noise.question_std, noise.seed_stderr, noise.dof)
    assert known.dof == alone.dof + 4
    assert known.seed_stderr > alone.seed_stderr and known.interval.low < alone.interval.low


def test_a_difference_turned_round_is_its_mirror() -> None:
    one, other = answers(0.6, seeds=3), answers(0.5, seeds=3)
    there, back = significance.paired_difference(one, other), significance.paired_difference(other, one)
    assert there.interval.mean == -back.interval.mean
    assert there.p == back.p
    assert there.interval.low == pytest.approx(-back.interval.high, abs=0.004)


def test_pairing_sees_what_apart_is_hidden() -> None:
    hard = DICE.random((1, 500))
    ours, theirs = hard + 0.02, hard + 0.01 * DICE.standard_normal((1, 500))
    assert significance.paired_difference(ours, theirs).p < 1e-6
    apart = significance.score_interval(ours), significance.score_interval(theirs)
    assert apart[0].low < apart[1].high


def test_unequal_shapes_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="unequal shape"):
        significance.paired_difference(answers(0.5, items=4), answers(0.5, items=5))


def test_the_same_data_give_the_same_bounds() -> None:
    scores = answers(0.5, seeds=3)
    assert significance.score_interval(scores) == significance.score_interval(scores.copy())


@pytest.mark.parametrize("freedom", [1.0, 2.0, 7.5])
def test_tails_of_seeds_alone_are_students(freedom: float) -> None:
    noise = significance.Noise(questions=100, question_std=0.0, seed_stderr=0.02, dof=freedom)
    assert significance.two_sided_tail(-0.05, noise) == pytest.approx(2 * scipy_stats.t.sf(0.05 / 0.02, freedom))
    still = significance.Noise(questions=100, question_std=0.0, seed_stderr=0.0, dof=freedom)
    assert (significance.two_sided_tail(0.0, still), significance.two_sided_tail(0.01, still)) == (1, 0)


@pytest.mark.parametrize("items", [2, 3, 30])
def test_tails_of_questions_alone_are_students(items: int) -> None:
    gap = DICE.standard_normal((1, items)) + 0.3
    assert significance.two_sided_tail(gap.mean(), significance.Noise.of(gap)) == pytest.approx(
        scipy_stats.ttest_1samp(gap[0], 0.0).pvalue
    )
    assert significance.Noise.of(gap[:, :1]).question_std == 0


@pytest.mark.parametrize(("far", "freedom"), [(0.03, 2.0), (0.06, 2.0), (0.06, 6.0), (0.1, 3.0)])
def test_tails_of_both_are_those_of_their_sum(far: float, freedom: float) -> None:
    of_items, of_seeds = 0.4 / 400**0.5, 0.015

    def beyond(seeds: float) -> float:
        density = scipy_stats.t.pdf(seeds, freedom)
        return float(density * 2 * scipy_stats.norm.sf((far - of_seeds * seeds) / of_items))

    expected, _ = integrate.quad(beyond, -400, 400, points=[0, far / of_seeds], limit=500)
    told = significance.two_sided_tail(
        far, significance.Noise(questions=400, question_std=0.4, seed_stderr=of_seeds, dof=freedom)
    )
    assert told == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("methods", "own"), [(200, 2), (200, 4), (8, 2)])
def test_the_prior_is_smyths(methods: int, own: int) -> None:
    variances = 0.0004 / DICE.chisquare(6, methods) * 6 * DICE.chisquare(own, methods) / own
    seeds = numpy.array([DICE.standard_normal(own + 1) for _ in range(methods)])
    seeds -= seeds.mean(axis=1, keepdims=True)
    seeds *= numpy.sqrt(variances / seeds.var(axis=1, ddof=1))[:, None]
    known = seed_variance.SeedVariancePrior.fit([scores[:, None] + numpy.zeros((1, 5)) for scores in seeds], methods)
    logs = numpy.log(variances)
    left = logs.var(ddof=1) - special.polygamma(1, own / 2)
    half = optimize.brentq(lambda x: special.polygamma(1, x) - left, 1e-3, 1e6) if left > 0 else numpy.inf
    freedom = min(2 * half, (methods - 1) / 2)
    centre = logs.mean() - special.digamma(own / 2) + numpy.log(own / 2) + special.digamma(freedom / 2)
    assert known.dof == pytest.approx(freedom)
    assert known.variance == pytest.approx(numpy.exp(centre - numpy.log(freedom / 2)))


def test_the_prior_is_that_of_the_commonest_number_of_seeds_and_of_three_methods_at_least() -> None:
    three = [DICE.standard_normal((3, 6)) for _ in range(4)]
    five = [DICE.standard_normal((5, 6)) for _ in range(3)]
    fixed = [numpy.full((7, 6), 0.5)] * 5  # none of which depends on its seed
    single = [DICE.standard_normal((1, 6))] * 9
    assert (
        seed_variance.SeedVariancePrior.fit([*five, *three, *fixed, *single], 7)
        == seed_variance.SeedVariancePrior.fit(three, 7)
        != seed_variance.NO_PRIOR
    )
    assert (
        seed_variance.SeedVariancePrior.fit(three[:2], 7)
        == seed_variance.SeedVariancePrior.fit([], 7)
        == seed_variance.SeedVariancePrior.fit(three, 1)
        == seed_variance.NO_PRIOR
    )
    assert seed_variance.SeedVariancePrior.fit(three[:3], 2) != seed_variance.NO_PRIOR


@pytest.mark.parametrize("right", [0, 1, 3, 197, 199, 200])
def test_a_share_that_is_nearly_none_or_all_has_at_least_exact_bounds(right: int) -> None:
    scores = (numpy.arange(200) < right).astype(float)[None]
    low, high = proportion_confint(right, 200, method="beta")
    found = significance.score_interval(scores)
    assert found.low <= low + 1e-12 and found.high >= high - 1e-12
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_scores_beyond_0_and_1_are_not_bounded_by_them() -> None:
    assert significance.score_interval(DICE.standard_normal((1, 50)) * 0.1 - 0.01).low < 0
    assert significance.score_interval(DICE.standard_normal((1, 50)) * 0.1 + 1.2).high > 1
    assert significance.score_interval(numpy.abs(DICE.standard_normal((1, 50))) + 0.9).high > 1


def test_the_interval_of_a_method_hears_of_the_others_seeds() -> None:
    scores = simulated(DICE, 3, wobble=0.0)
    wide = significance.score_interval(scores, seed_variance.SeedVariancePrior(dof=8.0, variance=0.04))
    alone = significance.score_interval(scores)
    assert wide.high - wide.low > 1.5 * (alone.high - alone.low)
    assert significance.score_intervals([scores], seed_variance.SeedVariancePrior(dof=8.0, variance=0.04)) == [wide]


def test_all_right_has_no_width_and_no_difference_no_doubt() -> None:
    sure = numpy.ones((2, 50))
    bounds = significance.score_interval(sure)
    assert (bounds.mean, bounds.high) == (1, 1)
    assert bounds.low == pytest.approx(0.025 ** (1 / 50))
    found = significance.paired_difference(sure, sure)
    assert (found.p, significance.judge_difference(found, found.p)) == (1, "equivalent")
    found = significance.paired_difference(sure, 0 * sure)
    assert (found.p, significance.judge_difference(found, found.p)) == (0, "better")


@pytest.mark.parametrize(
    ("gap", "items", "expected"),
    [(0.12, 500, "better"), (-0.12, 500, "worse"), (0.0, 40_000, "equivalent"), (0.02, 100, "inconclusive")],
)
def test_verdicts_come_out_as_designed(gap: float, items: int, expected: str) -> None:
    dice = numpy.random.default_rng(3)
    base = dice.random((1, items))
    ours, theirs = (base < 0.5 + gap).astype(float), (base < 0.5).astype(float)
    if not gap:
        swapped = dice.random(items) < 0.05
        ours[:, swapped] = 1 - ours[:, swapped]
    found = significance.paired_difference(ours, theirs)
    assert significance.judge_difference(found, found.p) == expected


def test_so_many_questions_decide() -> None:
    """Asked so many questions, the same difference is told with the power that was promised."""
    dice, told = numpy.random.default_rng(5), 0
    found = significance.Difference(
        interval=significance.Interval(0.04, 0, 0), ci90=significance.Interval(0.04, 0, 0), p=0.3, seeds=1, questions=100,
        question_std=0.5, seed_stderr=0.0, dof=1,
    )  # fmt: skip
    items = power.questions_to_decide(found)
    assert items is not None
    for _ in range(300):
        gap = 0.04 + 0.5 * dice.standard_normal((1, items))
        told += significance.paired_difference(gap, numpy.zeros_like(gap)).p < 0.05
    assert 0.74 < told / 300 < 0.86


def counted_up(found: significance.Difference, far: float, level: float) -> int | None:
    """The fewest questions whose error (Satterthwaite) shows a mean so far off; None where seeds alone hide it."""
    if (scipy_stats.t.ppf(1 - level, found.dof) + scipy_stats.norm.ppf(0.8)) * found.seed_stderr > far:
        return None
    items = numpy.arange(found.questions + 1, 10**5)
    questions, seeds = found.question_std**2 / items, found.seed_stderr**2
    freedom = (questions + seeds) ** 2 / (questions**2 / items + seeds**2 / found.dof)
    needed = scipy_stats.t.ppf(1 - level, freedom) + scipy_stats.norm.ppf(0.8)
    seen = items[needed * numpy.sqrt(questions + seeds) <= far]
    return int(seen[0])


def noisy(mean: float, wobble: float, freedom: float = 2.0, spread: float = 0.5) -> significance.Difference:
    some = significance.Interval(mean, 0, 0)
    return significance.Difference(some, some, 0.3, 3, 100, spread, wobble, freedom)


@pytest.mark.parametrize(
    ("far", "wobble", "freedom"),
    [(0.05, 0.0, 1.0), (0.05, 0.008, 2.0), (0.05, 0.012, 5.0), (0.06, 0.01, 2.0), (0.1, 0.02, 4.0), (0.02, 0.01, 2.0)],
)
def test_questions_to_see_are_those_that_counting_up_finds(far: float, wobble: float, freedom: float) -> None:
    found = noisy(far, wobble, freedom)
    for level in (0.025, 0.005):
        least, told = counted_up(found, far, level), power.questions_to_detect(found, far, level)
        assert (told is None) == (least is None)
        assert told is None or least is None or least <= told <= 1.011 * least + 2


def test_seeds_that_lie_apart_ask_for_more_questions_and_then_for_more_than_there_are() -> None:
    told = [power.questions_to_detect(noisy(0.05, wobble), 0.05, 0.025) for wobble in (0.0, 0.004, 0.008, 0.02)]
    assert told[-1] is None and None not in told[:-1]
    assert told[:-1] == sorted(told[:-1])  # type: ignore[type-var]


def test_a_verdict_may_be_nearer_as_a_difference_or_as_none() -> None:
    gap = noisy(0.05, 0.0)
    assert power.questions_to_decide(gap) == power.questions_to_detect(gap, 0.05, 0.025)
    assert power.questions_to_decide(gap, contrasts=10) == power.questions_to_detect(gap, 0.05, 0.0025)
    hardly = noisy(0.001, 0.0)
    assert power.questions_to_decide(hardly) == power.questions_to_detect(
        hardly, significance.EQUIVALENCE_MARGIN - 0.001, 0.05
    )
    edge = noisy(significance.EQUIVALENCE_MARGIN, 0.0)
    assert power.questions_to_decide(edge) == power.questions_to_detect(edge, significance.EQUIVALENCE_MARGIN, 0.025)


def test_no_number_of_questions_helps_where_seeds_differ_too_much() -> None:
    seeds = numpy.array([[0.4], [0.5], [0.7]]) + numpy.zeros((3, 100))
    assert power.questions_to_decide(significance.paired_difference(seeds, 0 * seeds + 0.5)) is None


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_covers_the_truth(seeds: int) -> None:
    """One seed's interval is about the questions alone, so its seeds do not wobble here."""
    dice, hits, runs = numpy.random.default_rng(seeds), 0, 600
    wobble = 0.02 if seeds > 1 else 0.0
    for _ in range(runs):
        found = significance.score_interval(simulated(dice, seeds, wobble=wobble))
        hits += found.low <= 0.5 <= found.high
    assert 0.93 <= hits / runs <= 0.975


def family(dice: numpy.random.Generator, skills: list[float], seeds: int = 3) -> list[seed_variance.Scores]:
    """Methods that answer the same questions; some depend on the seed more than others."""
    hard = dice.beta(1.5, 1.5, 300)
    made = []
    for skill in skills:
        wobble = 0.015 * numpy.exp(0.6 * dice.standard_normal()) * dice.standard_normal((seeds, 1))
        made.append((dice.random((seeds, 300)) < numpy.clip(hard + skill + wobble, 0, 1)).astype(float))
    return made


def judged(methods: list[seed_variance.Scores]) -> list[float]:
    """The p values of all pairs, adjusted, as a comparison makes them."""
    pairs = list(combinations(methods, 2))
    known = seed_variance.SeedVariancePrior.fit([ours - theirs for ours, theirs in pairs], len(methods))
    return significance.holm_adjust([significance.p_value(ours, theirs, known) for ours, theirs in pairs])


def test_false_alarms_stay_rare_over_a_family() -> None:
    """Eight equal methods, any of them against any other: one alarm in twenty comparisons."""
    dice, runs = numpy.random.default_rng(11), 250
    alarms = sum(min(judged(family(dice, [0.0] * 8))) < 0.05 for _ in range(runs))
    assert alarms / runs <= 0.06


def test_seeds_of_all_methods_together_see_what_three_seeds_alone_do_not() -> None:
    dice, seen, alone = numpy.random.default_rng(12), 0, 0
    for _ in range(40):
        methods = family(dice, [0.15] + [0.0] * 7)
        seen += sum(p < 0.05 for p in judged(methods)[:7])
        ps = [significance.p_value(ours, theirs) for ours, theirs in combinations(methods, 2)]
        alone += sum(p < 0.05 for p in significance.holm_adjust(ps)[:7])
    assert seen / 280 > 0.8
    assert alone / 280 < 0.4


def test_intervals_with_a_prior_cover_the_truth() -> None:
    dice, hits = numpy.random.default_rng(13), 0
    for _ in range(120):
        methods = family(dice, [0.0] * 8)
        known = seed_variance.SeedVariancePrior.fit(methods, 8)
        hits += sum(
            found.low <= 0.5 <= found.high for found in (significance.score_interval(one, known) for one in methods)
        )
    assert 0.93 <= hits / 960 <= 0.97


def test_what_agrees_is_moderated_as_in_a_pool() -> None:
    """With equal true variances the prior is the pooled variance, known as well as it may claim."""
    dice = numpy.random.default_rng(14)
    means = 0.5 + 0.02 * dice.standard_normal((4000, 3, 1))
    known = seed_variance.SeedVariancePrior.fit(list(means + numpy.zeros((4000, 3, 2))), 4000)
    assert known.variance == pytest.approx(0.02**2, rel=0.15)
    variance, freedom = known.moderate(0.04**2, 2)
    assert 0.02**2 < variance < 0.04**2
    assert freedom == known.dof + 2


def test_a_method_that_does_not_depend_on_the_seed_has_no_spread_of_seeds() -> None:
    fixed = numpy.repeat(answers(0.5), 3, axis=0)
    known = seed_variance.SeedVariancePrior(10.0, 0.05**2)
    assert significance.paired_difference(fixed, 0 * fixed, known).seed_stderr == 0
    assert significance.score_interval(fixed, known) == significance.score_interval(fixed)


def test_nearly_all_wrong_has_the_bounds_of_clopper_and_pearson() -> None:
    scores = numpy.zeros((1, 500))
    assert significance.score_interval(scores).high == pytest.approx(1 - 0.025 ** (1 / 500), rel=1e-6)
    scores[0, :2] = 1
    exact = scipy_stats.binomtest(2, 500).proportion_ci(method="exact")
    assert significance.score_interval(scores).high == pytest.approx(exact.high, abs=0.002)


def test_few_or_single_seeds_are_no_prior() -> None:
    assert seed_variance.SeedVariancePrior.fit([answers(0.5, seeds=3)] * 2, 2) is seed_variance.NO_PRIOR
    assert seed_variance.SeedVariancePrior.fit([answers(0.5, seeds=3)] * 4, 1) is seed_variance.NO_PRIOR
    assert seed_variance.SeedVariancePrior.fit([answers(0.5)] * 9, 9) is seed_variance.NO_PRIOR
