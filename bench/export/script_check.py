"""Run an exported script and compare its answers with those of the record."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.i18n import Message
from bench.modeling import checkpoint
from bench.records import Sample

RUNNER = """
import json, runpy, sys
questions = json.load(sys.stdin)
script = runpy.run_path(sys.argv[1])
answers = [script["answer"](question) for question in questions]
print("\\n" + json.dumps([[raw, script["trim"](raw)] for raw in answers]))
"""


def run_script(script: Path, questions: Sequence[str]) -> list[tuple[str, str]]:
    """Run an `answer.py` in its own process.

    Returns:
        For each question the raw answer and the trimmed answer.

    Raises:
        UserError: The script fails; the message has the last line of its output.
    """
    settings = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-P", "-c", RUNNER, str(script.absolute())]
    process = subprocess.run(
        command, input=json.dumps(list(questions)), capture_output=True, encoding="utf-8", env=os.environ | settings
    )
    try:
        if process.returncode:
            raise ValueError("the exit code is not 0")
        return [(raw, trimmed) for raw, trimmed in json.loads(process.stdout.split("\n")[-2])]
    except (ValueError, LookupError, TypeError):  # a script that calls sys.exit(0) prints no answers
        no_output = Message("it ended with exit code {code} and gave no answers", code=process.returncode)
        last_line = (process.stderr.strip().splitlines() or [no_output])[-1]
        hint = f"python {shlex.quote(str(script))}"
        raise UserError(
            Message("the script failed: {problem}", problem=last_line), location=str(script), hint=hint
        ) from None


def check_exported_folder(folder: Path) -> str:
    """Check that `bench export` wrote a folder, and that its base model is that of the run.

    A copy of the model within the folder is not checked.

    Returns:
        The id of the run.

    Raises:
        UserError: The folder was not exported, or the base model has changed.
    """
    file = folder / "settings.json"
    try:
        settings = json.loads(file.read_text("utf-8"))
        run_id, base = settings["record"], settings.get("base") or {}
        location, recorded = Path(base.get("model", "")), base.get("sha256", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            Message("{folder} was not written by bench export: it has no valid settings.json", folder=folder),
            location=str(file),
            hint=Message("its script runs alone: python {path}", path=shlex.quote(str(folder / "answer.py"))),
        ) from None
    if location.is_absolute() and location.is_dir():
        current = checkpoint.weights_digest(location)
        if current != recorded:
            raise UserError(
                Message(
                    "the base model has changed since the export: sha256 {current}…, recorded {recorded}…",
                    current=current[:12],
                    recorded=recorded[:12],
                ),
                location=str(location),
                hint=Message("restore the model, or change 'base' in {file}", file=file),
            )
    return str(run_id)


def describe_differences(recorded: Sequence[Sample], raw_answers: Sequence[str]) -> list[str]:
    """Return a line for each answer that differs from the recorded one in any byte."""
    return [
        f"{sample.id}: recorded {sample.raw!r}, now {raw!r}"
        for sample, raw in zip(recorded, raw_answers, strict=True)
        if sample.raw != raw
    ]
