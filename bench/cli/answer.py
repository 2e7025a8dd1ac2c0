"""The command `bench answer`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Format, Formatted, find_record, status_line
from bench.errors import UserError


def command(
    record: Annotated[str, typer.Argument(help="A record: its file, or its id in results/; or an exported folder.")],
    question: Annotated[list[str], typer.Argument(help="What to ask; - reads questions from the input, one a line.")],
    format: Formatted = Format.table,
) -> None:
    """Ask what a run fitted, under the template and the decoding of the run.

    What the run did not keep (bench run --save-artifacts) is fitted again, which takes as long as it did; an exported folder
    answers at once. Exit code: 0 answered, 2 bad input.
    """
    asked = [line.rstrip("\n") for line in sys.stdin if line.strip()] if question == ["-"] else list(question)
    if not any(text.strip() for text in asked):
        raise UserError("there is no question", hint='bench answer RECORD "a question"')
    from bench.export import export as exports
    from bench.export import script_check
    from bench.export.bundle import SCRIPT

    if (Path(record) / SCRIPT).is_file():
        told = [f"Answered by {Path(record) / SCRIPT}."]
        answers = [trimmed for _, trimmed in script_check.run_script(Path(record) / SCRIPT, asked)]
    else:
        found = find_record(record)
        with status_line() as show:
            answers, told = exports.answer_questions(found, asked, show)
    if format is Format.json:
        pairs = [{"question": said, "answer": text} for said, text in zip(asked, answers, strict=True)]
        print(json.dumps({"answers": pairs, "says": told}, ensure_ascii=False))
        return
    print("\n".join(told), file=sys.stderr)
    print("\n".join(answers))
