"""Quality against training size, and whether more labels would help."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from bench.analysis import comparison, significance
from bench.analysis.comparison import MethodResult
from bench.analysis.significance import Interval
from bench.analysis.task_results import TaskResults
from bench.records.record import Record


@dataclass(frozen=True)
class LearningCurve:
    """One method over training sizes, fewest examples first."""

    name: str
    control: bool
    sizes: tuple[int, ...]
    cells: tuple[MethodResult, ...]

    @property
    def gain(self) -> Interval:
        """What a doubling of the labels brought between the last two sizes, paired by seed and question."""
        less, more = self.cells[-2:]
        found = comparison.contrast_between(more, less).interval
        doublings = log2(self.sizes[-1] / self.sizes[-2])
        return Interval(*(value / doublings for value in (found.mean, found.low, found.high)))

    @property
    def verdict(self) -> str:
        """Whether more labels would help: "yes", "no" (a doubling brings less than makes a difference), or "inconclusive"."""
        gain = self.gain
        return "yes" if gain.low > 0 else "no" if gain.high < significance.EQUIVALENCE_MARGIN else "inconclusive"


def learning_curves(section: TaskResults) -> dict[str, LearningCurve]:
    """By the key that a method has at the largest size; methods that were ok with that and one more at least."""
    largest = max(section.sizes, default=0)
    points: dict[str, dict[int, MethodResult]] = {}
    keys: dict[str, str] = {}
    for size, (_, cells) in zip(section.sizes, section.by_size, strict=False):
        for cell in cells:
            one = _identity(cell.records[0])
            points.setdefault(one, {})[size] = cell
            keys[one] = cell.key
    return {
        keys[one]: LearningCurve(
            next(reversed(found.values())).name, next(iter(found.values())).control, *_parted(found)
        )
        for one, found in points.items()
        if len(found) > 1 and largest in found
    }


def _parted(found: dict[int, MethodResult]) -> tuple[tuple[int, ...], tuple[MethodResult, ...]]:
    return tuple(found), tuple(found.values())


def _identity(record: Record) -> str:
    """What stays the same of a method over training sizes: all but what was tuned for each."""
    spec, tuned = record.spec, record.tuning.ranges if record.tuning else ()
    return repr((spec.method.name, [item for item in sorted(spec.method.params.items()) if item[0] not in tuned]))
