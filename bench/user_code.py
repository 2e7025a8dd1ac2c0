"""Code of a task's or method's file: whatever it raises is reported with file and line."""

from __future__ import annotations

import dis
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from bench.errors import UserError
from bench.i18n import Message


class UserCodeError(UserError):
    """Code of a task or a method raised an exception."""


@contextmanager
def report_user_code(
    file: Path | None, problem: str, *, place: str = "", hint: str | None = None, keep: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn every exception of user code into a `UserCodeError` with file and line.

    `SystemExit` is one of them: `sys.exit(0)` in a file would otherwise end the command with success.

    Args:
        file: File of the code, for the line; None if it is not known.
        problem: The problem in a few words, e.g. `task.py cannot be imported`; the exception is added.
        place: Location in the error if the file is not known, e.g. the name of a module.
        hint: Hint of the error.
        keep: Exceptions that are raised unchanged.

    Raises:
        UserCodeError: The code raised an exception.
    """
    try:
        yield
    except keep:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        location = _raising_line(error, file) if file is not None else place
        message = Message("{problem}: {exception}", problem=problem, exception=describe_exception(error))
        raise UserCodeError(message, location=location or None, hint=hint) from error


def is_interrupt(error: BaseException) -> bool:
    """Return True if the user has interrupted the command, e.g. by Ctrl-C.

    A `KeyboardInterrupt` that a `raise` statement has raised is no interruption.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is None or not _is_at_raise(last)


def describe_exception(error: BaseException) -> str:
    """Return class and message of an exception, also if its message cannot be formatted."""
    try:
        message = str(error)
    except BaseException:  # `__str__` is code of the same file
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _is_at_raise(frame: TracebackType) -> bool:
    """Tell if a traceback entry stands at a `raise` statement."""
    return frame.tb_frame.f_code.co_code[frame.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _raising_line(error: BaseException, file: Path) -> str:
    """Return the last line of the file, or of one beside it, that led to an exception."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    path = file.absolute()
    own_lines = [line for name, line in frames if Path(name).absolute() == path]
    if own_lines:
        return f"{file}:{own_lines[-1]}"
    files = [(name, line) for name, line in frames if not name.startswith("<")]
    neighbors = [f"{name}:{line}" for name, line in files if Path(name).absolute().parent == path.parent]
    return neighbors[-1] if neighbors else str(file)
