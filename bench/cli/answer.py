"""The command `bench answer`."""

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
    TaskPlace,
    find_record,
    localize,
)
from bench.cli.run_progress import training_bar
from bench.cli.terminal import print_json
from bench.errors import UserError
from bench.i18n import Message


def command(
    record: Annotated[str, typer.Argument(help="Record file, id in results/, or exported folder.")],
    question: Annotated[list[str], typer.Argument(help='Questions, e.g. "a question"; - reads one per input line.')],
    task: TaskPlace = None,
    model: ModelPlace = None,
    method: MethodPlace = None,
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Answer questions with the method of a finished run.

    A run whose adapter or weights are kept beside the record, and an exported
    folder, answer at once; any other run is trained again first. Task, model and
    method must have the digests in the record.

    Exit code: 0 answered; 2 invalid input.
    """
    piped = question == ["-"]
    questions = _read_lines() if piped else list(question)
    if not any(text.strip() for text in questions):
        raise UserError(Message("no question given"), hint='bench answer RECORD "a question"')
    from bench.export import export as exporter
    from bench.export import script_check
    from bench.export.bundle import SCRIPT
    from bench.export.provenance import Replacements

    script = Path(record) / SCRIPT
    if script.is_file():
        if task or model or method:
            raise UserError(
                Message("--task, --model and --method are for a record; an exported folder has its own settings"),
                location=str(script.parent),
                hint=Message(
                    "if the base model has moved, change 'base' in {file}", file=script.parent / "settings.json"
                ),
            )
        run_id = script_check.check_exported_folder(script.parent)
        note = Message("Runs {script}, exported from the run {run}.", script=script, run=run_id)
        print(localize(note), file=sys.stderr)
        notes: list[str] = [Message("Answered by {script}.", script=script)]
        answers = [trimmed for _, trimmed in script_check.run_script(script, questions)]
    else:
        provenance = find_record(record, Replacements(task, model, method))
        with training_bar() as on_progress:
            answers, notes = exporter.answer_questions(provenance, questions, on_progress)
    if format is Format.json:
        pairs = [{"question": text, "answer": answer} for text, answer in zip(questions, answers, strict=True)]
        print_json({"answers": pairs, "notes": notes})
        return
    print("\n".join(map(localize, notes)), file=sys.stderr)
    print("\n".join(answers))


def _read_lines() -> list[str]:
    """Return the lines of standard input that are not blank."""
    try:
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(
            Message(
                "standard input is not text in {encoding}: {reason}", encoding=sys.stdin.encoding, reason=error.reason
            ),
            location=Message("byte {start}", start=error.start),
            hint=Message("pass UTF-8 text, or set PYTHONIOENCODING to its encoding"),
        ) from None
