"""Pairs of old and new records of the same runs, with the terms in which they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from bench.analysis.summary import method_labels
from bench.errors import UserError
from bench.i18n import Message
from bench.records import Record, Spec, comparability

MethodId = tuple[str, str, str]
"""Names of a task, a model and a method."""


@dataclass(frozen=True)
class RecordPair:
    """Old and new records of one method on one task and model."""

    task: str
    model: str
    method: str
    """Label of the method; no two pairs of a task and model have the same."""
    old: tuple[Record, ...]
    """One record per seed, by seed; empty if the run is new."""
    new: tuple[Record, ...]
    """One record per seed, by seed; empty if the run is missing."""
    differences: dict[str, tuple[Any, Any]]
    """Old and new value of each term and hyper-parameter that differs; if there are any, scores are not compared."""

    @property
    def name(self) -> str:
        """Task, model and method in one line."""
        return f"{self.task} · {self.model} · {self.method}"

    @property
    def metric(self) -> str:
        """Main metric of the task; empty without records."""
        records = self.new or self.old
        return records[0].spec.task.metric if records else ""

    @property
    def gates_macro_f1(self) -> bool:
        """True if macro-F1 is gated beside the main metric.

        It falls where the answers to a rare label are lost and others are gained, so that em stays equal.
        """
        records = [record for both in self.matched_records() for record in both]
        return self.metric != "macro-f1" and all("macro-f1" in record.all_scores for record in records)

    @property
    def seeds(self) -> list[int]:
        """Seeds whose runs succeeded before and after, ascending."""
        old_seeds = {record.spec.seed for record in self.old if record.status == "ok"}
        new_seeds = {record.spec.seed for record in self.new if record.status == "ok"}
        return sorted(old_seeds & new_seeds)

    @property
    def comparison_group(self) -> str:
        """Terms of the comparison in one string: methods with equal terms can have a common shift."""
        records = self.new or self.old
        return repr(comparability.comparison_terms(records[0].spec)) if records else ""

    @property
    def trained(self) -> bool:
        """True if any run has trainable parameters, so that scores depend on the seed."""
        return any(
            record.cost and record.cost.parameters and record.cost.parameters.trainable
            for record in (*self.old, *self.new)
        )

    @property
    def deterministic(self) -> bool:
        """False if a record says that equal settings may give other answers."""
        return not any(record.env and record.env.deterministic is False for record in (*self.old, *self.new))

    def matched_records(self) -> Iterator[tuple[Record, Record]]:
        """Yield the old and the new record of each seed that succeeded before and after."""
        old_by_seed = {record.spec.seed: record for record in self.old}
        new_by_seed = {record.spec.seed: record for record in self.new}
        for seed in self.seeds:
            yield old_by_seed[seed], new_by_seed[seed]


def pair_records(old: Sequence[Record], new: Sequence[Record]) -> list[RecordPair]:
    """Pair old records with new ones.

    Runs with equal keys are paired. Of the remaining runs, those of one method on one task and model are paired in
    order, and the pair names the terms in which they differ. What is left over is missing or new. New runs that are
    left over of a method that has old runs are paired with one of them as well: they may be what the changed code
    makes, beside records of the old code that were left in the folder.

    Raises:
        UserError: If there are two records of one seed.
    """
    labels = _unique_labels([*old, *new])
    old_runs, new_runs = _group_runs(old), _group_runs(new)
    pairs = []
    for method_id in dict.fromkeys([*old_runs, *new_runs]):
        old_by_key, new_by_key = old_runs.get(method_id, {}), new_runs.get(method_id, {})
        task, model, _ = method_id
        for key, old_records in old_by_key.items():
            if key in new_by_key:
                pairs.append(RecordPair(task, model, labels[key], tuple(old_records), tuple(new_by_key[key]), {}))
        old_only = [records for key, records in old_by_key.items() if key not in new_by_key]
        new_only = [records for key, records in new_by_key.items() if key not in old_by_key]
        no_records: list[Record] = []
        for before, after in zip_longest(old_only, new_only, fillvalue=no_records):
            if not before and old_by_key:
                before = next(iter(old_by_key.values()))
            differences = _spec_differences(before[0].spec, after[0].spec) if before and after else {}
            label = labels[(after or before)[0].spec.key]
            pairs.append(RecordPair(task, model, label, tuple(before), tuple(after), differences))
    return pairs


def _unique_labels(records: Sequence[Record]) -> dict[str, str]:
    """Return a label for each key; no two are equal within a task and model.

    The label is the method's name, followed by the hyper-parameters and the terms in which keys of that name differ.
    """
    labels = method_labels(records)
    specs = {record.spec.key: record.spec for record in records}
    keys_by_label: dict[MethodId, list[str]] = defaultdict(list)
    for key, spec in specs.items():
        keys_by_label[spec.task.name, spec.base.name, labels[key]].append(key)
    for keys in keys_by_label.values():
        terms = {key: comparability.comparison_terms(specs[key]) for key in keys}
        differing = [
            name for name in terms[keys[0]] if len({repr(terms_of_key[name]) for terms_of_key in terms.values()}) > 1
        ]
        for key in keys:
            values = [f"{name}={str(terms[key][name])[:8]}" for name in differing]
            labels[key] = " ".join([labels[key], *values])
    return labels


def _group_runs(records: Sequence[Record]) -> dict[MethodId, dict[str, list[Record]]]:
    """Group records by task, model and method, then by key, with ascending seeds."""
    runs: dict[MethodId, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record.spec.seed):
        spec = record.spec
        same_runs = runs[spec.task.name, spec.base.name, spec.method.name][spec.key]
        if same_runs and same_runs[-1].spec.seed == spec.seed:
            raise UserError(
                Message("two records of the run {id}", id=record.id), hint=Message("compare one record of each run")
            )
        same_runs.append(record)
    return runs


def _spec_differences(old: Spec, new: Spec) -> dict[str, tuple[Any, Any]]:
    """Return both values of each term and hyper-parameter that differs."""
    old_values, new_values = _terms_and_params(old), _terms_and_params(new)
    return {
        name: (old_values.get(name), new_values.get(name))
        for name in dict.fromkeys([*old_values, *new_values])
        if old_values.get(name) != new_values.get(name)
    }


def _terms_and_params(spec: Spec) -> dict[str, Any]:
    params = {f"{spec.method.name}.{name}": value for name, value in spec.method.params.items()}
    return comparability.comparison_terms(spec) | params
