"""Records to comparisons: one section for each task and model, with what was trained on fewer examples beside it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.analysis import comparison
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.summary import MethodSummary, summarize_methods
from bench.errors import UserError
from bench.records import comparability, reader
from bench.records.record import Record, record_files

SIZE = "budget.examples"


@dataclass(frozen=True)
class TaskResults:
    """One task on one model: what a table shows, and the same methods on fewer training examples."""

    model: str
    """Its name, as short as tells it from the others."""
    records: tuple[Record, ...]
    """Those of the largest training size: they are what is compared."""
    sizes: dict[int, tuple[Record, ...]]
    """All records by training examples, fewest first; empty where all were made with one size."""

    @property
    def task(self) -> str:
        """The task's name."""
        return self.records[0].spec.task.name

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return self.records[0].spec.task.metric

    @property
    def title(self) -> str:
        """The task and the model."""
        return f"{self.task} · {self.model}"

    @property
    def all_records(self) -> list[Record]:
        """All records, with those of fewer examples."""
        return [record for some in self.sizes.values() for record in some] or list(self.records)

    @cached_property
    def comparison(self) -> Comparison:
        """Who leads, who beats the controls, and how sure that is."""
        return comparison.compare_methods(self.records)

    @cached_property
    def by_size(self) -> list[tuple[tuple[Record, ...], tuple[MethodResult, ...]]]:
        """All records and what they scored, by training size, fewest examples first: the last is what is compared."""
        smaller = list(self.sizes.values())[:-1]
        return [
            *((some, tuple(comparison.method_results(some))) for some in smaller),
            (self.records, self.comparison.results),
        ]

    @cached_property
    def rows(self) -> list[MethodSummary]:
        """What each method earned and cost, best first."""
        return summarize_methods(self.records)

    @cached_property
    def rows_by_size(self) -> dict[int, list[MethodSummary]]:
        """The same for each number of training examples, fewest first; empty where all were made with one."""
        fewer = {size: summarize_methods(some) for size, some in list(self.sizes.items())[:-1]}
        return fewer | {size: self.rows for size in list(self.sizes)[-1:]}

    @property
    def slug(self) -> str:
        """The title as a part of a file's name or an address."""
        return re.sub(r"[^\w.-]+", "-", f"{self.task}-{self.model}")


def read_records(paths: Sequence[Path]) -> list[Record]:
    """Every record in files and folders, each once; raises `UserError` where there is none or one cannot be read."""
    found: dict[str, Record] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder", hint="name a record, or a folder of `bench run --out`")
        found_here = find_record_files(path)
        for file, one in zip(found_here, reader.read_files(found_here), strict=True):
            if one.spec.split != "test":  # a trial: what it was for stands in the record of the run it served
                continue
            if found.setdefault(one.id, one) != one:
                raise UserError(
                    f"two records of the same run, {one.id}, that are not the same",
                    location=str(file),
                    hint="read one of the folders at a time",
                )
    if not found:
        raise UserError(
            f"no record in {', '.join(map(str, paths))}", hint="make some: bench run --methods lora --task bookrec"
        )
    return list(found.values())


def find_record_files(path: Path) -> list[Path]:
    """The files of records in a folder and below, or the one that is named; what is hidden is none."""
    if not path.is_dir():
        return [path]
    return record_files(path)


def group_by_task(records: Sequence[Record]) -> list[TaskResults]:
    """Sections in the order of their first records.

    Raises `UserError` where records of one task and model were made under terms that differ in more than the training
    size, or where a task is there in two versions.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.task.name, record.spec.base.sha256].append(record)
    names = Counter((group[0].spec.task.name, group[0].spec.base.name) for group in groups.values())
    return [_section(group, names[group[0].spec.task.name, group[0].spec.base.name] > 1) for group in groups.values()]


def _section(group: list[Record], twins: bool) -> TaskResults:
    """`twins`: another model of this task has the same name, so its digest tells them apart."""
    comparability.require_comparable(group, but=(SIZE,))
    model = f"{group[0].spec.base.name} {group[0].spec.base.sha256[:6]}" if twins else group[0].spec.base.name
    sizes: dict[int | None, list[Record]] = defaultdict(list)
    for record in group:
        sizes[record.spec.budget.examples].append(record)
    if len(sizes) == 1:
        return TaskResults(model, tuple(group), {})
    known: dict[int, tuple[Record, ...]] = {}
    for size, some in sizes.items():
        number = size or _all_examples(some)
        if number in known:
            raise UserError(
                f"runs on all {number} examples, and runs that were granted {number}, are the same runs twice",
                location=f"{known[number][0].id} and {some[0].id}",
                hint="report on one of them: take the others out of the folder",
            )
        known[number] = tuple(some)
    ordered = {size: known[size] for size in sorted(known)}
    return TaskResults(model, next(reversed(ordered.values())), ordered)


def _all_examples(records: Sequence[Record]) -> int:
    """How many there are where none were left out: told by any run that came to fitting."""
    spent = [record.cost.budget_usage for record in records if record.cost and record.cost.budget_usage]
    for one in spent:
        if one.train_size:
            return one.train_size
    most = max(spent, key=lambda one: one.epochs, default=None)  # of old records the most exact: passes are rounded
    if most and most.epochs:
        return round(most.examples / most.epochs)
    raise UserError(
        "no run on all training examples tells how many these are",
        location=records[0].id,
        hint="report on these records apart, or run one of its methods again with --force",
    )
