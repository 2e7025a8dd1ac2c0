"""`run_jobs` as a Python entry point: its records, its order and the events that an observer receives."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeTask

from bench.execution import plan
from bench.execution.executor import resolve_executor
from bench.execution.job import Job
from bench.execution.runner import run_jobs
from bench.method import ProgressState
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record


class EventLog:
    """Observer that lists its events."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def opened(self, description: str | None) -> None:
        self.events.append(("opened", description))

    def started(self, index: int, job: Job) -> None:
        self.events.append(("started", index))

    def progress(self, index: int, job: Job, state: ProgressState) -> None:
        pass  # how often it is called depends on the speed of the machine

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        assert record.spec == job.spec
        self.events.append(("finished", index, record.status, is_new))


@pytest.fixture
def jobs(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> list[Job]:
    task = make_task(tmp_path / "task")
    jobs = plan.plan_jobs("majority", str(task), str(tiny.folder), seeds=2, budget_text="steps=1", settings=[])
    return [job for job in jobs if job.spec.method.name == "majority"]


def test_run_jobs_reports_events_and_keeps_the_order_of_jobs(jobs: list[Job], tmp_path: Path) -> None:
    out = tmp_path / "results"
    out.mkdir()
    first, second = EventLog(), EventLog()
    records = run_jobs(jobs, resolve_executor("local"), out, observer=first)
    assert [record.id for record in records] == [job.spec.id for job in jobs]
    assert all((out / f"{record.id}.json").is_file() for record in records)
    expected: list[tuple[object, ...]] = [("opened", None)]
    for index in range(len(jobs)):
        expected += [("started", index), ("finished", index, "ok", True)]
    assert first.events == expected
    assert run_jobs(jobs, resolve_executor("local"), out, observer=second) == records
    assert [event[-1] for event in second.events if event[0] == "finished"] == [False] * len(jobs)


def test_run_jobs_force_runs_finished_jobs_again(jobs: list[Job], tmp_path: Path) -> None:
    out = tmp_path / "results"
    out.mkdir()
    run_jobs(jobs[:1], resolve_executor("local"), out)
    log = EventLog()
    run_jobs(jobs[:1], resolve_executor("local"), out, force=True, observer=log)
    assert log.events[-1] == ("finished", 0, "ok", True)
