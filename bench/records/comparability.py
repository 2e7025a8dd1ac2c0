"""What runs must have in common for their scores to stand in one table."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from bench.errors import UserError
from bench.records.record import Record, Spec

MACHINE_FIELDS = ("processor", "cores", "threads", "device", "processes")


def comparison_terms(spec: Spec) -> dict[str, Any]:
    """The terms of a comparison by their dotted names: data, weights, precision, budget, decoding and exam."""
    whole = spec.model_dump(mode="json", include={"task", "base", "budget", "decoding", "split"})
    for found_by in (("task", "ref"), ("base", "ref"), ("base", "revision")):
        del whole[found_by[0]][found_by[1]]  # where a thing lies does not change what it is
    return dict(_flat(whole, ""))


def require_comparable(records: Sequence[Record], but: Container[str] = ()) -> None:
    """Refuse to compare records whose terms differ in more than `but`, naming the terms and a record on either side."""
    if not records:
        return
    first = comparison_terms(records[0].spec)
    for record in records[1:]:
        other = comparison_terms(record.spec)
        unlike = [name for name in first if first[name] != other[name] and name not in but]
        if unlike:
            told = "; ".join(f"{name}: {_short(first[name])} and {_short(other[name])}" for name in unlike)
            raise UserError(
                f"runs under different terms do not stand in one table: {told}",
                location=f"{records[0].id} and {record.id}",
                hint="name the files of one side, or move the other side out of the folder",
            )


def environment_differences(records: Sequence[Record]) -> dict[str, list[str]]:
    """Of machine and packages what not all runs share, with every value: their scores compare, their seconds do not."""
    seen: dict[str, list[str]] = {}
    for record in records:
        if record.env is None:
            continue
        found = {name: getattr(record.env, name) for name in MACHINE_FIELDS} | dict(record.env.packages)
        if record.env.threads is None:
            del found["device"]  # what computes without torch is at home on any
        for name, value in found.items():
            if value is not None and str(value) not in seen.setdefault(name, []):
                seen[name].append(str(value))
    return {name: values for name, values in seen.items() if len(values) > 1}


def same_machine(records: Sequence[Record]) -> bool:
    """Whether all were made on one machine, or on machines alike: only then do their seconds compare."""
    return not set(environment_differences(records)) & set(MACHINE_FIELDS)


def _flat(tree: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _short(value: Any) -> str:
    """A value as one reads it, a digest by its beginning."""
    text = "no limit" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
