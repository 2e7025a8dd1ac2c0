"""An exported script asked in a process of its own, as its user will, and its answers beside those of the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.records import Sample

ASK = """
import json, runpy, sys
questions = json.load(sys.stdin)
said = runpy.run_path(sys.argv[1])
answers = [said["answer"](question) for question in questions]
print("\\n" + json.dumps([[raw, said["trim"](raw)] for raw in answers]))
"""


def run_script(script: Path, questions: Sequence[str]) -> list[tuple[str, str]]:
    """What an `answer.py` answers, as it comes and trimmed; raises `UserError` with its last words where it fails."""
    settled = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-P", "-c", ASK, str(script.absolute())]
    done = subprocess.run(
        command, input=json.dumps(list(questions)), capture_output=True, encoding="utf-8", env=os.environ | settled
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(
            f"the script does not run: {last}", location=str(script), hint="run it by hand to see the whole"
        )
    return [(raw, trimmed) for raw, trimmed in json.loads(done.stdout.splitlines()[-1])]


def differences(recorded: Sequence[Sample], raws: Sequence[str]) -> list[str]:
    """A line for each answer that is not the recorded one, byte for byte."""
    return [
        f"{sample.id}: recorded {sample.raw!r}, now {raw!r}"
        for sample, raw in zip(recorded, raws, strict=True)
        if sample.raw != raw
    ]
