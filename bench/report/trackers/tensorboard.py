"""TensorBoard: `tensorboard --logdir RESULTS/tensorboard`, with a folder for each run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bench.report.trackers import TrackerRun


def write(run: TrackerRun, out: Path) -> None:
    """Write one event file with parameters, curve, and metrics at the last step."""
    folder = out / "tensorboard" / run.id
    shutil.rmtree(folder, ignore_errors=True)
    writer = EventFileWriter(str(folder))

    def add(summary: Summary, step: int, seconds: float = 0.0) -> None:
        writer.add_event(Event(wall_time=run.started + seconds, step=step, summary=summary))

    add(hparams_pb(run.params, trial_id=run.id, start_time_secs=run.started), 0)
    for step, values in run.curve:
        for name, value in values.items():
            add(_scalar(f"curve/{name}", value), step, values["seconds"])
    last_step = run.curve[-1][0] if run.curve else 0
    for name, value in run.metrics.items():
        add(_scalar(name.replace(".", "/"), value), last_step)
    writer.close()


def _scalar(name: str, value: float) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value)])
