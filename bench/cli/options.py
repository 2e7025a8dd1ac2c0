"""Options that several verbs of the command share, and what is refused of them."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import Refused


class Format(StrEnum):
    """How results are written to standard output."""

    table = "table"
    json = "json"


Formatted = Annotated[Format, typer.Option("--format", help="A table, or one JSON document as the last line.")]


def check_writable(out: Path) -> None:
    """Refuse an output folder that cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Refused(f"--out {out}: cannot be written: {error.strerror}", where=str(out.absolute())) from None
