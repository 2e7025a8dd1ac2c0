"""Safe access to files: reading never waits for a pipe, and files are replaced as a whole."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.i18n import Message


def read_regular_file(file: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UserError: If it cannot be read, or if it is no regular file: reading a named pipe would wait for ever.
    """
    try:
        if stat.S_ISREG(file.stat().st_mode):
            return file.read_bytes()
    except OSError as error:
        raise UserError(Message("cannot be read: {reason}", reason=error.strerror), location=str(file)) from None
    raise UserError(
        Message("not a regular file"), location=str(file), hint=Message("name a record file, or a folder of records")
    )


def write_atomically(target: Path, text: str) -> None:
    """Write a text file that is either as before or complete, also after a power failure.

    A link at its place is replaced and not followed.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def set_aside(folder: Path, temporary_name: str) -> Iterator[None]:
    """Rename a folder for the time of a replacement, then delete it; an exception restores it.

    Args:
        folder: The folder; nothing is done if it does not exist. Of a link, only the link is deleted.
        temporary_name: Name beside it for the meantime.
    """
    if not folder.is_dir():
        yield
        return
    aside = folder.rename(folder.with_name(temporary_name))
    try:
        yield
    except BaseException:
        aside.rename(folder)
        raise
    if aside.is_symlink():
        aside.unlink()
    else:
        shutil.rmtree(aside, ignore_errors=True)
