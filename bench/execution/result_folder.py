"""Folder of results: its lock, and how a record and its artifact are stored in it.

A run writes into a scratch folder beside the records. Only what is whole is moved into its place, by renaming, so a
command that is killed at any moment leaves either the earlier record and artifact or the new ones.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from bench import scratch
from bench.errors import StorageError, UserError
from bench.i18n import Message
from bench.method import ProgressCallback
from bench.records import Record

LOCK_FILE = ".lock"
NEW = "new"
"""Folder in a scratch folder that takes the record of a run, and its artifact under the name of the run id."""
REPLACED = "replaced"
"""Folder in a scratch folder that takes the artifact of an earlier run."""
STORAGE_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.ENOENT,
    errno.ENOTDIR,
)
"""Reasons why files cannot be written that are not faults of the program."""


def folder_lock(out: Path, on_progress: ProgressCallback) -> FileLock:
    """Return the lock of a folder of results, not acquired yet.

    Reports progress if another command holds the lock.

    Raises:
        UserError: The lock file is something else than a regular file.
        StorageError: The lock file cannot be written.
    """
    file = out / LOCK_FILE
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise UserError(
            Message("the lock of the results folder is not a regular file"),
            location=str(file.absolute()),
            hint=Message("remove it: rm -r {path}; or use another folder: --out FOLDER", path=shlex.quote(str(file))),
        )
    lock = FileLock(file, thread_local=False)
    with storage_errors(out):
        try:
            lock.acquire(blocking=False)
            lock.release()
        except TimeoutError:
            on_progress({"phase": Message("waiting for another bench run in this folder")})
    return lock


def check_record_path(out: Path, id: str) -> None:
    """Raise `UserError` if the path of a record is a folder, a pipe or a device."""
    file = out / f"{id}.json"
    if file.exists() and not file.is_file():
        raise UserError(
            Message("the path of a record is not a regular file"),
            location=str(file.absolute()),
            hint=Message("remove it: rm -r {path}; or use another folder: --out FOLDER", path=shlex.quote(str(file))),
        )


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Raise errors of the file system as `StorageError` with the file, or else the folder."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        location = error.filename2 or error.filename or folder
        raise StorageError(
            Message("the results cannot be written: {reason}", reason=os.strerror(error.errno).lower()),
            location=str(Path(os.fsdecode(location)).absolute()),
            hint=Message("free some space or repair the folder; the same command runs only the runs without a record"),
        ) from error


def recover_results(out: Path) -> None:
    """Store the whole results of commands that were killed, and delete the rest.

    Their temporary files elsewhere are deleted too. The caller holds the lock of the folder.
    """
    with storage_errors(out):
        scratch.remove_abandoned_folders(out, lambda folder: _move_results(folder, out))
        scratch.remove_abandoned_folders()


@contextmanager
def new_results(out: Path) -> Iterator[Path]:
    """Give an empty folder below a scratch folder beside the records, for `store_record`."""
    with scratch.scratch_folder(out) as folder:
        new = folder / NEW
        new.mkdir()
        try:
            yield new
        except StorageError:
            raise
        except BaseException:
            if (folder / scratch.READY).is_dir():  # An interruption while results are moved must not lose them.
                _move_results(folder, out)
            raise


def read_new_record(new: Path, id: str, keep: bool) -> Record | None:
    """Return the record that a run has written.

    Returns None if it has written none, or not all that belongs to it.

    Args:
        new: Folder of `new_results`.
        id: The run id.
        keep: True if an artifact belongs to the record of a successful run.
    """
    try:
        record = Record.read(new / f"{id}.json")
    except (UserError, ValidationError):
        return None
    if record.id != id or (keep and record.status == "ok" and not (new / id).is_dir()):
        return None
    return record


def store_record(record: Record, new: Path, out: Path) -> None:
    """Move a new record, with the artifact beside it, into the folder of results.

    The caller holds the lock of the folder. The record of a run that failed replaces no record of one that succeeded:
    it goes to `failure_file`.

    Args:
        record: The record; it is written if the folder `new` does not contain its file.
        new: Folder of `new_results`, with the artifact of a successful run in a folder of the name of the run id.
        out: Folder of results.
    """
    with storage_errors(out):
        file = new / f"{record.id}.json"
        if record.status != "ok":
            shutil.rmtree(new / record.id, ignore_errors=True)
        if not file.exists():
            record.write(new)
        failures = failure_file(out, record.id)
        if record.status != "ok" and has_good_record(out, record.id):
            file.replace(failures)
            return
        ready = new.with_name(scratch.READY)
        new.rename(ready)
        _move_results(ready.parent, out)


def failure_file(out: Path, id: str) -> Path:
    """Return the file for the record of a failed run beside that of a successful one."""
    return out / f"{id}.json.failed"


def stored_file(record: Record, out: Path) -> Path:
    """Return the file that `store_record` has written for a record."""
    failures = failure_file(out, record.id)
    return failures if record.status != "ok" and failures.is_file() else out / f"{record.id}.json"


def has_good_record(out: Path, id: str) -> bool:
    """Return True if the folder has a valid record of a successful run with this id.

    Raises:
        UserError: The file cannot be read, so it may be a good record.
    """
    file = out / f"{id}.json"
    try:
        return file.is_file() and Record.read(file).status == "ok"
    except ValidationError:
        return False


def _move_results(folder: Path, out: Path) -> None:
    """Move what a scratch folder holds in `scratch.READY` into the folder of results.

    An artifact of an earlier run leaves its place before the new record comes, and the new artifact comes after it. So
    no artifact ever stands beside the record of another run. The steps may be repeated after an interruption.
    """
    ready = folder / scratch.READY
    for file in ready.glob("*.json"):
        failure_file(out, file.stem).unlink(missing_ok=True)
        _replace_record(file, out, folder / REPLACED)
    for artifact in list(ready.glob("*")):
        if artifact.is_dir():
            artifact.rename(out / artifact.name)


def _replace_record(file: Path, out: Path, replaced: Path) -> None:
    """Move a record file into the folder of results, and an earlier artifact to `replaced`."""
    earlier = out / file.stem
    if os.path.lexists(earlier):
        earlier.rename(replaced)
    try:
        file.replace(out / file.name)
    except OSError:
        if os.path.lexists(replaced):
            replaced.rename(earlier)
        raise
