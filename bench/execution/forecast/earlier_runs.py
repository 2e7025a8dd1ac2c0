"""Seconds of earlier runs of the same method on this machine, from their records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cpu import available_cores
from bench.errors import UserError
from bench.execution.job import Job
from bench.execution.tuning import TRIALS_FOLDER
from bench.measurement import device, environment
from bench.records import Record
from bench.records.reader import read_file, read_files

FINISHED = ("ok", "unsupported", "did-not-fit", "diverged")
"""Statuses of runs that would end in the same way, after as many seconds."""

RunKey = tuple[str, str, str, str]
"""Method, digest of the task, digest of the model, and dtype."""


class EarlierRuns:
    """Finished runs in a folder of results that were made on this machine."""

    def __init__(self, jobs: Sequence[Job], out: Path) -> None:
        """Read the records of the tasks of the jobs in the folder `out`, which may be missing."""
        names = {job.spec.task.name for job in jobs}
        folders = [out, out / TRIALS_FOLDER]
        files = [file for folder in folders for name in sorted(names) for file in sorted(folder.glob(f"{name}-*.json"))]
        self._runs: dict[RunKey, list[Record]] = defaultdict(list)
        for record in _read_valid(files):
            if record.status in FINISHED and record.cost is not None and _is_this_machine(record):
                spec = record.spec
                key = spec.method.name, spec.task.sha256, spec.base.sha256, spec.base.dtype
                self._runs[key].append(record)

    def closest(self, job: Job, train_rows: int) -> Record | None:
        """Return the run whose training is closest in length to the job; None without one.

        Of equally close runs the newest is returned.

        Args:
            job: The job.
            train_rows: Training rows of the task.
        """
        spec = job.spec
        runs = [
            record
            for record in self._runs[spec.method.name, spec.task.sha256, spec.base.sha256, spec.base.dtype]
            if record.env is not None
            and record.env.processes == job.processes
            and record.spec.split == spec.split
            and record.spec.prompt == spec.prompt
            and record.spec.decoding.constraint == spec.decoding.constraint
            and (record.status == "ok" or record.spec.key == spec.key)
            and (record.env.threads is None or device.is_same_device(job.device, record.env.device))
        ]

        def distance(record: Record) -> tuple[float, bool]:
            usage = record.cost.budget_usage if record.cost else None
            steps = usage.steps if usage else 0
            planned = planned_steps(job, train_rows)
            return abs(math.log((steps + 1) / (planned + 1))), record.spec.method.params != spec.method.params

        newest_first = sorted(runs, key=lambda record: record.env.started if record.env else "", reverse=True)
        return min(newest_first, key=distance, default=None)


def train_size(job: Job, train_rows: int) -> int:
    """Return the training examples that a job is given, of the training rows of its task."""
    return min(train_rows, job.spec.budget.examples or train_rows)


def planned_steps(job: Job, train_rows: int) -> int:
    """Return the optimizer steps that the budget of a job allows."""
    limits = job.spec.budget
    bounds = [limits.steps or math.inf]
    if limits.epochs:
        bounds.append(limits.epochs * math.ceil(train_size(job, train_rows) / limits.batch))
    return int(min(bounds))


def _read_valid(files: Sequence[Path]) -> Iterable[Record]:
    """Return the records of files; a file that is no record is left out."""
    try:
        return list(read_files(files))
    except UserError:
        records = []
        for file in files:
            try:
                records.append(read_file(file))
            except UserError:
                continue
        return records


def _is_this_machine(record: Record) -> bool:
    """Return True if a run was made on a machine like this one, with as many threads."""
    env = record.env
    return (
        env is not None
        and env.processor == environment.processor_name()
        and env.cores == available_cores()
        and env.threads in (None, environment.compute_threads())
    )
