"""Records grouped by task and model, with smaller training sizes beside them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.analysis import comparison
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.summary import MethodSummary, summarize_methods
from bench.errors import UserError
from bench.records import Record, comparability

MAX_SLUG_CHARS = 60
"""Longer titles are cut in file names, which have at most 255 bytes."""
TRAINING_SIZE_TERM = "budget.examples"


@dataclass(frozen=True)
class TaskResults:
    """Results of one task on one model."""

    model: str
    """Name of the model, with part of its digest if another model of the task has the same name."""
    records: tuple[Record, ...]
    """Records of the largest training size, which are the ones compared."""
    records_by_size: dict[int, tuple[Record, ...]]
    """All records by number of training examples, ascending; empty if all have the same size."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.records[0].spec.task.name

    @property
    def metric(self) -> str:
        """Main metric of the task."""
        return self.records[0].spec.task.metric

    @property
    def title(self) -> str:
        """Names of the task and the model."""
        return f"{self.task} · {self.model}"

    @property
    def slug(self) -> str:
        """The title for file names and URLs, with a digest if it had to be changed."""
        names = f"{self.task}-{self.model}"
        fitting = re.sub(r"[^\w.-]+", "-", names)[:MAX_SLUG_CHARS]
        is_changed = fitting != names.replace(" ", "-")
        return f"{fitting}-{hashlib.sha256(names.encode()).hexdigest()[:6]}" if is_changed else fitting

    @property
    def all_records(self) -> list[Record]:
        """Records of all training sizes."""
        if not self.records_by_size:
            return list(self.records)
        return [record for records in self.records_by_size.values() for record in records]

    @cached_property
    def comparison(self) -> Comparison:
        """Comparison of the methods at the largest training size."""
        return comparison.compare_methods(self.records)

    @cached_property
    def results_by_size(self) -> list[tuple[tuple[Record, ...], tuple[MethodResult, ...]]]:
        """Records and results of each training size, ascending; the last is compared."""
        smaller = list(self.records_by_size.values())[:-1]
        return [
            *((records, tuple(comparison.method_results(records))) for records in smaller),
            (self.records, self.comparison.results),
        ]

    @cached_property
    def summaries(self) -> list[MethodSummary]:
        """Scores and costs of each method at the largest training size, best first."""
        return summarize_methods(self.records)

    @cached_property
    def summaries_by_size(self) -> dict[int, list[MethodSummary]]:
        """Summaries by ascending number of training examples; empty for a single size."""
        smaller = list(self.records_by_size.items())[:-1]
        summaries = {size: summarize_methods(records) for size, records in smaller}
        for largest in list(self.records_by_size)[-1:]:
            summaries[largest] = self.summaries
        return summaries


def group_by_task(records: Sequence[Record]) -> list[TaskResults]:
    """Group records by task and model, in the order of their first records.

    Raises:
        UserError: If records of one task and model were made under terms that differ in more than the training size,
            or if they are of two versions of a task.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.task.name, record.spec.base.sha256].append(record)
    names = [(group[0].spec.task.name, group[0].spec.base.name) for group in groups.values()]
    counts = Counter(names)
    return [
        _task_results(group, shared_name=counts[name] > 1) for group, name in zip(groups.values(), names, strict=True)
    ]


def _task_results(group: list[Record], shared_name: bool) -> TaskResults:
    """Return the results of one task and model.

    Args:
        group: Records of the task and model.
        shared_name: True if another model of the task has the same name; the label then has part of the digest.
    """
    comparability.require_comparable(group, but=(TRAINING_SIZE_TERM,))
    base = group[0].spec.base
    model = f"{base.name} {base.sha256[:6]}" if shared_name else base.name
    records_by_budget: dict[int | None, list[Record]] = defaultdict(list)
    for record in group:
        records_by_budget[record.spec.budget.examples].append(record)
    if len(records_by_budget) == 1:
        return TaskResults(model, tuple(group), {})
    records_by_size: dict[int, tuple[Record, ...]] = {}
    for examples, records in records_by_budget.items():
        size = examples or _all_examples(records)
        if size in records_by_size:
            raise UserError(
                f"runs on all {size} examples and runs with the budget examples={size} are the same runs twice",
                location=f"{records_by_size[size][0].id} and {records[0].id}",
                hint="report on one of the two: move the others out of the folder",
            )
        records_by_size[size] = tuple(records)
    ascending = {size: records_by_size[size] for size in sorted(records_by_size)}
    return TaskResults(model, next(reversed(ascending.values())), ascending)


def _all_examples(records: Sequence[Record]) -> int:
    """Return the number of training examples of runs without a limit.

    Any run that trained has recorded it.

    Records of early versions lack the number. It then follows from examples and epochs, most exactly for the run with
    the most epochs, because epochs are rounded.
    """
    usages = [record.cost.budget_usage for record in records if record.cost and record.cost.budget_usage]
    for usage in usages:
        if usage.train_size:
            return usage.train_size
    longest = max(usages, key=lambda usage: usage.epochs, default=None)
    if longest and longest.epochs:
        return round(longest.examples / longest.epochs)
    raise UserError(
        "the number of all training examples is unknown: no run without a limit of examples recorded it",
        location=records[0].id,
        hint="report on these records separately, or run one of the methods again with --force",
    )
