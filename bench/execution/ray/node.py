"""What a node of a cluster is asked: whether it has what the runs take, and to make one of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bench
from bench import registry
from bench.data import hub_tasks
from bench.errors import UserError
from bench.execution.job import Job
from bench.execution.launcher import launch_run
from bench.method import ProgressCallback
from bench.modeling import checkpoint
from bench.records import Record

TELL_S = 1.0
SHARE = "a folder that all nodes share under the same path, or ship=FOLDER behind the address, brings it there"


def find_obstacle(jobs: Sequence[Job], folder: str | None, harness: str) -> UserError | None:
    """Why this node cannot make these runs, as it would be made from `folder`; None where it can."""
    try:
        if harness != source_sha256():
            raise UserError(
                f"another version of adaptbench (here {bench.__version__} of other sources)",
                location=str(Path(bench.__file__).parent),
                hint="install the same one on every node",
            )
        with _standing_in(folder):
            for job in {(job.spec.method.ref, job.spec.task.ref, job.spec.base.ref): job for job in jobs}.values():
                _compare(job)
    except UserError as refusal:
        return refusal
    return None


def run_job(job: Job, folder: str | None, tell: ProgressCallback) -> tuple[Record, bytes | None]:
    """The record of a job, and what it kept as a tar archive; nothing of it stays on the node."""
    with _standing_in(folder), tempfile.TemporaryDirectory(prefix="bench-") as out:
        _compare_method(job)  # task and model are compared by the worker
        record, _ = launch_run(job, Path(out), show=_now_and_then(tell))
        kept = Path(out) / record.id
        return record, pack(kept) if kept.is_dir() else None


def source_sha256() -> str:
    """Digest of the harness and of the methods that ship: the code of all runs."""
    package = Path(bench.__file__).parent
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py")}
    # A checkout keeps methods/ beside bench/, a wheel inside it: the same names for both.
    files |= {f"methods/{file.name}": file for root in bench.__path__ for file in (Path(root) / "methods").glob("*.py")}
    files = {name: file for name, file in files.items() if not name.startswith(("tasks/", "models/"))}
    digests = [(name, hashlib.sha256(files[name].read_bytes()).hexdigest()) for name in sorted(files)]
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def pack(folder: Path) -> bytes:
    """A folder as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".")
    return archive.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Put the folder of an archive in place, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.kept.", dir=folder.parent) as scratch:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
            tar.extractall(Path(scratch) / "artifact")
        (Path(scratch) / "artifact").rename(folder)


def _compare(job: Job) -> None:
    """Refuse what is not here, or is not what the job was planned with."""
    _compare_method(job)
    if missing := registry.missing_modules(registry.find_method(job.spec.method.ref)):
        raise UserError(f"what {job.spec.method.ref} needs is not installed: {', '.join(missing)}")
    place = registry.find_task(job.spec.task.ref)
    if hub_tasks.load_task(place, fetch=False).sha256 != job.spec.task.sha256:
        raise UserError(f"the task '{job.spec.task.ref}' is another one", location=str(place.absolute()), hint=SHARE)
    base = registry.find_model(job.spec.base.ref)
    checkpoint.check_model_folder(base)
    if checkpoint.weights_digest(base) != job.spec.base.sha256:
        raise UserError(f"the model '{job.spec.base.ref}' is another one", location=str(base.absolute()), hint=SHARE)


def _compare_method(job: Job) -> None:
    cls = registry.find_method(job.spec.method.ref)
    if registry.source_sha256(cls) != job.method_sha256:
        raise UserError(f"the method '{job.spec.method.ref}' is another one", location=cls.__module__, hint=SHARE)


@contextlib.contextmanager
def _standing_in(folder: str | None) -> Iterator[None]:
    """In the folder that the command was given in, so that paths mean the same; None: Ray has put us there."""
    if folder is None:
        yield
        return
    if not os.path.isdir(folder):
        raise UserError("the folder that the command was given in is not there", location=folder, hint=SHARE)
    with contextlib.chdir(folder):
        yield


def _now_and_then(tell: ProgressCallback) -> ProgressCallback:
    """Tells at once what is new in kind, and not more than once a second how far it is."""
    last: dict[str, Any] = {"at": 0.0}

    def show(state: dict[str, Any]) -> None:
        now = time.monotonic()
        if state.get("phase") != last.get("phase") or now - last["at"] > TELL_S:
            last.update(at=now, phase=state.get("phase"))
            tell(state)

    return show
