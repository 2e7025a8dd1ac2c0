"""What is looked at of a run before and after, besides its scores, and what counts as worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bench import units
from bench.analysis.regression.pairing import RecordPair
from bench.records.comparability import MACHINE_FIELDS
from bench.records.record import Record

GateVerdict = Literal["worse", "missing", "incomparable", "unsure", "better", "new", "same", "shown"]
BASELINE = "baseline"
FACTS = (BASELINE, "run", "status", "counts", "artifact", "memory", "speed", "curve")  # gates that look at no score
COUNTED = (
    "parameters.total",
    "parameters.trainable",
    "parameters.saved",
    "budget_usage.steps",
    "budget_usage.examples",
    "budget_usage.tokens",
)


class Policy(BaseModel):
    """What a check lets pass: `[tool.bench.check]` of pyproject.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(0.05, gt=0, lt=1, strict=True, description="chance of a false alarm in a whole check")
    max_score_drop: float = Field(
        0.01, ge=0, lt=1, strict=True, description="a smaller fall of the main metric never fails"
    )
    artifact: float = Field(0.01, ge=0, lt=1, strict=True, description="growth of what is kept, as a share")
    cuda_memory: float = Field(0.02, ge=0, lt=1, strict=True, description="growth of a peak on CUDA, as a share")
    cuda_mib: float = Field(16, ge=0, strict=True, allow_inf_nan=False, description="and by at least so much")
    cpu_memory: float = Field(0.10, ge=0, lt=1, strict=True, description="the same on a CPU: shown, not judged")
    cpu_mib: float = Field(64, ge=0, strict=True, allow_inf_nan=False, description="and by at least so much")
    slower: float = Field(0.10, ge=0, lt=10, strict=True, description="longer time of rounds in turns, as a share")


class GateFinding(BaseModel):
    """One thing that was looked at."""

    name: str
    """Task, model and method; or what is common to all methods of a task."""
    gate: str
    verdict: GateVerdict
    details: str
    change: float = 0.0
    """Of a score; 0 where none is compared."""
    smallest_drop: float | None = None
    """The smallest fall of a score that this would have seen; None where none is compared, or nothing changed."""


def check_gates(pairs: Sequence[RecordPair], policy: Policy) -> list[GateFinding]:
    """All but the scores of each pair, in their order."""
    found: list[GateFinding] = []
    for one in pairs:
        found += _evidence(one)
        if one.old and one.new and not one.unlike:
            found += [*_counts(one), *_artifact(one, policy), *_memory(one, policy), *_speed(one), *_curve(one)]
    return found


def _evidence(one: RecordPair) -> Iterator[GateFinding]:
    """Whether there is anything to compare, and whether what ran still runs."""
    if not one.new:
        yield GateFinding(name=one.name, gate="run", verdict="missing", details="was there before, and is not now")
    elif not one.old:
        ended = ", ".join(sorted({record.status for record in one.new}))
        yield GateFinding(name=one.name, gate="run", verdict="new", details=f"was not there before: {ended}")
    elif one.unlike:
        told = "; ".join(f"{name}: {_short(old)} → {_short(new)}" for name, (old, new) in one.unlike.items())
        yield GateFinding(name=one.name, gate="run", verdict="incomparable", details=told)
    else:
        after = {record.spec.seed: record for record in one.new}
        for before in one.old:
            yield _status(one, before, after.get(before.spec.seed))


def _status(one: RecordPair, before: Record, now: Record | None) -> GateFinding:
    seed = before.spec.seed
    if now is None:
        return GateFinding(name=one.name, gate="run", verdict="missing", details=f"seed {seed} is not there any more")
    why = f": {now.error.message}" if now.error else ""
    if before.status == now.status:
        return GateFinding(name=one.name, gate="status", verdict="same", details=f"seed {seed}: {now.status}")
    broken = before.status == "ok" or now.status in ("error", "timeout")
    verdict: GateVerdict = "better" if now.status == "ok" else "worse" if broken else "shown"
    says = f"seed {seed}: {before.status} → {now.status}{why}"
    return GateFinding(name=one.name, gate="status", verdict=verdict, details=says)


def _counts(one: RecordPair) -> Iterator[GateFinding]:
    """Counts are equal, always: that catches changed targets, and budgets that changed unseen."""
    unlike = {}
    for before, now in one.both():
        timed = before.spec.budget.seconds is not None  # the clock, and not the code, decides how far training comes
        for name in COUNTED:
            old, new = (_cost(record, name) for record in (before, now))
            if old != new and not (timed and name.startswith("budget_usage.")):
                unlike[name] = f"{name}: {_short(old)} → {_short(new)}"
    if one.seeds:
        says = "; ".join(unlike.values()) or "parameters, steps, examples and tokens are as before"
        yield GateFinding(name=one.name, gate="counts", verdict="worse" if unlike else "same", details=says)


def _artifact(one: RecordPair, policy: Policy) -> Iterator[GateFinding]:
    sizes = [
        (before.cost.artifact_bytes, now.cost.artifact_bytes if now.cost else None)
        for before, now in one.both()
        if before.cost and before.cost.artifact_bytes
    ]
    if any(new is None for _, new in sizes):
        says = "its size was recorded before, and is not now"
        yield GateFinding(name=one.name, gate="artifact", verdict="worse", details=says)
    elif sizes:
        old, new = max(sizes, key=lambda pair: (pair[1] or 0) / pair[0])
        grown = (new or 0) / old - 1
        verdict: GateVerdict = "worse" if grown > policy.artifact else "same"
        says = f"{units.size(old)} → {units.size(new)} ({grown:+.1%})"
        yield GateFinding(name=one.name, gate="artifact", verdict=verdict, details=says)


def _memory(one: RecordPair, policy: Policy) -> Iterator[GateFinding]:
    """Peaks of each phase, on machines alike; beyond CUDA they depend on too much to fail for."""
    pairs = [(before, now) for before, now in one.both() if before.cost and now.cost]
    if not pairs or any(_machine(before) != _machine(now) for before, now in pairs):
        return
    cuda = all((now.env and now.env.device not in ("cpu", "mps")) for _, now in pairs)
    share, least = (policy.cuda_memory, policy.cuda_mib) if cuda else (policy.cpu_memory, policy.cpu_mib)
    grown = []
    for name in ("load", "fit", "predict"):
        old, new = (max((_peak(record, name) for record in side), default=0.0) for side in zip(*pairs, strict=True))
        if old and new > old * (1 + share) and new - old >= least:
            grown.append(f"{name}: {old:,.0f} → {new:,.0f} MiB")
    verdict: GateVerdict = "same" if not grown else "worse" if cuda else "shown"
    yield GateFinding(name=one.name, gate="memory", verdict=verdict, details="; ".join(grown) or "peaks are as before")


def _speed(one: RecordPair) -> Iterator[GateFinding]:
    """Seconds of runs made at different times say little; they are shown and never judged."""
    told = []
    for name in ("fit", "predict"):
        times = [(_seconds(before, name), _seconds(now, name)) for before, now in one.both()]
        old, new = (sum(side) for side in zip(*times, strict=True)) if times else (0.0, 0.0)
        if old and new:
            told.append(f"{name} × {new / old:.2f}")
    if told:
        yield GateFinding(name=one.name, gate="speed", verdict="shown", details=", ".join(told))


def _curve(one: RecordPair) -> Iterator[GateFinding]:
    """The first step at which losses part is the clue to where a change came in."""
    for before, now in one.both():
        for old, new in zip(before.curve, now.curve, strict=False):
            if (old.train_loss, old.validation_loss) != (new.train_loss, new.validation_loss):
                says = f"seed {before.spec.seed}: losses part at step {new.step}"
                yield GateFinding(name=one.name, gate="curve", verdict="shown", details=says)
                return


def _cost(record: Record, name: str) -> object:
    part, field = name.split(".")
    found = getattr(record.cost, part) if record.cost else None
    return getattr(found, field) if found else None


def _peak(record: Record, phase: str) -> float:
    known = record.cost.phases.get(phase) if record.cost else None
    return (known.peak_mib or 0.0) if known else 0.0


def _seconds(record: Record, phase: str) -> float:
    known = record.cost.phases.get(phase) if record.cost else None
    return known.wall_s if known else 0.0


def _machine(record: Record) -> list[object]:
    return [getattr(record.env, name, None) for name in MACHINE_FIELDS]


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
