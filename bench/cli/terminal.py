"""Standard streams of the command: control characters, encodings and closed pipes."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bench.errors import StorageError, UserError
from bench.escape import clean_text, clean_workflow_output
from bench.i18n import Message

ERROR_HANDLER = "bench.terminal"
STAND_INS = {"–": "-", "—": "-", "·": "-", "°": "*", "∅": "-", "×": "x", "Δ": "d", "…": "...", "→": "->"}
"""Replacements of the symbols in tables and sentences, for terminals whose encoding lacks them."""


@contextmanager
def safe_output() -> Iterator[None]:
    """Make the standard streams safe for any text while the context lasts.

    Control characters of names, messages and answers are printed as escapes; characters that the encoding of the
    terminal lacks are replaced; after the reader of a pipe has gone, output is discarded, so the command still ends as
    it would.
    """
    codecs.register_error(ERROR_HANDLER, _replace_unencodable)
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        if stream is not None:
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=ERROR_HANDLER)
            setattr(sys, name, SafeStream(stream))
    try:
        yield
    finally:
        for name, stream in streams.items():
            if stream is not None:
                getattr(sys, name).flush()
                setattr(sys, name, stream)


class SafeStream:
    """Text stream that escapes control characters and outlives the reader of its pipe.

    Args:
        stream: The stream that is written to.
        plain: False for output of rich, which has control characters of its own and escapes those of texts itself.
    """

    def __init__(self, stream: Any, *, plain: bool = True) -> None:
        self._stream, self._plain = stream, plain
        self._is_workflow = os.environ.get("GITHUB_ACTIONS") == "true"
        if plain:
            self.rich_proxied_file = SafeStream(stream, plain=False)  # rich writes to the stream of this name

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        length = len(text)
        safe_text = clean_text(text) if self._plain else text
        self._call(self._stream.write, clean_workflow_output(safe_text) if self._is_workflow else safe_text)
        return length

    def flush(self) -> None:
        """Write what is buffered."""
        self._call(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _call(self, method: Any, *arguments: str) -> None:
        """Call a method of the stream; discard all output from now on if nobody reads it."""
        try:
            method(*arguments)
        except BrokenPipeError:
            self._discard()
        except OSError as error:
            self._discard()
            if self._stream is sys.__stdout__:
                raise StorageError(
                    Message("standard output cannot be written: {reason}", reason=error.strerror)
                ) from None

    def _discard(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        with suppress(OSError):
            self._stream.flush()


def print_json(document: Any, indent: int | None = None) -> None:
    """Print a JSON document; characters that the encoding of the output may lack are escaped."""
    is_unicode = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    print(json.dumps(document, ensure_ascii=not is_unicode, indent=indent))


def check_arguments(arguments: list[str]) -> None:
    """Raise `UserError` for an argument that is no text in the encoding of the terminal."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(
                Message(
                    "the argument {argument} is not valid in the encoding {encoding}",
                    argument=clean_text(argument),
                    encoding=sys.getfilesystemencoding(),
                ),
                hint=Message("use a UTF-8 locale, e.g. LC_ALL=C.UTF-8, and names that are valid UTF-8"),
            ) from None


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement of characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    chars = error.object[error.start : error.end]
    return "".join(STAND_INS.get(char) or json.dumps(char)[1:-1] for char in chars), error.end
