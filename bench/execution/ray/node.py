"""Functions that run on a node of a Ray cluster: check its files, and run a job."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import bench
from bench import registry, scratch
from bench.data import hub_tasks
from bench.errors import UserError
from bench.execution.job import Job
from bench.execution.launcher import launch_run
from bench.i18n import Message
from bench.method import ProgressCallback, ProgressState
from bench.modeling import checkpoint

PROGRESS_INTERVAL_S = 1.0
SHARE_HINT = Message("use a folder that all nodes have under the same path, or add ?ship=FOLDER to the address")


def find_obstacle(jobs: Sequence[Job], folder: str | None, package_sha256: str) -> UserError | None:
    """Return the reason why this node cannot run the jobs; None if it can.

    Args:
        jobs: Jobs of the command.
        folder: Working folder of the command; None if Ray has copied it here.
        package_sha256: `source_sha256` of the command.
    """
    try:
        if package_sha256 != source_sha256():
            raise UserError(
                Message("its adaptbench differs (version {version} with other sources)", version=bench.__version__),
                location=str(Path(bench.__file__).parent),
                hint=Message("install the same version on every node"),
            )
        with _working_folder(folder):
            distinct = {(job.spec.method.ref, job.spec.task.ref, job.spec.base.ref): job for job in jobs}
            for job in distinct.values():
                _check_files(job)
    except UserError as error:
        return error
    return None


def run_job(job: Job, folder: str | None, on_progress: ProgressCallback) -> tuple[bytes, bytes]:
    """Run a job on this node and leave nothing on it.

    Args:
        job: The job.
        folder: Working folder of the command; None if Ray has copied it here.
        on_progress: Receives the progress of the run.

    Returns:
        The record as JSON, and the saved artifact as a tar archive; empty if there is none.
    """
    with _working_folder(folder), scratch.scratch_folder() as scratch_folder:
        _check_method(job)  # the worker checks task and model
        out = scratch_folder / "results"
        out.mkdir()
        record, _ = launch_run(job, out, on_progress=_limit_rate(on_progress))
        artifact = out / record.id
        return record.to_json().encode(), pack(artifact) if artifact.is_dir() else b""


def source_sha256() -> str:
    """Return the digest of all Python files of this package and of the shipped methods."""
    package = Path(bench.__file__).parent
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py")}
    # A checkout has methods/ beside bench/ and a wheel has it inside: both get the same names.
    for root in bench.__path__:
        files |= {f"methods/{file.name}": file for file in (Path(root) / "methods").glob("*.py")}
    names = sorted(name for name in files if not name.startswith(("tasks/", "models/")))
    digests = [(name, hashlib.sha256(files[name].read_bytes()).hexdigest()) for name in names]
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def pack(folder: Path) -> bytes:
    """Return a folder as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".")
    return archive.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Extract the files and folders of an archive of `pack` into a new folder.

    Links and devices are left out, because an artifact has none and they may lead out of the folder.

    Raises:
        tarfile.TarError: It is no archive, or a path leads out of the folder.
    """
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        tar.extractall(folder, [member for member in tar if member.isreg() or member.isdir()], filter="data")


def _check_files(job: Job) -> None:
    """Raise `UserError` if method, task or model are missing here or not those of the plan."""
    _check_method(job)
    if missing := registry.missing_modules(registry.find_method(job.spec.method.ref)):
        raise UserError(
            Message(
                "{method} needs packages that are not installed: {names}",
                method=job.spec.method.ref,
                names=", ".join(missing),
            )
        )
    task_folder = registry.find_task(job.spec.task.ref)
    if hub_tasks.load_task(task_folder, fetch=False).sha256 != job.spec.task.sha256:
        raise UserError(
            Message("the task '{task}' is not the same as where the command started", task=job.spec.task.ref),
            location=str(task_folder.absolute()),
            hint=SHARE_HINT,
        )
    model_folder = registry.find_model(job.spec.base.ref)
    checkpoint.check_model_folder(model_folder)
    if checkpoint.weights_digest(model_folder) != job.spec.base.sha256:
        raise UserError(
            Message("the model '{model}' is not the same as where the command started", model=job.spec.base.ref),
            location=str(model_folder.absolute()),
            hint=SHARE_HINT,
        )


def _check_method(job: Job) -> None:
    cls = registry.find_method(job.spec.method.ref)
    if registry.source_sha256(cls) != job.method_sha256:
        raise UserError(
            Message("the method '{method}' is not the same as where the command started", method=job.spec.method.ref),
            location=cls.__module__,
            hint=SHARE_HINT,
        )


@contextlib.contextmanager
def _working_folder(folder: str | None) -> Iterator[None]:
    """Change to the working folder of the command for its relative paths."""
    if folder is None:
        yield
        return
    if not os.path.isdir(folder):
        raise UserError(Message("the working folder of the command was not found"), location=folder, hint=SHARE_HINT)
    with contextlib.chdir(folder):
        yield


def _limit_rate(on_progress: ProgressCallback) -> ProgressCallback:
    """Return a callback that passes on progress at most once a second.

    A new phase is passed on at once.
    """
    last_time = 0.0
    last_phase: str | None = None

    def report(state: ProgressState) -> None:
        nonlocal last_time, last_phase
        now, phase = time.monotonic(), state.get("phase")
        if phase != last_phase or now - last_time > PROGRESS_INTERVAL_S:
            last_time, last_phase = now, phase
            on_progress(state)

    return report
