"""Spread between seeds that was measured on other tasks, by kind of method.

One seed shows nothing of the spread between seeds, and two show little. Until there are three, the spread of earlier
runs is used. The values are fitted by `benchmarks/seed_spread.py` to the runs in `benchmarks/seed_spread.csv`;
docs/judging.md tells what they were measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.analysis.seed_variance import NO_SPREAD, KnownSpread, Scores
from bench.records import Record

SpreadKind = Literal["trained", "briefly trained", "prompted", "sampled"]
"""Trained by gradient, in fewer than `FEW_STEPS` steps or in more; prompted with solved examples that the seed draws;
or fitted without gradients to training examples, or folds, that the seed draws."""

FEW_STEPS = 100
"""Runs with fewer optimizer steps differ more between seeds: some have learned the task, others only its labels."""
REFERENCE_DOF = 30.0
"""Degrees of freedom of the known spread: those of a known size.

Spreads differ from setting to setting, so the size is that whose 98 % range contains 98 % of the scores of all of them.
Larger deviations are rare, and the adjustment for many comparisons leaves room for them (benchmarks/verdicts.py).
"""


@dataclass(frozen=True)
class MeasuredSpread:
    """Spread between seeds of one kind of method."""

    share: float
    """Variance between seeds, as a share of the variance of the scores over the questions."""
    n_runs: int
    """Number of runs that it was measured on, three or more of each method, model and task."""


MEASURED: dict[SpreadKind, MeasuredSpread] = {
    "trained": MeasuredSpread(share=0.0026, n_runs=24),
    "briefly trained": MeasuredSpread(share=0.0548, n_runs=21),
    "prompted": MeasuredSpread(share=0.0071, n_runs=27),
    "sampled": MeasuredSpread(share=0.0013, n_runs=27),
}

_PROMPTED_METHODS = ("few-shot", "cot")
_SAMPLED_METHODS = ("majority", "nearest", "tfidf", "features")


def known_spread(record: Record, scores: Scores) -> KnownSpread:
    """Return the spread between seeds that a method is known to have.

    Args:
        record: A run of the method.
        scores: Its scores (seeds, questions).
    """
    kind = kind_of(record)
    is_equal_for_all_seeds = len(scores) > 1 and bool((scores == scores[0]).all())
    return NO_SPREAD if kind is None or is_equal_for_all_seeds else spread_of_scores(kind, scores)


def spread_of_scores(kind: SpreadKind, scores: Scores) -> KnownSpread:
    """Return the known spread of scores (seeds, questions) of one kind of method.

    It is a share of the variance over the questions, so it has the unit of the score, and it vanishes where all answers
    are right or all are wrong.
    """
    variance = MEASURED[kind].share * float(scores.var(axis=1).mean())
    return KnownSpread(variance, REFERENCE_DOF) if variance else NO_SPREAD


def kind_of(record: Record) -> SpreadKind | None:
    """Return the kind of method of a run; None if the seed makes no difference.

    A method of a user may do anything with the seed, so it counts as trained. Its reference is a path or
    `module:Class`, never one of the names here.
    """
    name, uses_all_examples = record.spec.method.ref, record.spec.budget.examples is None
    if name == "zero-shot" or (name in _SAMPLED_METHODS and name != "features" and uses_all_examples):
        return None
    if name in _SAMPLED_METHODS:
        return "sampled"
    if name in _PROMPTED_METHODS:
        return "prompted"
    usage = record.cost.budget_usage if record.cost else None
    return "briefly trained" if usage and 0 < usage.steps < FEW_STEPS else "trained"
