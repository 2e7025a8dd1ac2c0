"""Experiment trackers: each module of this folder writes runs to one, from records.

No tracker uses the network unless its own settings ask for it.
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
from bench.i18n import Message
from bench.records import Record
from bench.records.flatten import flatten_record

TRACKER_NAMES = tuple(module.name for module in iter_modules(__path__))
TELEMETRY_OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""Environment variables that stop the libraries from sending usage data; a value that the user has set is kept."""
CURVE_FIELDS = ("train_loss", "validation_loss", "next_token_accuracy", "tokens", "seconds")


@dataclass(frozen=True)
class TrackerRun:
    """A record in the form that trackers need.

    Attributes:
        id: Run id.
        task: Name of the task.
        status: Status of the run.
        started: Start time in seconds since 1970; 0 if the run never started.
        params: Hyper-parameters by their own names, and the rest of the spec by its path in the record.
        metrics: Scores by their own names, and costs by their path in the record.
        curve: Steps with the values that were measured at each.
    """

    id: str
    task: str
    status: str
    started: float
    params: dict[str, str | int | float | bool]
    metrics: dict[str, float]
    curve: tuple[tuple[int, dict[str, float]], ...]


Tracker = Callable[[TrackerRun, Path], None]
"""Writes a run below a folder of results and replaces what it wrote of that run before."""


def resolve_trackers(names: str | None) -> dict[str, Tracker]:
    """Return the trackers of a comma-separated list by their names.

    Raises:
        UserError: A tracker is unknown or not installed.
    """
    trackers = {}
    for name in filter(None, map(str.strip, (names or "").split(","))):
        if name not in TRACKER_NAMES:
            raise UserError(
                Message("--tracker {name}: unknown tracker", name=name), hint=did_you_mean(name, TRACKER_NAMES)
            )
        if importlib.util.find_spec(name) is None:
            raise UserError(
                Message("--tracker {name}: not installed", name=name), hint=f"pip install 'adaptbench[{name}]'"
            )
        trackers[name] = _lazy_tracker(name)
    return trackers


def log_record(record: Record, trackers: dict[str, Tracker], out: Path) -> list[str]:
    """Write a record to trackers.

    Returns:
        A warning for each tracker that failed. A failure is no error, since the record itself is kept.
    """
    warnings = []
    for name, write in trackers.items():
        try:
            write(to_tracker_run(record), out)
        except Exception as error:  # Trackers raise errors of any kind: the server is out of reach, the disk is full.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.append(f"{name}: {record.id} was not logged ({reason}); repeat the command to log it")
    return warnings


def to_tracker_run(record: Record) -> TrackerRun:
    """Return settings, metrics and curve of a record."""
    fields = flatten_record(record)
    params = {name: value for name, value in fields.items() if name.startswith("spec.") and value is not None}
    del params["spec.method.params"]
    costs = {
        name: float(value)
        for name, value in fields.items()
        if name.startswith(("cost.", "forgetting.")) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    curve = []
    for point in record.curve:
        values = {name: getattr(point, name) for name in CURVE_FIELDS}
        curve.append((point.step, {name: value for name, value in values.items() if value is not None}))
    return TrackerRun(
        id=record.id,
        task=record.spec.task.name,
        status=record.status,
        started=datetime.fromisoformat(record.env.started).timestamp() if record.env else 0.0,
        params=params | dict(record.spec.method.params),
        metrics=record.all_scores | costs,
        curve=tuple(curve),
    )


def _lazy_tracker(name: str) -> Tracker:
    """Return a tracker whose library is imported when the first run is written."""

    def write(run: TrackerRun, out: Path) -> None:
        for variable, value in TELEMETRY_OFF.items():
            os.environ.setdefault(variable, value)
        import_module(f"{__name__}.{name}").write(run, out)

    return write
