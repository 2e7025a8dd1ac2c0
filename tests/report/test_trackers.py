"""Runs in TensorBoard, MLflow and W&B: written from records, once, and a failure loses no record."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, MakeRecord, MakeTask

from bench.errors import UserError
from bench.records import CurvePoint, Record, read_records
from bench.report import trackers

CURVE = (
    CurvePoint(step=0, tokens=0, seconds=0.0, train_loss=None, validation_loss=3.0, next_token_accuracy=0.1),
    CurvePoint(step=8, tokens=90, seconds=1.5, train_loss=2.0, validation_loss=1.5, next_token_accuracy=0.5),
)


@pytest.fixture
def record(make_record: MakeRecord) -> Record:
    return make_record("lora", 0.5, curve=CURVE)


def test_to_tracker_run_has_params_metrics_and_curve(record: Record) -> None:
    run = trackers.to_tracker_run(record)
    assert (run.params["rank"], run.params["lr"], run.params["spec.seed"]) == (16, 2e-3, 0)
    assert run.params["spec.base.ref"] == "bookworm"
    assert (run.metrics["em"], run.metrics["cost.phases.fit.peak_mib"]) == (0.5, 700.0)
    assert [step for step, _ in run.curve] == [0, 8]
    assert "train_loss" not in run.curve[0][1]  # It was not measured, and is not 0.


@pytest.mark.parametrize(
    ("names", "message"), [("tensorbord", "did you mean 'tensorboard'"), ("wandb,comet", "unknown tracker")]
)
def test_resolve_trackers_unknown_name_is_rejected(names: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=message):
        trackers.resolve_trackers(names)


@pytest.mark.parametrize("name", trackers.TRACKER_NAMES)
def test_resolve_trackers_not_installed_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        trackers.resolve_trackers(name)
    assert error.value.hint == f"pip install 'adaptbench[{name}]'"


def test_log_record_failing_tracker_is_a_warning(record: Record, tmp_path: Path) -> None:
    def fail(run: trackers.TrackerRun, out: Path) -> None:
        raise OSError("no space left")

    logged: list[str] = []
    both: dict[str, trackers.Tracker] = {"wandb": fail, "mlflow": lambda run, out: logged.append(run.id)}
    (warning,) = trackers.log_record(record, both, tmp_path)
    assert f"wandb: {record.id} was not logged (OSError: no space left)" in warning
    assert logged == [record.id]


def test_log_record_turns_telemetry_off(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, Any]]
) -> None:
    for variable in trackers.TELEMETRY_OFF:
        monkeypatch.setenv(variable, "")  # The fixture then restores the variable after the test.
        monkeypatch.delenv(variable)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert trackers.log_record(record, trackers.resolve_trackers("wandb"), tmp_path) == []
    assert {variable: os.environ[variable] for variable in trackers.TELEMETRY_OFF} == trackers.TELEMETRY_OFF


def test_read_records_skips_files_of_trackers(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path)
    hidden = tmp_path / ".wandb" / "offline-run-1" / "files" / "wandb-summary.json"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("{}", "utf-8")
    assert [loaded.id for loaded in read_records([tmp_path])] == [record.id]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_metrics_and_curve_of_each_run_once(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    active = trackers.resolve_trackers("tensorboard")
    for _ in range(2):
        assert trackers.log_record(record, active, tmp_path) == []
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == record.id and len(list(folder.iterdir())) == 1
    values = scalars(folder)
    assert values["curve/validation_loss"] == [(0, 3.0), (8, 1.5)]
    assert values["curve/train_loss"] == [(8, 2.0)]
    assert values["em"] == [(8, 0.5)]
    assert values["cost/phases/fit/wall_s"] == [(8, 2.0)]


def test_tensorboard_reads_the_hyper_parameters(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import metadata

    trackers.log_record(record, trackers.resolve_trackers("tensorboard"), tmp_path)
    (file,) = (tmp_path / "tensorboard" / record.id).iterdir()
    values = [value for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    hparams = next(value for value in values if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME)
    params = metadata.parse_session_start_info_plugin_data(hparams.metadata.plugin_data.content).hparams
    assert params["rank"].number_value == 16
    assert params["spec.base.ref"].string_value == "bookworm"


def test_run_command_logs_new_and_existing_records(run_bench: Bench, make_task: MakeTask, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    make_task(tmp_path / "mine")
    arguments = ("run", "--methods", "majority", "--task", "./mine")
    assert run_bench(*arguments).returncode == 0
    assert not (tmp_path / "results" / "tensorboard").exists()
    done = run_bench(*arguments, "--tracker", "tensorboard")
    assert (done.returncode, "existing record" in done.stderr) == (0, True), done.stderr
    (folder,) = (tmp_path / "results" / "tensorboard").iterdir()
    assert "em" in scalars(folder)
    wrong = run_bench(*arguments, "--tracker", "tensorbord", "--out", "other")
    assert (wrong.returncode, (tmp_path / "other").exists()) == (2, False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """Calls of a fake W&B, as pairs of a name and its arguments."""
    calls: list[tuple[str, Any]] = []

    class FakeRun:
        summary = types.SimpleNamespace(update=lambda metrics: calls.append(("summary", metrics)))

        def log(self, values: dict[str, float], step: int) -> None:
            calls.append(("log", (step, values)))

        def finish(self, exit_code: int) -> None:
            calls.append(("finish", exit_code))

    def init(**options: Any) -> FakeRun:
        calls.append(("init", options))
        return FakeRun()

    fake = types.ModuleType("wandb")
    fake.__dict__.update(init=init, Settings=dict, teardown=lambda: calls.append(("teardown", None)))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delitem(sys.modules, "bench.report.trackers.wandb", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield calls
    sys.modules.pop("bench.report.trackers.wandb", None)


def test_wandb_is_offline_unless_its_mode_is_set(
    record: Record, tmp_path: Path, calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.report.trackers.wandb import write

    write(trackers.to_tracker_run(record), tmp_path)
    last_calls = dict(calls)
    assert (last_calls["init"]["mode"], last_calls["init"]["dir"], last_calls["init"]["id"]) == (
        "offline",
        str(tmp_path),
        record.id,
    )
    assert last_calls["init"]["config"]["rank"] == 16
    assert last_calls["summary"]["em"] == 0.5
    assert [values for name, values in calls if name == "log"][-1][0] == 8
    assert calls[-1][0] == "teardown"  # Nothing of it runs beside the next measurement.
    assert (tmp_path / ".wandb").is_dir()  # W&B writes here, and no records are read from here.
    monkeypatch.setenv("WANDB_MODE", "online")
    write(trackers.to_tracker_run(record), tmp_path)
    assert [options["mode"] for name, options in calls if name == "init"] == ["offline", "online"]


def test_mlflow_reads_each_run_once_with_its_curve(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    pytest.importorskip("sqlalchemy", reason="needs the extra mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert trackers.log_record(record, trackers.resolve_trackers("mlflow"), tmp_path / "results") == []
    client = MlflowClient(f"sqlite:///{tmp_path}/results/mlflow.db")
    (experiment,) = [entry for entry in client.search_experiments() if entry.name == "feelings"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["rank"] == "16"
    assert run.data.metrics["em"] == 0.5
    history = client.get_metric_history(run.info.run_id, "curve/validation_loss")
    assert [metric.value for metric in history] == [3.0, 1.5]
    assert [file.name for file in tmp_path.iterdir()] == ["results"]


def test_wandb_writes_a_run_that_wandb_sync_accepts(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    record.write(tmp_path)
    for _ in range(2):
        assert trackers.log_record(record, trackers.resolve_trackers("wandb"), tmp_path) == []
    (folder,) = (tmp_path / ".wandb").glob("offline-run-*")
    assert (folder / f"run-{record.id}.wandb").stat().st_size > 0
    summary = folder / "files" / "wandb-summary.json"
    assert not summary.exists() or json.loads(summary.read_text("utf-8"))["em"] == 0.5
    assert [loaded.id for loaded in read_records([tmp_path])] == [record.id]
