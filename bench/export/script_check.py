"""Run an exported script and compare its answers with those of the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
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
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise UserError(f"the script failed: {last_line}", location=str(script), hint=f"python {script}")
    return [(raw, trimmed) for raw, trimmed in json.loads(process.stdout.splitlines()[-1])]


def describe_differences(recorded: Sequence[Sample], raw_answers: Sequence[str]) -> list[str]:
    """Return a line for each answer that differs from the recorded one in any byte."""
    return [
        f"{sample.id}: recorded {sample.raw!r}, now {raw!r}"
        for sample, raw in zip(recorded, raw_answers, strict=True)
        if sample.raw != raw
    ]
