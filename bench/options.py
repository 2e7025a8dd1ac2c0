"""Options that several verbs of the command share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How results are written to standard output."""

    table = "table"
    json = "json"


Formatted = Annotated[Format, typer.Option("--format", help="A table, or one JSON document as the last line.")]
