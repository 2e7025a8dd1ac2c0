"""Folders for temporary files, removed later if their owner was killed, and the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

TEMPORARY_PREFIX = "bench-"
"""Beginning of the names of scratch folders in the folder of the system for temporary files."""
HIDDEN_PREFIX = ".bench-"
"""Beginning of the names of scratch folders beside a result, hidden from those who read the results."""
LOCK_FILE = "lock"
READY = "ready"
"""Folder in a scratch folder that holds whole results, until a command moves them out."""
UNLOCKED_AGE_S = 3600.0
"""Age in seconds at which a scratch folder without a lock file has no owner that is about to create one."""


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder that is deleted at the end of the context.

    If this process is killed, the next command deletes it. The owner holds a lock on a file in the folder, which the
    system releases however the owner ends. So a folder whose lock can be acquired has no owner. The name of the folder
    contains a digest of the host's name, because not every file system that several machines share passes locks on
    from one machine to another.

    Args:
        parent: Folder to create it in, under a hidden name; None for the system's folder for temporary files.
    """
    remove_abandoned_folders(parent)
    folder, lock = _create_locked_folder(parent)
    try:
        yield folder
    finally:
        _remove_locked_folder(folder, lock)


def remove_abandoned_folders(parent: Path | None = None, recover: Callable[[Path], None] | None = None) -> None:
    """Delete the scratch folders whose owner on this machine has ended without deleting them.

    Args:
        parent: Folder that contains them; None for the system's folder for temporary files.
        recover: Function that moves whole results out of such a folder before it is deleted. Without it, a folder
            with whole results stays.
    """
    root, prefix = _root_and_prefix(parent)
    for folder in root.glob(f"{prefix}*"):
        lock = FileLock(folder / LOCK_FILE, thread_local=False)
        try:
            if folder.is_symlink() or not _has_lock_file(folder):
                continue
            lock.acquire(blocking=False)
        except OSError:  # It has an owner (TimeoutError), has just been deleted, or cannot be locked.
            continue
        if recover is None and (folder / READY).is_dir():  # The results wait for a command that stores them.
            lock.release()
            continue
        try:
            if recover is not None:
                recover(folder)
        except BaseException:
            lock.release()
            raise
        _remove_locked_folder(folder, lock)


def user_cache_folder(name: str) -> Path:
    """Return a folder of the user's cache, which may be missing or deleted at any time."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "adaptbench" / name


def remove_path(path: Path) -> None:
    """Delete a file, a link or a folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _create_locked_folder(parent: Path | None) -> tuple[Path, FileLock]:
    """Create a scratch folder and acquire its lock."""
    root, prefix = _root_and_prefix(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        lock = FileLock(folder / LOCK_FILE, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except TimeoutError:  # Another command took the new folder for an abandoned one.
            continue
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder, lock


def _remove_locked_folder(folder: Path, lock: FileLock) -> None:
    """Delete a scratch folder whose lock is held.

    The lock file goes last: if something else cannot be deleted now, a later command can still lock the folder.
    """
    for path in folder.glob("*"):
        if path.name != LOCK_FILE:
            remove_path(path)
    lock.release()
    if all(path.name == LOCK_FILE for path in folder.glob("*")):
        shutil.rmtree(folder, ignore_errors=True)


def _root_and_prefix(parent: Path | None) -> tuple[Path, str]:
    """Return the folder of scratch folders and the beginning of their names on this machine."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    if parent is None:
        return Path(tempfile.gettempdir()), f"{TEMPORARY_PREFIX}{host}-"
    return parent, f"{HIDDEN_PREFIX}{host}-"


def _has_lock_file(folder: Path) -> bool:
    """Return True if a scratch folder has a lock file, or is old enough to have none.

    The owner of an old folder without one must have ended before creating it.

    Raises:
        OSError: The folder has just been deleted.
    """
    return (folder / LOCK_FILE).is_file() or time.time() - folder.stat().st_mtime > UNLOCKED_AGE_S
