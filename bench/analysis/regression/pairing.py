"""Records of before and after, put beside each other: what is the same run, what is missing, what does not compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.summary import method_labels
from bench.records import comparability
from bench.records.record import Record, Spec


@dataclass(frozen=True)
class RecordPair:
    """One method on one task and model, before and after; empty where it is missing or new."""

    task: str
    model: str
    method: str
    old: tuple[Record, ...]
    new: tuple[Record, ...]
    unlike: dict[str, tuple[Any, Any]]
    """Terms and settings that differ, with both values: such runs do not compare."""

    @property
    def name(self) -> str:
        """What it is called wherever it is shown."""
        return f"{self.task} · {self.model} · {self.method}"

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return (self.new or self.old)[0].spec.task.metric if self.new or self.old else ""

    @property
    def seeds(self) -> list[int]:
        """Those that both have and that were ok in both."""
        before, after = ({one.spec.seed for one in side if one.status == "ok"} for side in (self.old, self.new))
        return sorted(before & after)

    @property
    def comparison_group(self) -> str:
        """What methods must have in common for a shift of all of them to mean something."""
        return repr(comparability.comparison_terms((self.new or self.old)[0].spec)) if self.new or self.old else ""

    @property
    def trained(self) -> bool:
        """Whether anything was trained, so that a seed decides the outcome."""
        return any(
            record.cost and record.cost.parameters and record.cost.parameters.trainable
            for record in (*self.old, *self.new)
        )

    def both(self) -> Iterator[tuple[Record, Record]]:
        """The runs of each seed that was ok before and after."""
        sides = [{one.spec.seed: one for one in side} for side in (self.old, self.new)]
        for seed in self.seeds:
            yield sides[0][seed], sides[1][seed]


def pair_records(old: Sequence[Record], new: Sequence[Record]) -> list[RecordPair]:
    """Runs of equal keys belong together; of those left, runs of one method on one task do not compare."""
    names = _names([*old, *new])
    before, after = _grouped(old), _grouped(new)
    made = []
    for cell in dict.fromkeys([*before, *after]):
        mine, yours = before.get(cell, {}), after.get(cell, {})
        for key in mine:
            if key in yours:
                made.append(RecordPair(*cell[:2], names[key], tuple(mine[key]), tuple(yours[key]), {}))
        gone, come = ([key for key in side if key not in other] for side, other in ((mine, yours), (yours, mine)))
        for place in range(max(len(gone), len(come))):
            left = tuple(mine[gone[place]]) if place < len(gone) else ()
            right = tuple(yours[come[place]]) if place < len(come) else ()
            unlike = _unlike(left[0].spec, right[0].spec) if left and right else {}
            made.append(RecordPair(*cell[:2], names[(left or right)[0].spec.key], left, right, unlike))
    return made


def _names(records: Sequence[Record]) -> dict[str, str]:
    """A name for every key, no two alike in one task, model and method: with the settings and terms that differ."""
    named, specs = method_labels(records), {record.spec.key: record.spec for record in records}
    families: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for key, spec in specs.items():
        families[spec.task.name, spec.base.name, named[key]].append(key)
    for keys in families.values():
        all_terms = {key: comparability.comparison_terms(specs[key]) for key in keys}
        differing = [name for name in all_terms[keys[0]] if len({repr(of[name]) for of in all_terms.values()}) > 1]
        for key in keys:
            named[key] = " ".join([named[key], *(f"{name}={str(all_terms[key][name])[:8]}" for name in differing)])
    return named


def _grouped(records: Sequence[Record]) -> dict[tuple[str, str, str], dict[str, list[Record]]]:
    """Runs by task, model and method, and in these by key, seeds in order."""
    found: dict[tuple[str, str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda one: one.spec.seed):
        spec = record.spec
        found[spec.task.name, spec.base.name, spec.method.name][spec.key].append(record)
    return found


def _unlike(old: Spec, new: Spec) -> dict[str, tuple[Any, Any]]:
    before, after = (comparability.comparison_terms(spec) | _settings(spec) for spec in (old, new))
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }


def _settings(spec: Spec) -> dict[str, Any]:
    return {f"{spec.method.name}.{name}": value for name, value in spec.method.params.items()}
