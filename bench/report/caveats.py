"""What a reader must know beside a table: what failed, ended early or was disturbed, and what can be seen at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis import tuning_curve
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import comparability
from bench.records.record import Record

BUSY = 0.2


def caveats(section: TaskResults, translate: Translate = untranslated) -> list[str]:
    """Every remark on one comparison."""
    records = section.records
    said = [f"{row.label}: {row.status}: {row.reason}" for row in section.rows if row.status != "ok"]
    said += [line for record in records for line in _of_run(record, translate)]
    said += describe_disturbances(records, translate)
    names = {row.key: row.label for row in section.rows}
    tuned = {record.spec.key: record for record in records if record.tuning is not None}
    said += [describe_tuning(record, names[key], translate) for key, record in tuned.items()]
    items = min((len(record.samples) for record in records if record.status == "ok"), default=0)
    if items:
        said.append(
            translate(
                "With {items} test questions, differences below about {points:.1f} points cannot be seen in one seed "
                "(paired, 80 % power at 10 % discordance).",
                items=items,
                points=100 * tuning_curve.detectable_difference(items),
            )
        )
    for size, shown in list(section.rows_by_size.items())[:-1]:
        failed = [f"{row.label}: {row.status}: {row.reason}" for row in shown if row.status != "ok"]
        said += [translate("with {size:,} examples: {what}", size=size, what=what) for what in failed]
    return said


def _of_run(record: Record, translate: Translate) -> Iterator[str]:
    """What a reader must know of one run."""
    name = f"{record.spec.method.name} seed {record.spec.seed}"
    spent, answering = (record.cost.budget_usage, record.cost.answering) if record.cost else (None, None)
    if spent and spent.stopped_by in ("seconds", "tokens"):
        facts: dict[str, object] = {"limit": spent.stopped_by, "steps": spent.steps}
        yield translate("{name}: its budget of {limit} was used up after {steps} steps.", name=name, **facts)
    if answering and answering.truncated_prompts:
        facts = {"cut": answering.truncated_prompts, "all": answering.queries}
        yield translate(
            "{name}: {cut} of {all} prompts were longer than the context and lost their beginning.", name=name, **facts
        )
    if record.cost and record.cost.adapter_serving_error:
        why = record.cost.adapter_serving_error
        yield translate("{name}: its adapter could not be put in service: {why}", name=name, why=why)


def describe_disturbances(records: Sequence[Record], translate: Translate = untranslated) -> list[str]:
    """Why seconds and rates may not be what they seem."""
    said = []
    busy = [record for record in records if record.env and record.env.background_cores > BUSY * record.env.cores]
    if busy:
        said.append(
            translate(
                "Other processes kept up to {most:.0%} of the cores busy during {busy} of {all} runs; their seconds "
                "and rates are not the machine's.",
                most=max(min(record.env.background_cores / record.env.cores, 1.0) for record in busy if record.env),
                busy=len(busy),
                all=len(records),
            )
        )
    unlike = comparability.environment_differences(records)
    if unlike:
        told = "; ".join(f"{name}: {', '.join(values)}" for name, values in unlike.items())
        said.append(
            translate("Not all runs were made alike, so seconds and memory do not compare ({unlike}).", unlike=told)
        )
    return said


def describe_tuning(record: Record, name: str, translate: Translate = untranslated) -> str:
    """How a method's hyper-parameters were found: E[best] of 1, 2, … trials, the best, and whether it is at an edge."""
    assert record.tuning is not None
    attempts = record.tuning.trials
    if not attempts:
        return translate("{name}: nothing to tune.", name=name)
    curve = " ".join(
        f"{score:.3f}" for score in tuning_curve.expected_best([attempt.score or 0.0 for attempt in attempts])
    )
    failed = [attempt.status for attempt in attempts if attempt.score is None]
    chosen = {key: record.spec.method.params[key] for key in record.tuning.ranges}
    said = [
        translate(
            "{name}: best of 1 to {trials} trials on validation, on average: {curve}",
            name=name,
            trials=len(attempts),
            curve=curve,
        )
    ]
    if failed:
        kinds = ", ".join(sorted(set(failed)))
        said.append(translate("{failed} of them failed and count as 0: {kinds}", failed=len(failed), kinds=kinds))
    said.append(
        ", ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
        )
    )
    edges = [
        key
        for key, place in record.tuning.ranges.items()
        if place.choices is None and tuning_curve.is_at_edge(chosen[key], place)
    ]
    if edges:
        said.append(translate("at the edge of its range: {edges}", edges=", ".join(edges)))
    return "; ".join(said) + "."
