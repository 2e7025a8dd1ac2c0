"""Forecasts of runs: from earlier runs of the folder, from a rehearsal, or not known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeRecord, MakeTask

from bench.cpu import available_cores
from bench.execution import plan
from bench.execution.forecast import job_forecast, rehearsal
from bench.execution.forecast.rehearsal import Rehearsal
from bench.execution.job import Job
from bench.measurement import environment
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record

FIGURES = Rehearsal(
    import_s=8.0,
    load_s=1.0,
    general_text_s=2.0,
    setup_s=0.5,
    token_s=0.01,
    row_tokens=20.0,
    example_s=0.0,
    question_s=0.0,
    max_questions=0,
    query_s=0.5,
    batch_s=0.2,
    row_s=0.1,
    batch_rows=100,
    serves_adapter=False,
)


@pytest.fixture
def make_jobs(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> Callable[..., list[Job]]:
    """Plan jobs of methods on a task of 9 training rows and 5 questions; keywords as for `plan_jobs`."""
    task = make_task(tmp_path / "task")

    def make(methods: str, **changes: Any) -> list[Job]:
        options: dict[str, Any] = {"seeds": 1, "budget_text": "standard", "settings": []} | changes
        jobs = plan.plan_jobs(methods, str(task), str(tiny.folder), **options)
        return [job for job in jobs if job.spec.method.name in methods.split(",")]

    return make


def store_record(make_record: MakeRecord, job: Job, out: Path, *, fit_s: float, **env_changes: Any) -> Record:
    """Store the record of a run of the job on this machine; keywords change its environment."""
    record = make_record(job.spec.method.name, method__params=job.spec.method.params)
    document = record.model_dump(mode="json")
    document["spec"] = job.spec.model_dump(mode="json")
    document["id"] = job.spec.id
    document["spec"]["seed"] = 7
    document["id"] = f"{job.spec.id.rpartition('-')[0]}-s7"
    document["cost"]["phases"]["fit"]["wall_s"] = fit_s
    document["cost"]["budget_usage"]["steps"] = 3
    document["env"] = {
        "started": "2026-11-27T10:00:00+00:00",
        "adaptbench": "0.1.0",
        "revision": None,
        "method_sha256": job.method_sha256,
        "python": "3.12.0",
        "platform": "Linux",
        "processor": environment.processor_name(),
        "cores": available_cores(),
        "threads": environment.compute_threads(),
        "memory_mib": 1000,
        "device": "cpu",
        "background_cores": 0.0,
        "packages": {},
    } | env_changes
    out.mkdir(exist_ok=True)
    stored = Record.model_validate(document)
    (out / f"{stored.id}.json").write_text(json.dumps(document), "utf-8")
    return stored


def test_forecast_without_records_or_rehearsal_is_not_known(
    make_jobs: Callable[..., list[Job]], tmp_path: Path
) -> None:
    (forecast,) = job_forecast.forecast_jobs(make_jobs("lora"), tmp_path / "missing")
    assert (forecast.source, forecast.range_s) == ("not known", None)
    total = job_forecast.total_forecast([forecast])
    assert (total.runs, total.unknown_runs) == (1, 1)


@pytest.mark.parametrize(("epochs", "fit_s"), [(3, 30.0), (6, 60.0)])
def test_forecast_from_earlier_run_scales_training_with_steps(
    make_jobs: Callable[..., list[Job]], make_record: MakeRecord, tmp_path: Path, epochs: int, fit_s: float
) -> None:
    store_record(make_record, make_jobs("lora")[0], tmp_path / "results", fit_s=30.0)
    jobs = make_jobs("lora", budget_text=f"standard,epochs={epochs}")
    (forecast,) = job_forecast.forecast_jobs(jobs, tmp_path / "results")
    assert forecast.source == "earlier run"
    assert forecast.seconds == pytest.approx(fit_s + 2.0 + job_forecast.OTHER_S)  # 2 s of predict
    assert forecast.low is not None and forecast.high is not None
    assert forecast.low < forecast.seconds < forecast.high


@pytest.mark.parametrize("change", [{"processor": "another"}, {"cores": 999}, {"threads": 998}])
def test_forecast_with_record_of_another_machine_is_not_known(
    make_jobs: Callable[..., list[Job]], make_record: MakeRecord, tmp_path: Path, change: dict[str, Any]
) -> None:
    jobs = make_jobs("lora")
    store_record(make_record, jobs[0], tmp_path / "results", fit_s=30.0, **change)
    assert job_forecast.forecast_jobs(jobs, tmp_path / "results")[0].source == "not known"


def test_forecast_of_limited_seconds_stays_within_the_limit(
    make_jobs: Callable[..., list[Job]], make_record: MakeRecord, tmp_path: Path
) -> None:
    store_record(make_record, make_jobs("lora")[0], tmp_path / "results", fit_s=3000.0)
    (forecast,) = job_forecast.forecast_jobs(make_jobs("lora", budget_text="standard,seconds=10"), tmp_path / "results")
    assert forecast.seconds == pytest.approx(10 + 2.0 + job_forecast.OTHER_S)


def test_forecast_of_tuning_counts_trials_once_for_all_seeds(
    make_jobs: Callable[..., list[Job]], make_record: MakeRecord, tmp_path: Path
) -> None:
    store_record(make_record, make_jobs("lora")[0], tmp_path / "results", fit_s=30.0)
    jobs = make_jobs("lora", budget_text="standard,trials=4", seeds=2)
    first, second = job_forecast.forecast_jobs(jobs, tmp_path / "results")
    assert first.seconds == pytest.approx(5 * (second.seconds or 0))


def test_forecast_from_rehearsal_serves_methods_that_train_alike(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[str] = []

    def rehearse(job: Job, on_progress: Any) -> Rehearsal:
        rehearsed.append(job.spec.method.name)
        return FIGURES

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    monkeypatch.setattr(rehearsal, "find_rehearsal", lambda job: None)
    monkeypatch.setattr(job_forecast.fork_client, "can_fork", lambda: True)
    lora, dora, _ = job_forecast.forecast_jobs(make_jobs("lora,dora,majority"), tmp_path)
    assert rehearsed == ["lora", "majority"]
    assert (lora.source, dora.source) == ("rehearsal", "rehearsal of a similar method")
    # 3 epochs of 9 rows of 20 tokens; the first run imports and reads the general text a second time.
    training_s = 27 * 20 * 0.01 * 1.05
    answers_s = 0.2 + 5 * 0.1 + 6 * 0.5
    run_s = job_forecast.OTHER_S + 1.0 + 0.5 + training_s + answers_s + 2.0
    assert lora.seconds == pytest.approx(run_s + 2.0 + 8.0)
    assert dora.seconds == pytest.approx(run_s)


def test_forecast_before_runs_leaves_out_imports_of_the_rehearsal(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "rehearse", lambda job, on_progress: FIGURES)
    monkeypatch.setattr(rehearsal, "find_rehearsal", lambda job: None)
    monkeypatch.setattr(job_forecast.fork_client, "can_fork", lambda: True)
    (later,) = job_forecast.forecast_jobs(make_jobs("lora"), tmp_path)
    (now,) = job_forecast.forecast_jobs(make_jobs("lora"), tmp_path, runs_follow=True)
    assert (later.seconds or 0) - (now.seconds or 0) == pytest.approx(FIGURES.import_s)


def test_forecast_imports_no_torch(make_jobs: Callable[..., list[Job]], environment: dict[str, str]) -> None:
    import subprocess

    code = "import sys, bench.execution.forecast.job_forecast; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("method", ["lora", "zero-shot", "tfidf"])
def test_rehearsal_measures_a_method_and_is_kept(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(rehearsal.SWITCH_VARIABLE, "on")
    (job,) = make_jobs(method)
    figures = rehearsal.rehearse(job)
    assert figures is not None
    assert figures.is_supported == (method != "tfidf")  # the task has open answers
    assert (figures.token_s > 0) == (method == "lora")
    assert rehearsal.find_rehearsal(job) == figures
    assert job_forecast.forecast_jobs([job], tmp_path / "missing")[0].source == "rehearsal"


def test_rehearsal_of_prompting_measures_the_questions_that_choose_a_prompt(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(rehearsal.SWITCH_VARIABLE, "on")
    splits = {
        split: [{"id": f"{split}{n}", "input": f"{split} {n}", "target": "yn"[n % 2]} for n in range(size)]
        for split, size in (("train", 12), ("validation", 20), ("test", 20))
    }
    task = make_task(tmp_path / "task", labels=["y", "n"], **splits)
    (job, *_) = plan.plan_jobs(
        "few-shot", str(task), str(tiny.folder), seeds=1, budget_text="standard", settings=["few-shot.k=2"]
    )
    figures = rehearsal.rehearse(job)
    assert figures is not None and figures.question_s > 0
    whole = job_forecast.forecast_jobs([job], tmp_path / "missing")[0].seconds
    none_asked = figures.model_copy(update={"question_s": 0.0})
    monkeypatch.setattr(rehearsal, "find_rehearsal", lambda job: none_asked)
    rest = job_forecast.forecast_jobs([job], tmp_path / "missing")[0].seconds
    assert whole is not None and rest is not None
    assert whole - rest == pytest.approx(20 * figures.question_s)
