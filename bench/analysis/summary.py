"""What each method of a comparison earned and cost: means over its seeds, nothing left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles
from typing import Any

from pydantic import BaseModel

from bench.records import comparability
from bench.records.record import Record, Status


class MethodSummary(BaseModel):
    """One method on one task, means over its seeds but where something else is said. None means not measured."""

    key: str
    label: str
    """The method's name, with the settings that tell it from others of that name."""
    method: str
    params: dict[str, Any]
    control: bool
    negative_control: bool
    status: Status
    examples: int | None
    """Training examples granted; None: all there are."""
    seeds: list[int]
    reason: str | None
    scores: dict[str, float]
    forgetting_nats: float | None
    """Nats by which a token of general text costs more after adapting than before."""
    trainable: int | None
    train_s: float | None
    peak_mib: float | None
    """The highest of any phase and seed: what the machine must have."""
    tokens_per_s: float | None
    query_mean_ms: float | None
    query_p50_ms: float | None
    """This and the next of all seeds' questions together."""
    query_p95_ms: float | None
    artifact_bytes: float | None


def summarize_methods(records: Sequence[Record]) -> list[MethodSummary]:
    """A row per method, best first; seeds that ended otherwise than ok have a row of their own.

    Raises `UserError` where the records were made under different terms.
    """
    comparability.require_comparable(records)
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.key, record.status].append(record)
    named = method_labels(records)
    made = [_row(group, named[key]) for (key, _), group in groups.items()]
    metric = records[0].spec.task.metric if records else ""
    return sorted(made, key=lambda row: (row.status != "ok", -row.scores.get(metric, 0.0), row.label))


def method_labels(records: Iterable[Record]) -> dict[str, str]:
    """A name for every key: the method's, with those settings that differ among the keys of that name."""
    families: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        families[record.spec.method.name][record.spec.key] = record.spec.method.params
    named = {}
    for name, members in families.items():
        settings = {setting for params in members.values() for setting in params}
        differing = sorted(one for one in settings if len({repr(p.get(one)) for p in members.values()}) > 1)
        for key, params in members.items():
            told = " ".join(f"{setting}={_plain(params.get(setting))}" for setting in differing)
            named[key] = f"{name} {told}".strip()
    return named


def forgetting_nats(record: Record) -> float | None:
    """Nats per token that general text costs more after adapting than before."""
    what = record.forgetting
    if what is None or what.nats_before is None or what.nats_after is None:
        return None
    return what.nats_after - what.nats_before


def _row(group: list[Record], label: str) -> MethodSummary:
    first = group[0]
    costs = [record.cost for record in group if record.cost]
    answering = [cost.answering for cost in costs if cost.answering]
    latency = [ms for answers in answering for ms in answers.latency_ms]
    fits = [cost.phases["fit"] for cost in costs if "fit" in cost.phases]
    peaks = [phase.peak_mib for cost in costs for phase in cost.phases.values() if phase.peak_mib is not None]
    return MethodSummary(
        key=first.spec.key,
        label=label,
        method=first.spec.method.name,
        params=first.spec.method.params,
        control=first.spec.method.control,
        negative_control=first.spec.method.negative_control,
        status=first.status,
        examples=first.spec.budget.examples,
        seeds=sorted(record.spec.seed for record in group),
        reason=first.error.message if first.error else None,
        scores={metric: fmean(record.scores[metric] for record in group) for metric in first.scores},
        forgetting_nats=_mean(forgetting_nats(record) for record in group),
        trainable=next((cost.parameters.trainable for cost in costs if cost.parameters), None),
        train_s=_mean(fit.wall_s for fit in fits),
        peak_mib=max(peaks, default=None),
        tokens_per_s=_mean(
            cost.answering.answer_tokens / cost.phases["predict"].wall_s
            for cost in costs
            if cost.answering and cost.answering.answer_tokens is not None
        ),
        query_mean_ms=fmean(latency) if latency else None,
        query_p50_ms=quantiles(latency, n=100, method="inclusive")[49] if len(latency) > 1 else None,
        query_p95_ms=quantiles(latency, n=100, method="inclusive")[94] if len(latency) > 1 else None,
        artifact_bytes=_mean(cost.artifact_bytes for cost in costs),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
