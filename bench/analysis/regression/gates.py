"""What is looked at of a run before and after, besides its scores, and what counts as worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bench import units
from bench.analysis.regression.pairing import Pair
from bench.records.comparability import MACHINE
from bench.records.record import Record

Verdict = Literal["worse", "missing", "incomparable", "unsure", "better", "new", "same", "shown"]
BASELINE = "baseline"
FACTS = (BASELINE, "run", "status", "counts", "artefact", "memory", "speed", "curve")  # gates that look at no score
COUNTED = (
    "parameters.total",
    "parameters.trainable",
    "parameters.kept",
    "spent.steps",
    "spent.examples",
    "spent.tokens",
)


class Policy(BaseModel):
    """What a check lets pass: `[tool.bench.check]` of pyproject.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(0.05, gt=0, lt=1, strict=True, description="chance of a false alarm in a whole check")
    drop: float = Field(0.01, ge=0, lt=1, strict=True, description="a smaller fall of the main metric never fails")
    artefact: float = Field(0.01, ge=0, lt=1, strict=True, description="growth of what is kept, as a share")
    cuda_memory: float = Field(0.02, ge=0, lt=1, strict=True, description="growth of a peak on CUDA, as a share")
    cuda_mib: float = Field(16, ge=0, strict=True, allow_inf_nan=False, description="and by at least so much")
    cpu_memory: float = Field(0.10, ge=0, lt=1, strict=True, description="the same on a CPU: shown, not judged")
    cpu_mib: float = Field(64, ge=0, strict=True, allow_inf_nan=False, description="and by at least so much")
    slower: float = Field(0.10, ge=0, lt=10, strict=True, description="longer time of rounds in turns, as a share")


class Finding(BaseModel):
    """One thing that was looked at."""

    name: str
    """Task, model and method; or what is common to all methods of a task."""
    gate: str
    verdict: Verdict
    says: str
    change: float = 0.0
    """Of a score; 0 where none is compared."""
    sees: float | None = None
    """The smallest fall of a score that this would have seen; None where none is compared, or nothing changed."""


def look(pairs: Sequence[Pair], policy: Policy) -> list[Finding]:
    """All but the scores of each pair, in their order."""
    found: list[Finding] = []
    for one in pairs:
        found += _evidence(one)
        if one.old and one.new and not one.unlike:
            found += [*_counts(one), *_artefact(one, policy), *_memory(one, policy), *_speed(one), *_curve(one)]
    return found


def _evidence(one: Pair) -> Iterator[Finding]:
    """Whether there is anything to compare, and whether what ran still runs."""
    if not one.new:
        yield Finding(name=one.name, gate="run", verdict="missing", says="was there before, and is not now")
    elif not one.old:
        ended = ", ".join(sorted({record.status for record in one.new}))
        yield Finding(name=one.name, gate="run", verdict="new", says=f"was not there before: {ended}")
    elif one.unlike:
        told = "; ".join(f"{name}: {_short(old)} → {_short(new)}" for name, (old, new) in one.unlike.items())
        yield Finding(name=one.name, gate="run", verdict="incomparable", says=told)
    else:
        after = {record.spec.seed: record for record in one.new}
        for before in one.old:
            yield _status(one, before, after.get(before.spec.seed))


def _status(one: Pair, before: Record, now: Record | None) -> Finding:
    seed = before.spec.seed
    if now is None:
        return Finding(name=one.name, gate="run", verdict="missing", says=f"seed {seed} is not there any more")
    why = f": {now.error.message}" if now.error else ""
    if before.status == now.status:
        return Finding(name=one.name, gate="status", verdict="same", says=f"seed {seed}: {now.status}")
    broken = before.status == "ok" or now.status in ("error", "timeout")
    verdict: Verdict = "better" if now.status == "ok" else "worse" if broken else "shown"
    says = f"seed {seed}: {before.status} → {now.status}{why}"
    return Finding(name=one.name, gate="status", verdict=verdict, says=says)


def _counts(one: Pair) -> Iterator[Finding]:
    """Counts are equal, always: that catches changed targets, and budgets that changed unseen."""
    unlike = {}
    for before, now in one.both():
        timed = before.spec.budget.seconds is not None  # the clock, and not the code, decides how far training comes
        for name in COUNTED:
            old, new = (_cost(record, name) for record in (before, now))
            if old != new and not (timed and name.startswith("spent.")):
                unlike[name] = f"{name}: {_short(old)} → {_short(new)}"
    if one.seeds:
        says = "; ".join(unlike.values()) or "parameters, steps, examples and tokens are as before"
        yield Finding(name=one.name, gate="counts", verdict="worse" if unlike else "same", says=says)


def _artefact(one: Pair, policy: Policy) -> Iterator[Finding]:
    sizes = [
        (before.cost.artefact_bytes, now.cost.artefact_bytes if now.cost else None)
        for before, now in one.both()
        if before.cost and before.cost.artefact_bytes
    ]
    if any(new is None for _, new in sizes):
        says = "its size was recorded before, and is not now"
        yield Finding(name=one.name, gate="artefact", verdict="worse", says=says)
    elif sizes:
        old, new = max(sizes, key=lambda pair: (pair[1] or 0) / pair[0])
        grown = (new or 0) / old - 1
        verdict: Verdict = "worse" if grown > policy.artefact else "same"
        says = f"{units.size(old)} → {units.size(new)} ({grown:+.1%})"
        yield Finding(name=one.name, gate="artefact", verdict=verdict, says=says)


def _memory(one: Pair, policy: Policy) -> Iterator[Finding]:
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
    verdict: Verdict = "same" if not grown else "worse" if cuda else "shown"
    yield Finding(name=one.name, gate="memory", verdict=verdict, says="; ".join(grown) or "peaks are as before")


def _speed(one: Pair) -> Iterator[Finding]:
    """Seconds of runs made at different times say little; they are shown and never judged."""
    told = []
    for name in ("fit", "predict"):
        times = [(_seconds(before, name), _seconds(now, name)) for before, now in one.both()]
        old, new = (sum(side) for side in zip(*times, strict=True)) if times else (0.0, 0.0)
        if old and new:
            told.append(f"{name} × {new / old:.2f}")
    if told:
        yield Finding(name=one.name, gate="speed", verdict="shown", says=", ".join(told))


def _curve(one: Pair) -> Iterator[Finding]:
    """The first step at which losses part is the clue to where a change came in."""
    for before, now in one.both():
        for old, new in zip(before.curve, now.curve, strict=False):
            if (old.train_loss, old.validation_loss) != (new.train_loss, new.validation_loss):
                says = f"seed {before.spec.seed}: losses part at step {new.step}"
                yield Finding(name=one.name, gate="curve", verdict="shown", says=says)
                return


def _cost(record: Record, name: str) -> object:
    part, field = name.split(".")
    return getattr(getattr(record.cost, part, None), field, None)


def _peak(record: Record, phase: str) -> float:
    known = record.cost.phases.get(phase) if record.cost else None
    return (known.peak_mib or 0.0) if known else 0.0


def _seconds(record: Record, phase: str) -> float:
    known = record.cost.phases.get(phase) if record.cost else None
    return known.wall_s if known else 0.0


def _machine(record: Record) -> list[object]:
    return [getattr(record.env, name, None) for name in MACHINE]


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
