"""Weights & Biases, offline unless `WANDB_MODE` says otherwise: `wandb sync RESULTS/.wandb/offline-run-*`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import wandb

from bench.report.trackers import TrackerRun


def write(run: TrackerRun, out: Path) -> None:
    """A run in the project `adaptbench`, with its settings, its figures as summary, and its curve."""
    # Hidden, since it writes JSON files that are no records.
    folder = out / ".wandb"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*-run-*-{run.id}"):
        shutil.rmtree(old)
    made = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "adaptbench"),
        id=run.id,
        name=run.id,
        group=run.task,
        tags=[run.status],
        config=dict(run.params),
        dir=str(out),
        mode=os.environ.get("WANDB_MODE", "offline"),
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True),
    )
    for step, values in run.curve:
        made.log({f"curve/{name}": value for name, value in values.items()}, step=step)
    made.summary.update(run.figures)
    made.finish(exit_code=0 if run.status == "ok" else 1)
    wandb.teardown()  # its service would run on beside the next measurement
