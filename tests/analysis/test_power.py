"""Test questions needed for a verdict, against simulation and exhaustive search."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats as scipy_stats

from bench.analysis.power import detectable_difference, questions_to_decide, questions_to_detect
from bench.analysis.significance import EQUIVALENCE_MARGIN, Interval, PairedDifference, paired_difference


def make_difference(
    mean: float, seed_stderr: float, dof: float = 2.0, question_std: float = 0.5, n_seeds: int = 3
) -> PairedDifference:
    interval = Interval(mean, 0, 0)
    return PairedDifference(
        ci95=interval,
        ci90=interval,
        p_value=0.3,
        n_seeds=n_seeds,
        n_questions=100,
        question_std=question_std,
        seed_stderr=seed_stderr,
        dof=dof,
    )


def search_questions(difference: PairedDifference, effect: float, level: float) -> int | None:
    """Smallest number of questions that detects an effect (Satterthwaite), by trying all; None if seeds hide it."""
    critical = scipy_stats.t.ppf(1 - level, difference.dof) + scipy_stats.norm.ppf(0.8)
    if critical * difference.seed_stderr > effect:
        return None
    n_questions = numpy.arange(difference.n_questions + 1, 10**5)
    question_variance, seed_variance = difference.question_std**2 / n_questions, difference.seed_stderr**2
    dof = (question_variance + seed_variance) ** 2 / (
        question_variance**2 / n_questions + seed_variance**2 / difference.dof
    )
    critical = scipy_stats.t.ppf(1 - level, dof) + scipy_stats.norm.ppf(0.8)
    return int(n_questions[critical * numpy.sqrt(question_variance + seed_variance) <= effect][0])


def test_questions_to_decide_gives_promised_power() -> None:
    rng, n_significant = numpy.random.default_rng(5), 0
    n_questions = questions_to_decide(make_difference(0.04, 0.0, dof=1, n_seeds=1))
    assert n_questions is not None
    for _ in range(300):
        differences = 0.04 + 0.5 * rng.standard_normal((1, n_questions))
        n_significant += paired_difference(differences, numpy.zeros_like(differences)).p_value < 0.05
    assert 0.74 < n_significant / 300 < 0.86


@pytest.mark.parametrize(
    ("effect", "seed_stderr", "dof"),
    [(0.05, 0.0, 1.0), (0.05, 0.008, 2.0), (0.05, 0.012, 5.0), (0.06, 0.01, 2.0), (0.1, 0.02, 4.0), (0.02, 0.01, 2.0)],
)
def test_questions_to_detect_is_result_of_exhaustive_search(effect: float, seed_stderr: float, dof: float) -> None:
    difference = make_difference(effect, seed_stderr, dof)
    for level in (0.025, 0.005):
        smallest, estimate = search_questions(difference, effect, level), questions_to_detect(difference, effect, level)
        assert (estimate is None) == (smallest is None)
        assert estimate is None or smallest is None or smallest <= estimate <= 1.011 * smallest + 2


def test_questions_to_detect_grows_with_seed_stderr_until_none() -> None:
    estimates = [
        questions_to_detect(make_difference(0.05, stderr), 0.05, 0.025) for stderr in (0.0, 0.004, 0.008, 0.02)
    ]
    assert estimates[-1] is None and None not in estimates[:-1]
    assert estimates[:-1] == sorted(estimates[:-1])  # type: ignore[type-var]


def test_questions_to_decide_is_smaller_of_difference_and_equivalence() -> None:
    clear = make_difference(0.05, 0.0)
    assert questions_to_decide(clear) == questions_to_detect(clear, 0.05, 0.025)
    assert questions_to_decide(clear, n_contrasts=10) == questions_to_detect(clear, 0.05, 0.0025)
    tiny = make_difference(0.001, 0.0)
    assert questions_to_decide(tiny) == questions_to_detect(tiny, EQUIVALENCE_MARGIN - 0.001, 0.05)
    at_margin = make_difference(EQUIVALENCE_MARGIN, 0.0)
    assert questions_to_decide(at_margin) == questions_to_detect(at_margin, EQUIVALENCE_MARGIN, 0.025)


def test_questions_to_decide_large_seed_variance_is_none() -> None:
    scores = numpy.array([[0.4], [0.5], [0.7]]) + numpy.zeros((3, 100))
    assert questions_to_decide(paired_difference(scores, 0 * scores + 0.5)) is None


@pytest.mark.parametrize(("n_questions", "discordance"), [(200, 0.1), (500, 0.1), (500, 0.25)])
def test_detectable_difference_is_normal_approximation_of_mcnemar(n_questions: int, discordance: float) -> None:
    expected = (scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)) * (discordance / n_questions) ** 0.5
    assert detectable_difference(n_questions, discordance=discordance) == pytest.approx(expected, rel=1e-5)
    assert detectable_difference(500) == pytest.approx(0.0396, abs=5e-4)
