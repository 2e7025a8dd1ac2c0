"""The command `bench answer`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Format, FormatOption, find_record, status_line
from bench.errors import UserError


def command(
    record: Annotated[str, typer.Argument(help="Record file, id in results/, or exported folder.")],
    question: Annotated[list[str], typer.Argument(help='Questions, e.g. "a question"; - reads one per input line.')],
    format: FormatOption = Format.table,
) -> None:
    """Answer questions with the method of a finished run.

    A run without saved artifacts (bench run --save-artifacts) is trained again
    first; an exported folder answers at once.

    Exit code: 0 answered; 2 invalid input.
    """
    piped = question == ["-"]
    questions = [line.rstrip("\n") for line in sys.stdin if line.strip()] if piped else list(question)
    if not any(text.strip() for text in questions):
        raise UserError("no question given", hint='bench answer RECORD "a question"')
    from bench.export import export as exporter
    from bench.export import script_check
    from bench.export.bundle import SCRIPT

    script = Path(record) / SCRIPT
    if script.is_file():
        notes = [f"Answered by {script}."]
        answers = [trimmed for _, trimmed in script_check.run_script(script, questions)]
    else:
        provenance = find_record(record)
        with status_line() as on_progress:
            answers, notes = exporter.answer_questions(provenance, questions, on_progress)
    if format is Format.json:
        pairs = [{"question": text, "answer": answer} for text, answer in zip(questions, answers, strict=True)]
        print(json.dumps({"answers": pairs, "notes": notes}, ensure_ascii=False))
        return
    print("\n".join(notes), file=sys.stderr)
    print("\n".join(answers))
