"""Scores and costs of each method, averaged over its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles
from typing import Any

from pydantic import BaseModel

from bench.records import Cost, Record, Status, comparability


class MethodSummary(BaseModel):
    """Mean scores and costs of one method on one task.

    Values are means over the seeds, unless a field says otherwise. A cost is None if it was not measured.
    """

    key: str
    """Digest of the spec without the seed."""
    label: str
    """Name of the method, with the hyper-parameters in which it differs from others of that name."""
    method: str
    params: dict[str, Any]
    control: bool
    negative_control: bool
    status: Status
    examples: int | None
    """Training examples allowed by the budget; None for all."""
    seeds: list[int]
    """Seeds in ascending order."""
    reason: str | None
    """Error message of the first record; None if there is no error."""
    scores: dict[str, float]
    """Mean of each metric, those of all answers together last; empty if the runs failed."""
    forgetting_nats: float | None
    """Increase of the loss on general text by training, in nats per token."""
    trainable: int | None
    """Trainable parameters."""
    train_s: float | None
    """Wall time of training in seconds."""
    train_joules: float | None = None
    """Energy that the whole device drew during training, in joules."""
    peak_mib: float | None
    """Maximum over phases and seeds, of `device_peak_mib` if the runs used a CUDA device, else of `host_peak_mib`."""
    tokens_per_s: float | None
    """Answer tokens per second, in batches; None for methods that write none, such as a classifier."""
    query_mean_ms: float | None
    """Mean latency of a query, asked one at a time; it and the next two pool the queries of all seeds."""
    query_p50_ms: float | None
    """Median latency; None for fewer than two queries."""
    query_p95_ms: float | None
    """95th percentile of the latency; None for fewer than two queries."""
    artifact_bytes: float | None
    """Size of the saved adapter or model."""
    cut_share: float | None = None
    """Share of the generated answers that reached the token limit before they ended."""
    repeating_share: float | None = None
    """Share of the generated answers that reached the token limit while repeating themselves."""
    device_peak_mib: float | None = None
    """Maximum over phases and seeds of the memory on a CUDA device; None if the runs used none."""
    host_peak_mib: float | None = None
    """Maximum over phases and seeds of the resident memory of the process."""
    general_text_sha256: str | None = None
    """Digest of the text of `forgetting_nats`; None if not measured, or if the seeds were measured on several texts."""
    general_text: str | None = None
    """Name of the user's file with that text; None for the shipped text."""
    shifted_score: float | None = None
    """Mean main metric on the questions of another time or source; None if the task has none."""
    activation_checkpointing: bool = False
    """True if some seed was trained with activation checkpointing."""


def summarize_methods(records: Sequence[Record]) -> list[MethodSummary]:
    """Return one summary per method and status, best first.

    If some seeds of a method failed, they have a summary of their own.

    Raises:
        UserError: If the records were made under different terms.
    """
    comparability.require_comparable(records)
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.key, record.status].append(record)
    labels = method_labels(records)
    summaries = [_summarize(group, labels[key]) for (key, _), group in groups.items()]
    metric = records[0].spec.task.metric if records else ""
    return sorted(
        summaries, key=lambda summary: (summary.status != "ok", -summary.scores.get(metric, 0.0), summary.label)
    )


def uses_cuda(summaries: Iterable[MethodSummary]) -> bool:
    """Tell if some runs used a CUDA device.

    Its memory must not be compared with that of a process.
    """
    return any(summary.device_peak_mib is not None for summary in summaries)


def method_labels(records: Iterable[Record]) -> dict[str, str]:
    """Return a label for each key: the method's name and its distinguishing parameters.

    These are the hyper-parameters that differ among the keys of that name.
    """
    params_by_name: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        params_by_name[record.spec.method.name][record.spec.key] = record.spec.method.params
    labels = {}
    for name, params_by_key in params_by_name.items():
        params_of_keys = list(params_by_key.values())
        param_names = {param_name for params in params_of_keys for param_name in params}
        differing = sorted(
            param_name
            for param_name in param_names
            if len({repr(params.get(param_name)) for params in params_of_keys}) > 1
        )
        for key, params in params_by_key.items():
            values = " ".join(f"{param_name}={_format_value(params.get(param_name))}" for param_name in differing)
            labels[key] = f"{name} {values}".strip()
    return labels


def forgetting_nats(record: Record) -> float | None:
    """Return the increase of the loss on general text in nats per token, if measured."""
    forgetting = record.forgetting
    if forgetting is None or forgetting.nats_before is None or forgetting.nats_after is None:
        return None
    return forgetting.nats_after - forgetting.nats_before


def general_texts(records: Iterable[Record]) -> dict[str, str | None]:
    """Return the names of the general texts by digest; None for the shipped one."""
    return {
        record.forgetting.text_sha256: record.forgetting.text
        for record in records
        if record.forgetting and forgetting_nats(record) is not None
    }


def _summarize(group: list[Record], label: str) -> MethodSummary:
    first = group[0]
    costs = [record.cost for record in group if record.cost]
    latencies = [latency for cost in costs if cost.answering for latency in cost.answering.latency_ms]
    percentiles = quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else None
    fit_phases = [cost.phases["fit"] for cost in costs if "fit" in cost.phases]
    texts = general_texts(group)
    device_peak_mib = _max(cost.device_peak_mib for cost in costs)
    host_peak_mib = _max(cost.host_peak_mib for cost in costs)
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
        scores=_mean_scores(group),
        forgetting_nats=_mean(map(forgetting_nats, group)) if len(texts) == 1 else None,
        general_text_sha256=next(iter(texts)) if len(texts) == 1 else None,
        general_text=next(iter(texts.values())) if len(texts) == 1 else None,
        trainable=next((cost.parameters.trainable for cost in costs if cost.parameters), None),
        train_s=_mean(phase.wall_s for phase in fit_phases),
        train_joules=_mean(phase.energy_j for phase in fit_phases),
        peak_mib=host_peak_mib if device_peak_mib is None else device_peak_mib,
        tokens_per_s=_mean(map(_answer_tokens_per_s, costs)),
        query_mean_ms=fmean(latencies) if latencies else None,
        query_p50_ms=percentiles[49] if percentiles else None,
        query_p95_ms=percentiles[94] if percentiles else None,
        artifact_bytes=_mean(cost.artifact_bytes for cost in costs),
        cut_share=_mean(_answer_share(cost, "cut_answers") for cost in costs),
        repeating_share=_mean(_answer_share(cost, "repeating_answers") for cost in costs),
        device_peak_mib=device_peak_mib,
        host_peak_mib=host_peak_mib,
        shifted_score=_mean(
            shifted.all_scores.get(first.spec.task.metric)
            for record in group
            if (shifted := record.on_shifted) is not None
        ),
        activation_checkpointing=any(
            cost.budget_usage is not None and bool(cost.budget_usage.activation_checkpointing) for cost in costs
        ),
    )


def _answer_tokens_per_s(cost: Cost) -> float | None:
    """Return the answer tokens of a second of answering in batches; None if not measured."""
    predict = cost.phases.get("predict")
    if predict is None or predict.wall_s <= 0 or cost.answering is None or not cost.answering.answer_tokens:
        return None
    return cost.answering.answer_tokens / predict.wall_s


def _mean_scores(group: Sequence[Record]) -> dict[str, float]:
    """Return the mean of each metric that all seeds have."""
    seed_scores = [record.all_scores for record in group]
    return {
        metric: fmean(scores[metric] for scores in seed_scores)
        for metric in seed_scores[0]
        if all(metric in scores for scores in seed_scores)
    }


def _answer_share(cost: Cost, field: str) -> float | None:
    """Return a count of answers as a share of the generated ones, or None if not measured."""
    count = getattr(cost.answering, field, None)
    generated = cost.answering.generated_answers if cost.answering else None
    return None if count is None or not generated else count / generated


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the measured values, or None if there are none."""
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def _max(values: Iterable[float | None]) -> float | None:
    """Return the highest of the measured values, or None if there are none."""
    return max((value for value in values if value is not None), default=None)


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
