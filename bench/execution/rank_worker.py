"""Worker for one rank of a run that several processes train together.

Started by `accelerate launch … -m bench.execution.rank_worker JOB NEW PROGRESS`. Rank 0 does all that the only process
of a run would do. The other ranks load and train with it and exit before anything is answered or measured. The rank
that fails first writes the record of the failure, and its exit code ends the others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch  # noqa: F401 (the ranks communicate by torch, also if the method needs none)

from bench.execution import child, phases, worker
from bench.execution.job import Job
from bench.execution.phases import RunState
from bench.execution.progress import ProgressFile
from bench.records import Record, artifacts

FAILURE_MARKER = "failed"
"""Name of a file beside the progress file, created by the rank that fails first."""


def main(job_file: str, new: str, progress_file: str) -> int:
    """Run the job on rank 0; on other ranks, only load the model and take part in training.

    Returns the exit code: 1 if this rank has recorded a failure, else 0.
    """
    job = Job.model_validate_json(Path(job_file).read_text("utf-8"))
    worker.use_temporary_folder(Path(job_file).parent)
    marker = Path(progress_file).with_name(FAILURE_MARKER)
    if os.environ.get("RANK", "0") != "0":
        state = RunState(job, lambda progress: None)
        # Rank 0 measures the machine at the end of the run, and this rank must not disturb that.
        record = worker.record_run(state, _load_and_fit, measure_peak_flops=False)
        return 0 if record.status == "ok" else _record_failure(record, Path(new), marker)
    with artifacts.record_writer(Path(new), job.save_artifacts) as (saved, write):
        record = worker.run_job(job, ProgressFile(Path(progress_file)), saved)
        if record.status == "ok":
            worker.write_or_exit(write, record)
            return 0
    return _record_failure(record, Path(new), marker)


def _load_and_fit(state: RunState) -> None:
    """Run the phases of a rank other than 0.

    Its budget has no seconds, since only rank 0 has a clock.
    """
    loaded = phases.load(state)
    phases.fit(state, loaded, state.job.spec.budget.model_copy(update={"seconds": None}))


def _record_failure(record: Record, new: Path, marker: Path) -> int:
    """Write the record of a failure unless another rank has failed before.

    The failure of the other rank may have caused this one.
    """
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return 0  # the other rank's exit code ends this run once its record is written
    worker.write_or_exit(lambda failed: failed.write(new), record)
    return 1


if __name__ == "__main__":
    child.end_with_parent(int(os.environ[child.PARENT_VARIABLE]))
    exit_code = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # a normal exit could wait for ranks that have ended
