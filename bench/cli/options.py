"""Options that several verbs of the command share, and what is refused of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from bench.export.provenance import Provenance


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
        raise UserError(f"--out {out}: cannot be written: {error.strerror}", location=str(out.absolute())) from None


Named = Annotated[str, typer.Argument(help="A record: its file, or its id in results/.")]
RESULTS = Path("results")


def find_record(named: str) -> Provenance:
    """The record that a path or an id names, with all it was made of."""
    file = Path(named)
    if not file.is_file():
        file = RESULTS / f"{named.removesuffix('.json')}.json"
    if not file.is_file():
        ids = [place.stem for place in RESULTS.glob("*.json")] if RESULTS.is_dir() else []
        raise UserError(f"no record '{named}'", hint=f"a record's file, or an id in {RESULTS}/: {_few(named, ids)}")
    from bench.export import provenance
    from bench.records import reader

    return provenance.find_provenance(reader.read_file(file), file)


def _few(named: str, ids: list[str]) -> str:
    """The ids that are nearest to a name, so that the error stays on one screen."""
    import difflib

    return did_you_mean(named, difflib.get_close_matches(named, ids, n=5, cutoff=0.0))


@contextmanager
def status_line() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A line that tells what is going on, and goes when it is over."""
    from rich.console import Console

    with Console(stderr=True).status("starting") as line:
        yield lambda state: line.update(_state(state))


def _state(state: dict[str, Any]) -> str:
    steps = f" · step {state['step']} of {state['steps']}" if state.get("steps") else ""
    return f"{state.get('phase', 'starting')}{steps}"
