"""Runs of one task and model, divided into sets with equal comparison terms."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.records import Record, Spec
from bench.records.comparability import comparison_terms

TRAINING_SIZE_TERM = "budget.examples"
ID_CHARS = 6
"""Characters of the digest that names a set."""


@dataclass(frozen=True)
class RunSet:
    """Runs with equal comparison terms; only the number of training examples may differ.

    Attributes:
        id: Digest of the terms, for the option `--terms`.
        records_by_limit: The records by the limit of training examples, the largest size last; None is no limit.
        sizes: The number of training examples of each limit, ascending; empty if there is only one limit.
    """

    id: str
    records_by_limit: dict[int | None, tuple[Record, ...]]
    sizes: tuple[int, ...] = ()

    @cached_property
    def records(self) -> list[Record]:
        """Records of all training sizes."""
        return [record for records in self.records_by_limit.values() for record in records]

    @property
    def compared_records(self) -> tuple[Record, ...]:
        """Records of the largest training size."""
        return next(reversed(self.records_by_limit.values()))

    @property
    def spec(self) -> Spec:
        """Settings of a run of the largest training size, which stand for those of all runs."""
        return self.compared_records[0].spec

    @property
    def newest_start(self) -> str:
        """Start of the newest run, ISO 8601; empty if no record has one."""
        return _newest_start(self.records)


def divide_by_terms(records: Sequence[Record]) -> list[RunSet]:
    """Divide runs of one task and model into sets with equal terms, the newest first.

    Of sets without a start the one with more runs comes first.
    """
    records_by_terms: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        terms = comparison_terms(record.spec)
        del terms[TRAINING_SIZE_TERM]
        records_by_terms[json.dumps(terms, sort_keys=True)].append(record)
    sets = [run_set for terms, group in records_by_terms.items() for run_set in _divide_by_size(group, terms)]
    return sorted(sets, key=lambda run_set: (run_set.newest_start, len(run_set.records)), reverse=True)


def _divide_by_size(records: Sequence[Record], terms: str) -> list[RunSet]:
    """Return a set with every training size, and sets of runs that would repeat one.

    Two limits give the same size if one of them is not below the number of all examples. The newer runs are kept
    together then. Runs without a limit whose number of examples is unknown are a set of their own too.
    """
    by_limit: dict[int | None, list[Record]] = defaultdict(list)
    for record in records:
        by_limit[record.spec.budget.examples].append(record)
    sized: dict[int, int | None] = {}
    apart: list[int | None] = []
    for limit in sorted(by_limit, key=lambda limit: _newest_start(by_limit[limit]), reverse=True):
        size = _num_examples(limit, by_limit[limit])
        if len(by_limit) > 1 and (size is None or size in sized):
            apart.append(limit)
        else:
            sized[size or 0] = limit
    sets = [RunSet(_digest(f"{terms} {limit}"), {limit: tuple(by_limit[limit])}) for limit in apart]
    if sized:
        ascending = {sized[size]: tuple(by_limit[sized[size]]) for size in sorted(sized)}
        sets.append(RunSet(_digest(terms), ascending, tuple(sorted(sized)) if len(sized) > 1 else ()))
    return sets


def _num_examples(limit: int | None, records: Iterable[Record]) -> int | None:
    """Return the number of training examples of runs with one limit; None if unknown.

    Any run that trained has recorded the number of examples that it was given. Records of early versions lack it; it
    then follows from examples and epochs, most exactly for the run with the most epochs, because epochs are rounded.
    """
    usages = [record.cost.budget_usage for record in records if record.cost and record.cost.budget_usage]
    recorded = next((usage.train_size for usage in usages if usage.train_size), None)
    longest = max(usages, key=lambda usage: usage.epochs, default=None)
    if recorded is None and longest and longest.epochs:
        recorded = round(longest.examples / longest.epochs)
    return min(filter(None, (limit, recorded)), default=None)


def _newest_start(records: Iterable[Record]) -> str:
    return max((record.env.started for record in records if record.env), default="")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARS]
