"""Power analysis: test questions needed for a verdict, and detectable differences."""

from __future__ import annotations

from math import sqrt

from scipy import special

from bench.analysis.seed_variance import NO_SPREAD, KnownSpread
from bench.analysis.significance import EQUIVALENCE_MARGIN, PairedDifference
from bench.analysis.statistic import SIGNIFICANCE_LEVEL

POWER = 0.80
MAX_QUESTIONS = 10_000_000  # A larger test set is never labeled.


def questions_to_decide(
    difference: PairedDifference, n_contrasts: int = 1, margin: float = EQUIVALENCE_MARGIN
) -> int | None:
    """Estimate the test questions that would settle an inconclusive difference.

    The estimate assumes that the true difference is the observed one. It is the smaller of two numbers: the questions
    that detect the difference with 80 % power, and the questions that show it to be smaller than the margin.

    Args:
        difference: The observed paired difference.
        n_contrasts: Number of comparisons that the significance level is divided by (Bonferroni).
        margin: Equivalence margin, in units of the score.

    Returns:
        A number of questions, or None if no number is enough because the seeds alone leave it inconclusive.
    """
    observed = abs(difference.ci95.mean)
    estimates = [questions_to_detect(difference, observed, SIGNIFICANCE_LEVEL / 2 / n_contrasts)]
    if observed < margin:
        estimates.append(questions_to_detect(difference, margin - observed, SIGNIFICANCE_LEVEL))
    return min((questions for questions in estimates if questions), default=None)


def questions_to_detect(difference: PairedDifference, effect: float, level: float) -> int | None:
    """Estimate the test questions at which a one-sided test detects an effect with 80 % power.

    The squared standard error is that of the questions, which shrinks with their number, plus that of the seeds, which
    does not. The degrees of freedom of the sum are Satterthwaite's approximation
    (https://doi.org/10.2307/3002019).

    Args:
        difference: Source of the two standard errors.
        effect: True distance from the tested value, in units of the score.
        level: One-sided significance level.

    Returns:
        A number of questions, at most about 1 % above the smallest, or None if `MAX_QUESTIONS` are not enough.
    """

    def is_detected(questions: float) -> bool:
        question_variance, seed_variance = difference.question_std**2 / questions, difference.seed_stderr**2
        dof = (question_variance + seed_variance) ** 2 / (
            question_variance**2 / (questions / difference.questions_per_unit) + seed_variance**2 / difference.dof
        )
        critical = special.stdtrit(dof, 1 - level) + special.ndtri(POWER)
        return bool(effect >= critical * sqrt(question_variance + seed_variance))

    if not is_detected(MAX_QUESTIONS):
        return None
    low, high = difference.n_questions + 1, MAX_QUESTIONS
    while high - low > 1 + low // 100:
        middle = (low + high) // 2
        low, high = (low, middle) if is_detected(middle) else (middle, high)
    return low if is_detected(low) else high


def detectable_difference(n_questions: int, known: KnownSpread = NO_SPREAD, discordance: float = 0.10) -> float:
    """Return the smallest true difference of a right-or-wrong score that one seed detects.

    The power is 80 % at the two-sided 5 % level, by the normal approximation of McNemar's test:
    (z.975 + z.80) · √(discordance / n_questions), as in Connor (1987), https://doi.org/10.2307/2531961, for a small
    difference; the known variance between seeds is added below the root.

    Args:
        n_questions: Number of test questions.
        known: Known spread between seeds of the difference.
        discordance: Share of questions that exactly one of the two methods answers right.
    """
    return (1.959964 + 0.841621) * sqrt(discordance / n_questions + known.variance)
