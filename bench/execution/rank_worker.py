"""One of several processes that train a run together: `accelerate launch … -m bench.crew JOB OUT PROGRESS`.

The first does all that a run's only process would do. The others load and train with it and leave before anything is
answered or measured. Whichever fails first writes the record, and that ends them all.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch  # noqa: F401 (the processes meet by it, whatever the method needs)

from bench.execution import worker
from bench.execution.job import Job
from bench.execution.progress import ProgressFile
from bench.measurement import environment
from bench.records import artifacts
from bench.records.record import Env, Record

FAILED = "failed"  # a file beside that of the progress, made by the first that fails


class RankRun(worker.Run):
    """Loads and trains, and is done."""

    def go(self) -> None:
        """The first process alone has a clock: when its seconds are used up, it tells the others."""
        method, lesson = self.load()
        self.fit(method, lesson, self.spec.budget.model_copy(update={"seconds": None}))

    def env(self) -> Env:
        """Without measuring the machine, on which the first process measures the run by now."""
        others, digest = self.bystander.background_cores(), self.job.method_sha256
        return environment.describe_environment(self.started, digest, self.device, others, processes=self.job.processes)


def main(job_file: str, out: str, progress_file: str) -> int:
    """Run the job, or help to; returns the exit code: not 0 where this process tells of a failure."""
    job = Job.model_validate_json(Path(job_file).read_text("utf-8"))
    mark = Path(progress_file).with_name(FAILED)
    if os.environ.get("RANK", "0") != "0":
        record = RankRun(job, lambda state: None).record()
        return 0 if record.status == "ok" else _fail(record, Path(out), mark)
    with artifacts.record_writer(Path(out), job.spec.id, job.save_artifacts) as (saved, write):
        record = worker.Run(job, ProgressFile(Path(progress_file)), saved).record()
        if record.status == "ok":
            write(record)
            return 0
    return _fail(record, Path(out), mark)


def _fail(record: Record, out: Path, mark: Path) -> int:
    """Write the record of a failure unless another process has failed before, which may be why this one did."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return 0  # it ends when that has told
    record.write(out)
    return 1


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a process whose mates are gone could wait for them at its end
