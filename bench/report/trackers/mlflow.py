"""MLflow: `mlflow ui --backend-store-uri sqlite:///RESULTS/mlflow.db`, or the server of `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from bench.report.trackers import TrackerRun

MOST = 100  # params, or metrics, that a store takes at once
OURS = "adaptbench.id"


def write(run: TrackerRun, out: Path) -> None:
    """A run in the experiment of its task, with its settings, its figures and its curve."""
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.absolute()}/mlflow.db")
    known = client.get_experiment_by_name(run.task)
    # Artifacts are none; without a place of their own the client would make one in the working directory.
    place = known.experiment_id if known else client.create_experiment(run.task, f"{out.absolute().as_uri()}/mlflow")
    for old in client.search_runs([place], f"tags.`{OURS}` = '{run.id}'"):
        client.delete_run(old.info.run_id)
    began = round(run.started * 1000)
    made = client.create_run(place, start_time=began, run_name=run.id, tags={OURS: run.id, "status": run.status})
    key = made.info.run_id
    last = run.curve[-1][0] if run.curve else 0
    metrics = [
        Metric(f"curve/{name}", value, began + round(1000 * values["seconds"]), step)
        for step, values in run.curve
        for name, value in values.items()
    ]
    metrics += [Metric(name, value, began, last) for name, value in run.figures.items()]
    params = [Param(name, str(value)) for name, value in run.params.items()]
    for start in range(0, len(params), MOST):
        client.log_batch(key, params=params[start : start + MOST])
    for start in range(0, len(metrics), MOST):
        client.log_batch(key, metrics=metrics[start : start + MOST], tags=[RunTag(OURS, run.id)])
    client.set_terminated(key, "FINISHED" if run.status == "ok" else "FAILED")
