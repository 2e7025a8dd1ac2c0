"""The command `bench export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import (
    Format,
    FormatOption,
    Language,
    MethodPlace,
    ModelPlace,
    RecordName,
    TaskPlace,
    find_record,
    localize,
    translator,
)
from bench.cli.run_progress import training_bar
from bench.cli.terminal import print_json

MAX_SHOWN_DIFFERENCES = 5  # more would not fit on one screen


def command(
    record: RecordName,
    to: Annotated[Path, typer.Option(help="New folder to write, e.g. mymodel.")],
    merge: Annotated[bool, typer.Option("--merge", help="Merge the trained weights into one full model.")] = False,
    check: Annotated[int, typer.Option(min=1, metavar="N", help="Number of recorded answers to compare.")] = 8,
    task: TaskPlace = None,
    model: ModelPlace = None,
    method: MethodPlace = None,
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Write a folder with the trained weights and a script that runs without bench.

    A run whose adapter or weights are not kept beside the record (bench run
    --save-artifacts) is trained again first. Task, model and method must have
    the digests in the record.

    Exit code: 0 done; 1 done, but some compared answers differ from the record;
    2 invalid input (nothing is written).
    """
    from bench.export import export as exporter
    from bench.export.provenance import Replacements

    exporter.check_target(to)
    provenance = find_record(record, Replacements(task, model, method))
    with training_bar() as on_progress:
        result = exporter.export_record(provenance, to, merge=merge, check=check, on_progress=on_progress)
    if format is Format.json:
        document = {"folder": str(to), "notes": result.notes, "differences": result.differences}
        print_json(document)
    else:
        hidden = len(result.differences) - MAX_SHOWN_DIFFERENCES
        translate = translator()
        lines = [*map(localize, result.notes), *result.differences[:MAX_SHOWN_DIFFERENCES]]
        if hidden > 0:
            lines.append(translate("... and {number} more", number=hidden))
        print("\n".join([*lines, translate("See {file}", file=to / "README.md")]))
    sys.exit(1 if result.differences else 0)
