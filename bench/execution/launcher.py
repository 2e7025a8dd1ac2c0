"""Launcher: starts a process per run and returns its record, also if the process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

from pydantic import ValidationError

import bench
from bench import registry, scratch
from bench.execution import accelerate_launcher, fork_client, progress, result_folder
from bench.execution.fork_client import Process
from bench.execution.job import Job
from bench.measurement import determinism, device, memory_limit
from bench.method import ProgressCallback, ProgressState
from bench.records import Failure, Record, Spec, Status

POLL_S = 0.25
GRACE_S = 60.0
"""Seconds beyond twice its budget of seconds after which a training process is killed."""
LOG_TAIL_LINES = 30
LAST_WORDS_LINES = 5
"""Lines at the end of the log in which a process that dies says why."""


def launch_run(
    job: Job, out: Path, *, force: bool = False, on_progress: ProgressCallback = lambda state: None
) -> tuple[Record, bool]:
    """Return the record of a job, which is run unless it has a finished record.

    A lock allows one run at a time in a folder, from all commands: runs side by side would disturb each other's
    measurements, and a run that another command has just finished need not be repeated.

    Args:
        job: The job.
        out: Folder of the records.
        force: Run the job even if it has a finished record.
        on_progress: Receives the progress of the run.

    Returns:
        The record, and True if the job was run for it. The record of a failed run is stored as
        `result_folder.failure_file` if the folder has the record of a successful one.

    Raises:
        StorageError: Files of the run cannot be written.
    """
    with result_folder.folder_lock(out, on_progress):
        result_folder.recover_results(out)
        record = None if force else find_finished_record(job, out)
        if record is not None:
            return record, False
        return _run(job, out, on_progress), True


def find_finished_record(job: Job, out: Path) -> Record | None:
    """Return the record of a job if it need not be run again.

    That is a record with the status ok, made on the device that the job asks for, with as many processes, by the
    current code of the method, and with the saved artifact beside it if the job asks for one. If it has measured
    forgetting, it has done so on the text that the job asks for.
    """
    file = out / f"{job.spec.id}.json"
    if not file.is_file() or (job.save_artifacts and not (out / job.spec.id).is_dir()):
        return None
    try:
        record = Record.read(file)
    except ValidationError:
        return None
    if record.status != "ok" or record.env is None or record.env.method_sha256 != job.method_sha256:
        return None
    if record.forgetting is not None:
        asked = job.general_text.sha256 if job.general_text else None
        measured = record.forgetting.text_sha256 if job.general_text or record.forgetting.text else None
        if measured != asked:
            return None
    # A method that computes without torch (no threads in the record) gives the same on any device.
    same_device = record.env.threads is None or device.is_same_device(job.device, record.env.device)
    return record if same_device and record.env.processes == job.processes else None


def _run(job: Job, out: Path, on_progress: ProgressCallback) -> Record:
    """Run the job in a process of its own, store its record in the folder `out` and return it.

    A process that dies without a record gets the record of a failure.
    """
    result_folder.check_record_path(out, job.spec.id)
    with result_folder.storage_errors(out), scratch.scratch_folder() as folder, result_folder.new_results(out) as new:
        record = _run_worker(job, folder, new, on_progress)
        result_folder.store_record(record, new, out)
    return record


def _run_worker(job: Job, folder: Path, new: Path, on_progress: ProgressCallback) -> Record:
    """Run the worker of a job and return its record, or that of its death.

    Args:
        job: The job.
        folder: Folder for all files of the worker except its results.
        new: Folder for its results.
        on_progress: Receives the progress of the run.
    """
    job_file, progress_file = folder / "job.json", folder / "progress"
    job_file.write_text(job.model_dump_json(), "utf-8")
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        worker = start_worker(job, [job_file, new.absolute(), progress_file], log)
        try:
            timed_out = _wait(worker, job, progress_file, on_progress)
        finally:
            if worker.returncode is None:
                worker.kill()
                worker.wait()
        record = result_folder.read_new_record(new, job.spec.id, bool(job.save_artifacts))
        if record is not None:
            return record
        log.seek(0)
        log_tail = "".join(log.readlines()[-LOG_TAIL_LINES:])
    for file in new.iterdir():  # A part of a record or an artifact may take the room that the failure record needs.
        scratch.remove_path(file)
    state = progress.read_progress(progress_file)
    return _record_of_dead_worker(job, worker.returncode, timed_out, state, log_tail)


def start_worker(job: Job, files: list[Path], log: IO[str]) -> Process:
    """Start the process of a job, or the launcher of the processes that train it together.

    Args:
        job: The job.
        files: Job file, output folder and progress file of the worker.
        log: File that takes what the process prints.
    """
    environment = worker_environment(job.spec) | determinism.cublas_environment()
    if job.accelerate is not None:
        environment |= accelerate_launcher.rank_environment(job.device, job.processes)
        return accelerate_launcher.start_ranks(job.accelerate, files, log, environment)
    modules = registry.find_method(job.spec.method.ref).preload_modules
    environment |= device.visible_gpu_environment(job.device)
    return fork_client.start_worker(files, log, modules, environment)


def _wait(worker: Process, job: Job, progress_file: Path, on_progress: ProgressCallback) -> bool:
    """Wait for the worker and report its progress.

    Returns True if the worker was killed for exceeding its budget of seconds.
    """
    limit_s = job.spec.budget.seconds
    fit_began: float | None = None
    while True:
        try:
            worker.wait(timeout=POLL_S)
            return False
        except subprocess.TimeoutExpired:
            state = progress.read_progress(progress_file)
            on_progress(state)
            if state.get("phase") != "fit":
                fit_began = None
            elif fit_began is None:
                fit_began = time.monotonic()
            elif limit_s is not None and time.monotonic() - fit_began > 2 * limit_s + GRACE_S:
                worker.kill()
                worker.wait()
                return True


def worker_environment(spec: Spec) -> dict[str, str]:
    """Return the environment variables of a worker.

    The worker imports the same `bench`, hashes the same way every time, and sends no request to the hub while it is
    measured.
    """
    variables = {"PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    variables["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # the log is UTF-8, whatever the terminal's encoding is
    # Threads that spin for long are ten times slower as soon as another process needs one of the cores, and threads
    # that never spin are slower by half. A setting of the user takes precedence.
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        variables["GOMP_SPINCOUNT"] = "30000"
    variables["THP_MEM_ALLOC_ENABLE"] = "1"  # with huge pages torch is faster and wastes less memory between tensors
    if spec.budget.memory is not None:
        # Larger tensors return to the system as soon as they are freed: a third slower, but half the peak memory.
        variables["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    checkout = Path(bench.__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return os.environ | variables


def _record_of_dead_worker(job: Job, exit_code: int, timed_out: bool, state: ProgressState, log_tail: str) -> Record:
    """Create the failure record of a run whose process ended without writing a record."""
    phase = state.get("phase", "start")
    status: Status = "timeout" if timed_out else "error"
    if timed_out:
        message = f"still fitting long after its {job.spec.budget.seconds:g} s were over, so the worker was killed"
    elif exit_code < 0:
        message = f"the worker was killed by {signal.Signals(-exit_code).name} during {phase}"
        if -exit_code == signal.SIGKILL:
            message += " (the system does that when memory runs out)"
    else:
        message = f"the worker ended with exit code {exit_code} during {phase} and wrote no record"
        if exit_code and log_tail.strip():
            message += f": {log_tail.strip().splitlines()[-1]}"
    if not timed_out and exit_code and memory_limit.says_out_of_memory(_last_lines(log_tail)):
        status = "did-not-fit"  # some libraries print that memory ran out and end the process
    return failed_record(job, status, Failure(kind="WorkerDied", message=message, trace=log_tail or None))


def _last_lines(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-LAST_WORDS_LINES:])


def failed_record(job: Job, status: Status, error: Failure) -> Record:
    """Return the record of a run that has no other results."""
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
        error=error,
        samples=(),
    )
