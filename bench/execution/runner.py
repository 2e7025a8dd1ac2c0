"""Run a list of jobs and report progress to an observer: the Python entry point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.execution.executor import Executor
from bench.execution.job import Job
from bench.execution.tuning import Tuner
from bench.method import ProgressState
from bench.records import Record


class RunObserver(Protocol):
    """Receives the events of `run_jobs`.

    `index` counts the jobs from 0, in the order of the list. On a cluster, `started` and `progress` are called from
    several threads at once; `opened` and `finished` are always called from the thread of `run_jobs`.
    """

    def opened(self, description: str | None) -> None:
        """The executor is ready; `description` says where jobs run, None for this machine."""

    def started(self, index: int, job: Job) -> None:
        """A job was handed to the executor."""

    def progress(self, index: int, job: Job, state: ProgressState) -> None:
        """A job reported its phase, steps, tokens or seconds; `state` holds the newest values."""

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        """The record of a job is stored; `is_new` is False if it existed and the job was not run."""


class SilentObserver:
    """Observer that ignores every event."""

    def opened(self, description: str | None) -> None:
        """Ignore the event."""

    def started(self, index: int, job: Job) -> None:
        """Ignore the event."""

    def progress(self, index: int, job: Job, state: ProgressState) -> None:
        """Ignore the event."""

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        """Ignore the event."""


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    out: Path,
    *,
    force: bool = False,
    observer: RunObserver | None = None,
) -> list[Record]:
    """Run every job in its own process and store one record per job in `out`.

    A failed run does not stop the others: its record has the status `error` or `timeout`. Jobs with a budget of trials
    are tuned first. After a `KeyboardInterrupt` the running workers are stopped, finished records are kept, and a
    second call runs only the remaining jobs.

    Args:
        jobs: Jobs of `plan_jobs`.
        executor: Executor of `resolve_executor`.
        out: Existing folder for the records.
        force: Run jobs again that have a record.
        observer: Receives start, progress and end of each job; None reports nothing.

    Returns:
        The records, in the order of `jobs`.

    Raises:
        UserError: The executor cannot run these jobs, or its cluster was lost.
    """
    listener: RunObserver = observer or SilentObserver()
    tuner = Tuner(out, executor.launch)

    def run(numbered_job: tuple[int, Job]) -> tuple[int, Job, Record, bool]:
        index, job = numbered_job

        def report_progress(state: ProgressState) -> None:
            listener.progress(index, job, state)

        listener.started(index, job)
        tuned_job = tuner.with_best_params(job, report_progress)
        record, is_new = executor.launch(tuned_job, out, force=force, on_progress=report_progress)
        return index, job, record, is_new

    records: dict[int, Record] = {}
    with executor.open(jobs) as description:
        listener.opened(description)
        for index, job, record, is_new in executor.map(run, enumerate(jobs)):
            records[index] = record
            listener.finished(index, job, record, is_new)
    return [records[index] for index in range(len(jobs))]
