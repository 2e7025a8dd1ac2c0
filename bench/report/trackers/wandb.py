"""Weights & Biases, offline unless `WANDB_MODE` says otherwise.

To upload the runs: `wandb sync RESULTS/.wandb/offline-run-*`.
"""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

import wandb

from bench.report.trackers import TrackerRun


def write(run: TrackerRun, out: Path) -> None:
    """Write a run to the project `adaptbench`: config, summary metrics and curve."""
    # The folder is hidden, so its JSON files are not read as records.
    folder = out / ".wandb"
    folder.mkdir(parents=True, exist_ok=True)
    for old_run in folder.glob(f"*-run-*-{glob.escape(run.id)}"):
        shutil.rmtree(old_run)
    wandb_run = wandb.init(
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
        wandb_run.log({f"curve/{name}": value for name, value in values.items()}, step=step)
    wandb_run.summary.update(run.metrics)
    wandb_run.finish(exit_code=0 if run.status == "ok" else 1)
    wandb.teardown()  # Its service would otherwise run beside the next measurement.
