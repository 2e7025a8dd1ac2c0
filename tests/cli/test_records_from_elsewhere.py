"""Records of somebody else: the commands that read them run no code of the folders and files that they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import MakeRecord, MakeTask
from support import run_commands

from bench import task
from bench.cli.report import load_questions

CODE = """
from pathlib import Path
from bench.method import Method
Path({marker!r}).touch()
def score(prediction, references):
    return {{"em": 0.0}}
class Mine(Method):
    pass
"""
READING_COMMANDS = {
    "report": ["report", "records", "--out", "out"],
    "advise": ["advise", "records"],
    "compare": ["compare", "records", "records"],
    "check": ["check", "records", "--baseline", "records"],
    "bless": ["bless", "records", "--into", "base", "--reason", "from elsewhere"],
    "list": ["list"],
}


def test_reading_commands_run_no_code_that_a_record_names(
    make_record: MakeRecord, make_task: MakeTask, environment: dict[str, str], tmp_path: Path
) -> None:
    """A digest is no protection: the author of a record knows the digest of the task that comes with it."""
    folder, marker = make_task(tmp_path / "feelings"), tmp_path / "marker"
    (folder / "task.py").write_text(CODE.format(marker=str(marker)), "utf-8")
    sha256 = task.load_task(folder).sha256
    marker.unlink()
    for file in (tmp_path / "mine.py", folder / "model.py", folder / "score.py"):
        file.write_text(CODE.format(marker=str(marker)), "utf-8")
    samples = [
        {"id": f"q{number}", "references": ["warm"], "raw": "", "answer": None, "scores": {"em": 0.0}}
        for number in range(40, 45)
    ]
    record = make_record(
        "mine", samples=samples, method__ref="./mine.py:Mine", base__ref="./feelings", task__ref="./feelings",
        task__sha256=sha256,
    )  # fmt: skip
    record.write(tmp_path / "records")
    results = run_commands(READING_COMMANDS, tmp_path, environment)
    assert {name: (result.code, result.err) for name, result in results.items() if result.code} == {}
    assert not marker.exists()
    assert "red 40" in (tmp_path / "out" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("ref", ["./feelings", "./odd", "./pipe", "a" * 300, "./" + "b/" * 3000, "/dev", "~nobody/x"])
def test_load_questions_other_or_odd_task_is_empty(
    make_record: MakeRecord, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_task(tmp_path / "feelings")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "task.yaml").write_text("[" * 5000, "utf-8")
    os.mkfifo(make_task(tmp_path / "pipe") / "task.py")
    assert load_questions(make_record(task__ref=ref).spec) == {}
