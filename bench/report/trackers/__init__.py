"""Runs in the trackers that people already use: a file each, written from records.

None asks the network unless its own settings say so.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from bench.errors import UserError, did_you_mean
from bench.records.flatten import flatten_record
from bench.records.record import Record

NAMES = tuple(module.name for module in iter_modules(__path__))
# What these libraries would otherwise tell their makers; who wants that, sets it.
SILENCE = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
CURVE = ("train_loss", "validation_loss", "next_token_accuracy", "tokens", "seconds")


@dataclass(frozen=True)
class TrackerRun:
    """What a tracker is told of a record."""

    id: str
    task: str
    status: str
    started: float
    """Seconds since 1970; 0: the run never began."""
    params: dict[str, str | int | float | bool]
    """What was decided: hyper-parameters by their own names, everything else by its place in the record."""
    figures: dict[str, float]
    """What came of it: scores by their own names, costs by their place in the record."""
    curve: tuple[tuple[int, dict[str, float]], ...]
    """Steps, and what was measured there."""


Tracker = Callable[[TrackerRun, Path], None]
"""Writes a run below a folder of results, in place of what it wrote of that run before."""


def resolve_trackers(names: str | None) -> dict[str, Tracker]:
    """The trackers that are named, with commas between; raises `UserError` where one is unknown or not installed."""
    found = {}
    for name in filter(None, map(str.strip, (names or "").split(","))):
        if name not in NAMES:
            raise UserError(f"--tracker {name}: no such tracker", hint=did_you_mean(name, NAMES))
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--tracker {name}: it is not installed", hint=f"pip install 'adaptbench[{name}]'")
        found[name] = _late(name)
    return found


def log_record(record: Record, trackers: dict[str, Tracker], out: Path) -> list[str]:
    """Tell trackers of a record; says which failed, since a record is kept whatever becomes of its copies."""
    failed = []
    for name, write in trackers.items():
        try:
            write(to_tracker_run(record), out)
        except Exception as error:  # theirs, of any kind: a server out of reach, a full disk
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            failed.append(f"{name} was not told of {record.id} ({why}); the same command tells it again")
    return failed


def to_tracker_run(record: Record) -> TrackerRun:
    """A record as trackers want it: settings, figures, and the curve by steps."""
    everything = flatten_record(record)
    params = {name: value for name, value in everything.items() if name.startswith("spec.") and value is not None}
    del params["spec.method.params"]
    figures = {
        name: float(value)
        for name, value in everything.items()
        if name.startswith(("cost.", "forgetting.")) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    curve = [(point.step, {name: getattr(point, name) for name in CURVE}) for point in record.curve]
    return TrackerRun(
        id=record.id,
        task=record.spec.task.name,
        status=record.status,
        started=datetime.fromisoformat(record.env.started).timestamp() if record.env else 0.0,
        params=params | dict(record.spec.method.params),
        figures=dict(record.scores) | figures,
        curve=tuple((step, {name: v for name, v in values.items() if v is not None}) for step, values in curve),
    )


def _late(name: str) -> Tracker:
    """A tracker whose library is imported when there is something to write."""

    def write(run: TrackerRun, out: Path) -> None:
        for setting, value in SILENCE.items():
            os.environ.setdefault(setting, value)
        import_module(f"{__name__}.{name}").write(run, out)

    return write
