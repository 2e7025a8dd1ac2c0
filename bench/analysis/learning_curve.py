"""Score by number of training examples, and whether more labels would help."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from bench.analysis import comparison
from bench.analysis.comparison import MethodResult
from bench.analysis.significance import EQUIVALENCE_MARGIN, Interval
from bench.analysis.task_results import TaskResults
from bench.records import Record


@dataclass(frozen=True)
class LearningCurve:
    """Results of one method at two or more training sizes."""

    name: str
    """Label of the method at its largest size."""
    control: bool
    sizes: tuple[int, ...]
    """Numbers of training examples, ascending."""
    results: tuple[MethodResult, ...]
    """One result per size."""

    @property
    def gain(self) -> Interval:
        """Score gained per doubling of the labels between the two largest sizes.

        The difference is paired by seed and question, and divided by the number of doublings.
        """
        smaller, larger = self.results[-2:]
        difference = comparison.paired_difference_of(larger, smaller).ci95
        doublings = log2(self.sizes[-1] / self.sizes[-2])
        return Interval(difference.mean / doublings, difference.low / doublings, difference.high / doublings)

    @property
    def verdict(self) -> str:
        """Answer to the question of whether more labels would help.

        "yes" if the gain is significantly above zero, "no" if it is below the equivalence margin, otherwise
        "inconclusive".
        """
        gain = self.gain
        if gain.low > 0:
            return "yes"
        return "no" if gain.high < EQUIVALENCE_MARGIN else "inconclusive"


def learning_curves(task_results: TaskResults) -> dict[str, LearningCurve]:
    """Return the curves of methods with results at the largest and another size.

    Returns:
        Curves by the key that the method has at the largest size.
    """
    largest_size = max(task_results.records_by_size, default=0)
    results_by_identity: dict[str, dict[int, MethodResult]] = {}
    for size, (_, results) in zip(task_results.records_by_size, task_results.results_by_size, strict=False):
        for result in results:
            results_by_identity.setdefault(_untuned_identity(result.records[0]), {})[size] = result
    curves = {}
    for by_size in results_by_identity.values():
        if len(by_size) > 1 and largest_size in by_size:
            largest = by_size[largest_size]
            curves[largest.key] = LearningCurve(
                name=largest.name, control=largest.control, sizes=tuple(by_size), results=tuple(by_size.values())
            )
    return curves


def _untuned_identity(record: Record) -> str:
    """Identify a method over training sizes by its name and untuned hyper-parameters."""
    spec = record.spec
    tuned = record.tuning.ranges if record.tuning else {}
    fixed = [(name, value) for name, value in sorted(spec.method.params.items()) if name not in tuned]
    return repr((spec.method.name, fixed))
