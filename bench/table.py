"""Records to the table that a run ends with: one row per method, best first, nothing left out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles
from typing import Any

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench import stats, terms
from bench.record import Record, Status

BUSY = 0.2


class Row(BaseModel):
    """One method on one task, means over its seeds. None means not measured."""

    method: str
    params: dict[str, Any]
    control: bool
    status: Status
    seeds: list[int]
    reason: str | None
    scores: dict[str, float]
    forgets: float | None
    trainable: int | None
    fit_s: float | None
    fit_peak_mib: float | None
    tokens_per_s: float | None
    query_p50_ms: float | None
    query_p95_ms: float | None
    artefact_bytes: float | None


def rows(records: Sequence[Record]) -> list[Row]:
    """A row per method, best first; seeds that ended otherwise than ok have a row of their own.

    Raises `Refused` where the records were made under different terms.
    """
    terms.hold(records)
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.key, record.status].append(record)
    made = [_row(group) for group in groups.values()]
    metric = records[0].spec.task.metric if records else ""
    return sorted(made, key=lambda row: (row.status != "ok", -row.scores.get(metric, 0.0), row.method))


def render(records: Sequence[Record]) -> Table:
    """The rows for a terminal of 80 columns."""
    spec, shown = records[0].spec, rows(records)
    seeds = len({record.spec.seed for record in records})
    title = f"{spec.task.name} on {spec.base.ref}"
    title = f"{title}, means of {seeds} seeds" if seeds > 1 else title
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("method", overflow="fold")  # rather than a figure, a name gives way
    metrics = list(dict.fromkeys(metric for row in shown for metric in row.scores))
    forgets = ["for-\ngets"] if any(row.forgets is not None for row in shown) else []
    headings = [
        *map(_broken, metrics),
        *forgets,
        "trai-\nned",
        "fit\ns",
        "peak\nMiB",
        "tok\n/s",
        "ms/\nask",
        "arte-\nfact",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in shown:
        scores: list[str | Text] = [_written(row.scores.get(metric), "{:.3f}") for metric in metrics]
        if row.status != "ok":
            scores[:1] = [Text(row.status, style="bold red")]
        scores += [_written(row.forgets, "{:+.2f}") for _ in forgets]
        table.add_row(f"{row.method} °" if row.control else row.method, *scores, *_costs(row))
    return table


def notes(records: Sequence[Record]) -> list[str]:
    """What a reader must know beside the table: what failed, ended early or was disturbed, and what can be seen."""
    said = [
        "° control. – not measured. trained: parameters. peak: of fitting. tok/s: answer tokens, in batches. ms/ask: "
        "median, one question at a time. artefact: bytes kept."
    ]
    if any(record.forgetting for record in records):
        said.append("forgets: nats by which a token of general text costs more after adapting than before.")
    said += [f"{row.method}: {row.status}: {row.reason}" for row in rows(records) if row.status != "ok"]
    for record in records:
        spent, name = record.cost.spent if record.cost else None, f"{record.spec.method.name} seed {record.spec.seed}"
        if spent and spent.stopped_by in ("seconds", "tokens"):
            said.append(f"{name}: its {spent.stopped_by} were used up after {spent.steps} steps.")
        if record.cost and record.cost.adapter_failure:
            said.append(f"{name}: its adapter could not be put in service: {record.cost.adapter_failure}")
    said += disturbances(records)
    tuned = {record.spec.method.name: record for record in records if record.tuning is not None}
    said += [tuning(record) for record in tuned.values()]
    items = min((len(record.samples) for record in records if record.status == "ok"), default=0)
    if items:
        said.append(
            f"With {items} test questions, differences below about {100 * stats.visible_difference(items):.1f} points "
            "cannot be seen in one seed (paired, 80 % power at 10 % discordance)."
        )
    return said


def disturbances(records: Sequence[Record]) -> list[str]:
    """Why seconds and rates may not be what they seem."""
    said = []
    busy = [record for record in records if record.env and record.env.others_cores > BUSY * record.env.cores]
    if busy:
        most = max(record.env.others_cores / record.env.cores for record in busy if record.env)
        said.append(
            f"Other processes kept up to {most:.0%} of the cores busy during {len(busy)} of {len(records)} runs; "
            "their seconds and rates are not the machine's."
        )
    unlike = terms.strangers(records)
    if unlike:
        told = "; ".join(f"{name} {' and '.join(values)}" for name, values in unlike.items())
        said.append(f"Not all runs were made alike, so seconds and memory do not compare: {told}.")
    return said


def tuning(record: Record) -> str:
    """How a method's hyper-parameters were found: E[best] of 1, 2, … trials, the best, and whether it is at an edge."""
    assert record.tuning is not None
    name, attempts = record.spec.method.name, record.tuning.attempts
    if not attempts:
        return f"{name}: nothing to tune."
    curve = " ".join(f"{score:.3f}" for score in stats.expected_best([attempt.score or 0.0 for attempt in attempts]))
    failed = [attempt.status for attempt in attempts if attempt.score is None]
    chosen = {key: record.spec.method.params[key] for key in record.tuning.ranges}
    said = f"{name}: best of 1 to {len(attempts)} trials on validation, on average: {curve}"
    said += f" ({len(failed)} of them failed and count as 0: {', '.join(sorted(set(failed)))})" if failed else ""
    said += "; " + ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
    )
    edges = [
        key
        for key, place in record.tuning.ranges.items()
        if place.choices is None and stats.at_edge(chosen[key], place)
    ]
    return f"{said}; at the edge of its range: {', '.join(edges)}." if edges else f"{said}."


def _row(group: list[Record]) -> Row:
    first = group[0]
    costs = [record.cost for record in group if record.cost]
    answering = [cost.answering for cost in costs if cost.answering]
    latency = [ms for answers in answering for ms in answers.latency_ms]
    fits = [cost.phases["fit"] for cost in costs if "fit" in cost.phases]
    return Row(
        method=first.spec.method.name,
        params=first.spec.method.params,
        control=first.spec.method.control,
        status=first.status,
        seeds=sorted(record.spec.seed for record in group),
        reason=first.error.message if first.error else None,
        scores={metric: fmean(record.scores[metric] for record in group) for metric in first.scores},
        forgets=_mean(_forgotten(record) for record in group),
        trainable=next((cost.parameters.trainable for cost in costs if cost.parameters), None),
        fit_s=_mean(fit.wall_s for fit in fits),
        fit_peak_mib=_mean(fit.peak_mib for fit in fits),
        tokens_per_s=_mean(
            cost.answering.answer_tokens / cost.phases["predict"].wall_s
            for cost in costs
            if cost.answering and cost.answering.answer_tokens is not None
        ),
        query_p50_ms=quantiles(latency, n=100, method="inclusive")[49] if len(latency) > 1 else None,
        query_p95_ms=quantiles(latency, n=100, method="inclusive")[94] if len(latency) > 1 else None,
        artefact_bytes=_mean(cost.artefact_bytes for cost in costs),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def _forgotten(record: Record) -> float | None:
    """Nats per token that general text costs more after adapting than before."""
    what = record.forgetting
    if what is None or what.nats_before is None or what.nats_after is None:
        return None
    return what.nats_after - what.nats_before


def _costs(row: Row) -> list[str]:
    return [
        _short(row.trainable, 1000, ("", "k", "M", "G")),
        _figures(row.fit_s),
        _written(row.fit_peak_mib, "{:.0f}"),
        _written(row.tokens_per_s, "{:.0f}"),
        _figures(row.query_p50_ms),
        _short(row.artefact_bytes, 1024, ("B", "K", "M", "G")),
    ]


def _broken(metric: str) -> str:
    """A heading in two lines where one would be wider than its figures."""
    return metric if len(metric) < 6 else f"{metric[: len(metric) // 2]}-\n{metric[len(metric) // 2 :]}"


def _figures(value: float | None) -> str:
    """With a decimal where it says something."""
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _short(value: float | None, base: int, units: tuple[str, ...]) -> str:
    """A number with two or three digits and a unit."""
    if value is None:
        return "–"
    power = min(int(math.log(value, base)) if value >= 1 else 0, len(units) - 1)
    scaled = value / base**power
    return f"{scaled:.1f}{units[power]}" if power and scaled < 10 else f"{scaled:.0f}{units[power]}"


def _written(value: float | None, how: str) -> str:
    return "–" if value is None else how.format(value)
