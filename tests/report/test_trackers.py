"""Runs in TensorBoard, MLflow and W&B: told from records alone, once, and never a reason to lose one."""

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

from bench.analysis import task_results
from bench.errors import UserError
from bench.records.record import CurvePoint, Record
from bench.report import trackers

CURVE = (
    CurvePoint(step=0, tokens=0, seconds=0.0, train_loss=None, validation_loss=3.0, next_token_accuracy=0.1),
    CurvePoint(step=8, tokens=90, seconds=1.5, train_loss=2.0, validation_loss=1.5, next_token_accuracy=0.5),
)


@pytest.fixture
def record(make_record: MakeRecord) -> Record:
    return make_record("lora", 0.5, curve=CURVE)


def test_a_run_is_told_with_settings_figures_and_curve(record: Record) -> None:
    run = trackers.to_tracker_run(record)
    assert (run.params["rank"], run.params["lr"], run.params["spec.seed"]) == (16, 2e-3, 0)
    assert run.params["spec.base.ref"] == "bookworm"
    assert (run.figures["em"], run.figures["cost.phases.fit.peak_mib"]) == (0.5, 700.0)
    assert [step for step, _ in run.curve] == [0, 8]
    assert "train_loss" not in run.curve[0][1]  # not measured, and not 0


@pytest.mark.parametrize(
    ("names", "complaint"), [("tensorbord", "did you mean 'tensorboard'"), ("wandb,comet", "no such tracker")]
)
def test_an_unknown_tracker_is_refused(names: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=complaint):
        trackers.resolve_trackers(names)


@pytest.mark.parametrize("name", trackers.NAMES)
def test_a_tracker_that_is_not_installed_is_refused_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        trackers.resolve_trackers(name)
    assert refused.value.mend == f"pip install 'adaptbench[{name}]'"


def test_a_tracker_that_fails_is_a_warning(record: Record, tmp_path: Path) -> None:
    def broken(run: trackers.TrackerRun, out: Path) -> None:
        raise OSError("no space left")

    told: list[str] = []
    both: dict[str, trackers.Tracker] = {"wandb": broken, "mlflow": lambda run, out: told.append(run.id)}
    (warning,) = trackers.log_record(record, both, tmp_path)
    assert f"wandb was not told of {record.id} (OSError: no space left)" in warning
    assert told == [record.id]


def test_what_a_tracker_would_tell_its_makers_is_off(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[str, Any]]
) -> None:
    for setting in trackers.SILENCE:
        monkeypatch.setenv(setting, "")  # so that it is put back as it was
        monkeypatch.delenv(setting)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert trackers.log_record(record, trackers.resolve_trackers("wandb"), tmp_path) == []
    assert {setting: os.environ[setting] for setting in trackers.SILENCE} == trackers.SILENCE


def test_files_of_trackers_are_no_records(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path)
    hidden = tmp_path / ".wandb" / "offline-run-1" / "files" / "wandb-summary.json"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("{}", "utf-8")
    assert [one.id for one in task_results.read_records([tmp_path])] == [record.id]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_figures_and_curve_and_each_run_once(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    chosen = trackers.resolve_trackers("tensorboard")
    for _ in range(2):
        assert trackers.log_record(record, chosen, tmp_path) == []
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == record.id and len(list(folder.iterdir())) == 1
    found = scalars(folder)
    assert found["curve/validation_loss"] == [(0, 3.0), (8, 1.5)]
    assert found["curve/train_loss"] == [(8, 2.0)]
    assert found["em"] == [(8, 0.5)]
    assert found["cost/phases/fit/wall_s"] == [(8, 2.0)]


def test_tensorboard_reads_the_settings(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import metadata

    trackers.log_record(record, trackers.resolve_trackers("tensorboard"), tmp_path)
    (file,) = (tmp_path / "tensorboard" / record.id).iterdir()
    values = [value for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    told = next(value for value in values if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME)
    settings = metadata.parse_session_start_info_plugin_data(told.metadata.plugin_data.content).hparams
    assert settings["rank"].number_value == 16
    assert settings["spec.base.ref"].string_value == "bookworm"


def test_the_command_logs_every_run_also_what_is_kept_from_before(
    run_bench: Bench, make_task: MakeTask, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="needs the dev extra")
    make_task(tmp_path / "mine")
    words = ("run", "--methods", "majority", "--task", "./mine")
    assert run_bench(*words).returncode == 0
    assert not (tmp_path / "results" / "tensorboard").exists()
    done = run_bench(*words, "--tracker", "tensorboard")
    assert (done.returncode, "kept from before" in done.stderr) == (0, True), done.stderr
    (folder,) = (tmp_path / "results" / "tensorboard").iterdir()
    assert "em" in scalars(folder)
    wrong = run_bench(*words, "--tracker", "tensorbord", "--out", "other")
    assert (wrong.returncode, (tmp_path / "other").exists()) == (2, False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of a W&B that is not there."""
    found: list[tuple[str, Any]] = []

    class Made:
        summary = types.SimpleNamespace(update=lambda figures: found.append(("summary", figures)))

        def log(self, values: dict[str, float], step: int) -> None:
            found.append(("log", (step, values)))

        def finish(self, exit_code: int) -> None:
            found.append(("finish", exit_code))

    def init(**how: Any) -> Made:
        found.append(("init", how))
        return Made()

    fake = types.ModuleType("wandb")
    fake.__dict__.update(init=init, Settings=dict, teardown=lambda: found.append(("teardown", None)))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delitem(sys.modules, "bench.report.trackers.wandb", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield found
    sys.modules.pop("bench.report.trackers.wandb", None)


def test_wandb_is_offline_unless_told_otherwise(
    record: Record, tmp_path: Path, calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.report.trackers.wandb import write

    write(trackers.to_tracker_run(record), tmp_path)
    asked = dict(calls)
    assert (asked["init"]["mode"], asked["init"]["dir"], asked["init"]["id"]) == ("offline", str(tmp_path), record.id)
    assert asked["init"]["config"]["rank"] == 16
    assert asked["summary"]["em"] == 0.5
    assert [values for name, values in calls if name == "log"][-1][0] == 8
    assert calls[-1][0] == "teardown"  # nothing of it runs on beside the next measurement
    assert (tmp_path / ".wandb").is_dir()  # where W&B then writes, and where nobody looks for records
    monkeypatch.setenv("WANDB_MODE", "online")
    write(trackers.to_tracker_run(record), tmp_path)
    assert [how["mode"] for name, how in calls if name == "init"] == ["offline", "online"]


def test_mlflow_has_each_run_once_with_its_curve(
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
    (experiment,) = [one for one in client.search_experiments() if one.name == "feelings"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["rank"] == "16"
    assert run.data.metrics["em"] == 0.5
    assert [one.value for one in client.get_metric_history(run.info.run_id, "curve/validation_loss")] == [3.0, 1.5]
    assert [file.name for file in tmp_path.iterdir()] == ["results"]


def test_wandb_writes_a_run_that_can_be_synced(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    record.write(tmp_path)
    for _ in range(2):
        assert trackers.log_record(record, trackers.resolve_trackers("wandb"), tmp_path) == []
    (folder,) = (tmp_path / ".wandb").glob("offline-run-*")
    assert (folder / f"run-{record.id}.wandb").stat().st_size > 0
    summary = folder / "files" / "wandb-summary.json"
    assert not summary.exists() or json.loads(summary.read_text("utf-8"))["em"] == 0.5
    assert [one.id for one in task_results.read_records([tmp_path])] == [record.id]
