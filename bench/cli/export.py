"""The verbs that take a result home: `export` and `answer`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, Formatted, Named, find_record, status_line

if TYPE_CHECKING:
    pass

SHOWN = 5  # answers that differ, so that they stay on one screen


def command(
    record: Named,
    to: Annotated[Path, typer.Option(help="The folder to make.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="One whole model, with what was learnt in its weights.")
    ] = False,
    check: Annotated[int, typer.Option(min=1, help="Recorded answers to compare, from the first on.")] = 8,
    format: Formatted = Format.table,
) -> None:
    """Write what a run fitted as plain libraries load it, with its settings and a script that answers as it did.

    What the run did not keep (bench run --save-artifacts) is fitted again. Exit code: 0 done; 1 done, but not all answers that
    were compared are those of the record; 2 bad input (nothing is written).
    """
    from bench.export import export as exports

    exports.check_target(to)
    found = find_record(record)
    with status_line() as show:
        done = exports.export_record(found, to, merge=merge, check=check, show=show)
    if format is Format.json:
        print(
            json.dumps({"folder": str(to), "says": done.sentences, "differences": done.differences}, ensure_ascii=False)
        )
    else:
        rest = len(done.differences) - SHOWN
        more = [f"… and {rest} more"] if rest > 0 else []
        print("\n".join([*done.sentences, *done.differences[:SHOWN], *more, f"Read {to / 'README.md'}"]))
    sys.exit(1 if done.differences else 0)
