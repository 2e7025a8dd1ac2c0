"""A fresh process per run, and a record whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

import bench
from bench import registry
from bench.execution import accelerate_launcher, fork_client, progress
from bench.execution.job import Job
from bench.execution.plan import find_finished_record
from bench.measurement import device
from bench.method import ProgressCallback
from bench.records.record import Failure, Record, Spec, Status

POLL_S = 0.25
GRACE_S = 60.0
TAIL_LINES = 30


def launch_run(
    job: Job, out: Path, *, force: bool = False, show: ProgressCallback = lambda state: None
) -> tuple[Record, bool]:
    """The job's record, and whether it had to be run for it.

    One run at a time in a folder, whoever asks: runs side by side would disturb each other's measurements, and what
    another command has just finished need not be run again.
    """
    with folder_lock(out, show):
        record = None if force else find_finished_record(job, out)
        if record is not None:
            return record, False
        return _run(job, out, show), True


def folder_lock(out: Path, show: ProgressCallback) -> FileLock:
    """A folder's lock, yet to be taken; shows if another command has it."""
    lock = FileLock(out / ".lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
        lock.release()
    except TimeoutError:
        show({"phase": "waiting for another bench run in this folder"})
    return lock


def _run(job: Job, out: Path, show: ProgressCallback) -> Record:
    place = out / f"{job.spec.id}.json"
    before = _stamp(place)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        (folder / "job.json").write_text(job.model_dump_json(), "utf-8")
        with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
            files = [folder / "job.json", out.absolute(), folder / "progress"]
            worker = _start(job, files, log)
            try:
                late = _wait(worker, job, folder / "progress", show)
            finally:
                if worker.returncode is None:
                    worker.kill()
                    worker.wait()
            if _stamp(place) != before:
                return Record.read(place)
            log.seek(0)
            tail = "".join(log.readlines()[-TAIL_LINES:])
        state = progress.read_progress(folder / "progress")
    record = _obituary(job, worker.returncode, late, state, tail)
    record.write(out)
    return record


def _start(job: Job, files: list[Path], log: IO[str]) -> fork_client.Process:
    """The process of a job, or those that train it together."""
    if job.accelerate is not None:
        around = accelerate_launcher.rank_environment(job.device, job.processes)
        return accelerate_launcher.start_ranks(job.accelerate, files, log, _environment(job.spec) | around)
    needs = registry.find_method(job.spec.method.ref).preload_modules
    return fork_client.start_worker(
        files, log, needs, _environment(job.spec) | device.visible_gpu_environment(job.device)
    )


def _wait(worker: fork_client.Process, job: Job, file: Path, show: ProgressCallback) -> bool:
    """Wait for the worker, mostly asleep; True if it had to be killed for ignoring its budget of seconds."""
    granted = job.spec.budget.seconds
    while True:
        try:
            worker.wait(timeout=POLL_S)
            return False
        except subprocess.TimeoutExpired:
            state = progress.read_progress(file)
            show(state)
            fitting = time.time() - state["since"] if state.get("phase") == "fit" else 0.0
            if granted is not None and fitting > 2 * granted + GRACE_S:
                worker.kill()
                worker.wait()
                return True


def _environment(spec: Spec) -> dict[str, str]:
    """The child finds the same `bench`, hashes the same way every time, and asks no hub while it is measured."""
    settled = {"PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # Threads that spin for long cost a factor of ten as soon as another process needs one of the cores, and threads
    # that never spin cost half as much again; what the user says about it holds.
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        settled["GOMP_SPINCOUNT"] = "30000"
    settled["THP_MEM_ALLOC_ENABLE"] = "1"  # torch asks for large pages: faster, and less lies idle between tensors
    if spec.budget.memory is not None:
        # Every tensor of some size goes back to the system when it is freed: slower by a third, and the peak is halved.
        settled["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    checkout = Path(bench.__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
        settled["PYTHONPATH"] = os.pathsep.join(paths)
    return os.environ | settled


def _stamp(file: Path) -> tuple[int, int] | None:
    """Tells a file from the one that replaced it; None if there is none."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns


def _obituary(job: Job, code: int, late: bool, state: dict[str, Any], tail: str) -> Record:
    """The record of a run whose process died before it could write one."""
    phase = state.get("phase", "start")
    status: Status = "timeout" if late else "error"
    if late:
        message = f"still fitting long after its {job.spec.budget.seconds:g} s were over, so the worker was ended"
    elif code < 0:
        message = f"the worker was killed by {signal.Signals(-code).name} during {phase}"
        if -code == signal.SIGKILL:
            message += " (the system does that when memory runs out)"
    else:
        message = f"the worker ended with exit code {code} during {phase} and left no record"
    return failed_record(job, status, Failure(kind="WorkerDied", message=message, trace=tail or None))


def failed_record(job: Job, status: Status, why: Failure) -> Record:
    """The record of a run of which nothing else is known."""
    return Record(
        id=job.spec.id,
        status=status,
        spec=job.spec,
        command=job.command,
        scores={},
        cost=None,
        env=None,
        curve=(),
        tuning=job.tuning,
        error=why,
        samples=(),
    )
