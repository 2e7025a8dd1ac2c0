"""Regression gates other than scores: status, counts, artifact size, memory, speed, curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from bench import units
from bench.analysis.regression.pairing import RecordPair
from bench.i18n import Message, join_messages
from bench.records import Record
from bench.records.comparability import MACHINE_FIELDS

GateVerdict = Literal["worse", "missing", "incomparable", "unsure", "better", "new", "same", "shown"]
BASELINE_GATE = "baseline"
NON_SCORE_GATES = (BASELINE_GATE, "run", "status", "counts", "artifact", "memory", "speed", "curve")
COUNT_FIELDS = (
    "parameters.total",
    "parameters.trainable",
    "parameters.saved",
    "budget_usage.steps",
    "budget_usage.examples",
    "budget_usage.tokens",
)
"""Fields of `Cost` that must not change at all."""
MEMORY_PHASES = ("load", "fit", "predict")
SPEED_PHASES = ("fit", "predict")


class Policy(BaseModel):
    """Thresholds of a check: the table `[tool.bench.check]` of pyproject.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(0.05, gt=0, lt=1, strict=True, description="false-alarm rate of a whole check")
    max_score_drop: float = Field(
        0.01, ge=0, lt=1, strict=True, description="a smaller drop of the main metric never fails"
    )
    max_seed_drop: float = Field(
        0.10, ge=0, lt=1, strict=True, description="a smaller drop of a single seed is left to the test of all seeds"
    )
    artifact: float = Field(0.01, ge=0, lt=1, strict=True, description="allowed growth of the saved files, as a share")
    cuda_memory: float = Field(0.02, ge=0, lt=1, strict=True, description="allowed growth of a CUDA peak, as a share")
    cuda_mib: float = Field(16, ge=0, strict=True, allow_inf_nan=False, description="smaller growth in MiB passes")
    cpu_memory: float = Field(0.10, ge=0, lt=1, strict=True, description="growth of a CPU peak that is shown")
    cpu_mib: float = Field(64, ge=0, strict=True, allow_inf_nan=False, description="smaller growth is not shown")
    slower: float = Field(0.10, ge=0, lt=10, strict=True, description="allowed slowdown of interleaved rounds")


class GateFinding(BaseModel):
    """Result of one gate for one pair of runs, or for all methods of a task."""

    name: SkipValidation[str]
    """Task, model and method; or a `Message` with task and model if it is about all methods."""
    gate: str
    """Name of the gate; the name of the metric for scores."""
    verdict: GateVerdict
    details: SkipValidation[str]
    """A `Message`, except for the values of single fields; pydantic would validate it into a plain text."""
    change: float = 0.0
    """New score minus old score; 0 if the gate compares no score."""
    within_tolerance: bool = False
    """True if answers differ by no more than those of equal runs that are not deterministic."""
    smallest_drop: float | None = None
    """Smallest drop of a score that is detected with 80 % power; None if no answers differ."""


def check_gates(pairs: Sequence[RecordPair], policy: Policy) -> list[GateFinding]:
    """Return the findings of all gates but scores, in the order of the pairs."""
    findings: list[GateFinding] = []
    for pair in pairs:
        findings += _check_run(pair)
        if pair.old and pair.new and not pair.differences:
            findings += _check_counts(pair)
            findings += _check_artifact(pair, policy)
            findings += _check_memory(pair, policy)
            findings += _show_speed(pair)
            findings += _show_curve(pair)
    return findings


def _check_run(pair: RecordPair) -> Iterator[GateFinding]:
    """Check that the runs exist and are comparable, then the status of each seed."""
    if not pair.new:
        details = Message("in the baseline, but no new record")
        yield GateFinding(name=pair.name, gate="run", verdict="missing", details=details)
    elif not pair.old:
        statuses = ", ".join(sorted({record.status for record in pair.new}))
        details = Message("not in the baseline: {statuses}", statuses=statuses)
        yield GateFinding(name=pair.name, gate="run", verdict="new", details=details)
    elif pair.differences:
        details = join_messages(
            "; ", [_describe_change(name, old, new) for name, (old, new) in pair.differences.items()]
        )
        yield GateFinding(name=pair.name, gate="run", verdict="incomparable", details=details)
    else:
        new_by_seed = {record.spec.seed: record for record in pair.new}
        for old_record in pair.old:
            yield _check_status(pair, old_record, new_by_seed.pop(old_record.spec.seed, None))
        for seed, record in new_by_seed.items():
            details = Message("seed {seed} not in the baseline: {status}", seed=seed, status=record.status)
            yield GateFinding(name=pair.name, gate="run", verdict="new", details=details)


def _check_status(pair: RecordPair, old: Record, new: Record | None) -> GateFinding:
    """Compare the status of one seed.

    A run that failed before is worse only if it now ends in an error or a timeout.
    """
    seed = old.spec.seed
    if new is None:
        details = Message("seed {seed} in the baseline, but no new record", seed=seed)
        return GateFinding(name=pair.name, gate="run", verdict="missing", details=details)
    if old.status == new.status:
        details = Message("seed {seed}: {details}", seed=seed, details=new.status)
        return GateFinding(name=pair.name, gate="status", verdict="same", details=details)
    verdict: GateVerdict = "shown"
    if new.status == "ok":
        verdict = "better"
    elif old.status == "ok" or new.status in ("error", "timeout"):
        verdict = "worse"
    message = f": {new.error.message}" if new.error else ""
    details = Message("seed {seed}: {details}", seed=seed, details=f"{old.status} → {new.status}{message}")
    return GateFinding(name=pair.name, gate="status", verdict=verdict, details=details)


def _check_counts(pair: RecordPair) -> Iterator[GateFinding]:
    """Check that counts are equal.

    A difference shows changed target modules or a changed budget.
    """
    if not pair.seeds:
        return
    changes = {}
    for old, new in pair.matched_records():
        # With a budget in seconds, the speed of the machine decides the number of steps.
        has_time_limit = old.spec.budget.seconds is not None
        for name in COUNT_FIELDS:
            old_count, new_count = _cost_field(old, name), _cost_field(new, name)
            if old_count != new_count and not (has_time_limit and name.startswith("budget_usage.")):
                changes[name] = _describe_change(name, old_count, new_count)
    unchanged = Message("parameters, steps, examples and tokens are unchanged")
    details = join_messages("; ", changes.values()) if changes else unchanged
    yield GateFinding(name=pair.name, gate="counts", verdict="worse" if changes else "same", details=details)


def _check_artifact(pair: RecordPair, policy: Policy) -> Iterator[GateFinding]:
    """Check the growth of the saved files, for the seed with the largest growth."""
    sizes = []
    for old, new in pair.matched_records():
        if old.cost and old.cost.artifact_bytes:
            sizes.append((old.cost.artifact_bytes, new.cost.artifact_bytes if new.cost else None))
    if not sizes:
        return
    if any(new_size is None for _, new_size in sizes):
        lacking = Message("the baseline has a size, the new record has none")
        yield GateFinding(name=pair.name, gate="artifact", verdict="worse", details=lacking)
        return
    old_size, new_size = max(sizes, key=lambda size: (size[1] or 0) / size[0])
    growth = (new_size or 0) / old_size - 1
    verdict: GateVerdict = "worse" if growth > policy.artifact else "same"
    details = f"{units.format_bytes(old_size)} → {units.format_bytes(new_size)} ({growth:+.1%})"
    yield GateFinding(name=pair.name, gate="artifact", verdict=verdict, details=details)


def _check_memory(pair: RecordPair, policy: Policy) -> Iterator[GateFinding]:
    """Compare the peak of each phase on equal machines.

    Only peaks on CUDA can fail; others vary too much.
    """
    records = [(old, new) for old, new in pair.matched_records() if old.cost and new.cost]
    if not records or any(_machine(old) != _machine(new) for old, new in records):
        return
    on_cuda = all(new.env and new.env.device not in ("cpu", "mps") for _, new in records)
    max_share, max_mib = (policy.cuda_memory, policy.cuda_mib) if on_cuda else (policy.cpu_memory, policy.cpu_mib)
    growths = []
    for phase in MEMORY_PHASES:
        old_peak = max(_peak_mib(old, phase) for old, _ in records)
        new_peak = max(_peak_mib(new, phase) for _, new in records)
        if old_peak and new_peak > old_peak * (1 + max_share) and new_peak - old_peak >= max_mib:
            growths.append(f"{phase}: {old_peak:,.0f} → {new_peak:,.0f} MiB")
    verdict: GateVerdict = "same"
    if growths:
        verdict = "worse" if on_cuda else "shown"
    details = "; ".join(growths) or Message("peaks are unchanged")
    yield GateFinding(name=pair.name, gate="memory", verdict=verdict, details=details)


def _show_speed(pair: RecordPair) -> Iterator[GateFinding]:
    """Show the ratio of times, without a verdict.

    Runs that did not alternate differ in the load of the machine; `compare_speed` judges interleaved rounds.
    """
    ratios = []
    for phase in SPEED_PHASES:
        old_s = sum(_wall_s(old, phase) for old, _ in pair.matched_records())
        new_s = sum(_wall_s(new, phase) for _, new in pair.matched_records())
        if old_s and new_s:
            ratios.append(f"{phase} × {new_s / old_s:.2f}")
    if ratios:
        yield GateFinding(name=pair.name, gate="speed", verdict="shown", details=", ".join(ratios))


def _show_curve(pair: RecordPair) -> Iterator[GateFinding]:
    """Show the first step with different losses, which helps to find the cause of a change."""
    for old, new in pair.matched_records():
        for old_point, new_point in zip(old.curve, new.curve, strict=False):
            old_losses = (old_point.train_loss, old_point.validation_loss)
            if old_losses != (new_point.train_loss, new_point.validation_loss):
                details = Message(
                    "seed {seed}: losses differ from step {step} on", seed=old.spec.seed, step=new_point.step
                )
                yield GateFinding(name=pair.name, gate="curve", verdict="shown", details=details)
                return


def _cost_field(record: Record, name: str) -> object:
    """Return a field of the cost by its dotted name, or None if the part is null.

    Raises:
        AttributeError: If `Cost` has no field of that name.
    """
    if record.cost is None:
        return None
    part_name, field_name = name.split(".")
    part = getattr(record.cost, part_name)
    return None if part is None else getattr(part, field_name)


def _peak_mib(record: Record, phase: str) -> float:
    cost = record.cost.phases.get(phase) if record.cost else None
    return (cost.peak_mib or 0.0) if cost else 0.0


def _wall_s(record: Record, phase: str) -> float:
    cost = record.cost.phases.get(phase) if record.cost else None
    return cost.wall_s if cost else 0.0


def _machine(record: Record) -> list[object]:
    return [getattr(record.env, name) for name in MACHINE_FIELDS] if record.env else []


def _describe_change(name: str, old: object, new: object) -> Message:
    return Message("{name}: {old} → {new}", name=name, old=_format_value(old), new=_format_value(new))


def _format_value(value: object) -> str:
    """Return a value as text for a finding; a SHA-256 digest is shortened."""
    if value is None:
        return Message("none")
    text = str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
