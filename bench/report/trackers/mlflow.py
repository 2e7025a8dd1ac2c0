"""MLflow: the file RESULTS/mlflow.db, or the server of `MLFLOW_TRACKING_URI`.

To see the runs: `mlflow ui --backend-store-uri sqlite:///RESULTS/mlflow.db`.
"""

from __future__ import annotations

import os
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from bench.report.trackers import TrackerRun

MAX_BATCH_SIZE = 100
"""Parameters or metrics that a store accepts in one call."""
ID_TAG = "adaptbench.id"


def write(run: TrackerRun, out: Path) -> None:
    """Write a run with its parameters, metrics and curve to the experiment of its task."""
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.absolute()}/mlflow.db")
    experiment_id = _experiment_id(client, run.task, out)
    for old_run in client.search_runs([experiment_id], f"tags.`{ID_TAG}` = '{run.id}'"):
        client.delete_run(old_run.info.run_id)
    start_ms = round(run.started * 1000)
    tags = {ID_TAG: run.id, "status": run.status}
    run_id = client.create_run(experiment_id, start_time=start_ms, run_name=run.id, tags=tags).info.run_id
    last_step = run.curve[-1][0] if run.curve else 0
    metrics = [
        Metric(f"curve/{name}", value, start_ms + round(1000 * values["seconds"]), step)
        for step, values in run.curve
        for name, value in values.items()
    ]
    metrics += [Metric(name, value, start_ms, last_step) for name, value in run.metrics.items()]
    params = [Param(name, str(value)) for name, value in run.params.items()]
    for first in range(0, len(params), MAX_BATCH_SIZE):
        client.log_batch(run_id, params=params[first : first + MAX_BATCH_SIZE])
    for first in range(0, len(metrics), MAX_BATCH_SIZE):
        batch = metrics[first : first + MAX_BATCH_SIZE]
        client.log_batch(run_id, metrics=batch, tags=[RunTag(ID_TAG, run.id)])
    client.set_terminated(run_id, "FINISHED" if run.status == "ok" else "FAILED")


def _experiment_id(client: MlflowClient, name: str, out: Path) -> str:
    """Return the id of an experiment, which is created if it is missing."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    # No artifact is ever logged, but without a location the client creates one in the working directory.
    return str(client.create_experiment(name, f"{out.absolute().as_uri()}/mlflow"))
