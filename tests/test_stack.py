"""An upgrade is judged before it is made: the same runs with the libraries of two files of requirements."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from conftest import Bench, MakeTask

METHOD = """
from dataclasses import dataclass

from bench.method import Method


@dataclass
class Echo(Method):
    \"\"\"Answers as a library says.\"\"\"

    def load(self, base):
        return None

    def fit(self, lm, lesson, budget):
        import luckylib

        self.answer_ = luckylib.ANSWER
        return self

    def predict(self, inputs):
        return [self.answer_ for _ in inputs]

    def save(self, folder):
        (folder / "answer.txt").write_text(self.answer_)
"""


def wheel(folder: Path, version: str, answer: str) -> Path:
    """A library of one line, as pip installs it without a network."""
    file = folder / f"luckylib-{version}-py3-none-any.whl"
    info = f"luckylib-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("luckylib.py", f"ANSWER = {answer!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: luckylib\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


def test_two_stacks_run_the_same_and_are_compared(make_task: MakeTask, run_bench: Bench, tmp_path: Path) -> None:
    make_task(tmp_path / "feelings")
    (tmp_path / "echo.py").write_text(METHOD)
    for name, version, answer in (("old", "1.0", "warm"), ("new", "2.0", "cold")):
        (tmp_path / f"{name}.txt").write_text(f"{wheel(tmp_path, version, answer)}\n")
    options = "--methods ./echo.py --task ./feelings --budget quick"
    done = run_bench("compare", "old.txt", "new.txt", "--stack", "--run", options, PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stdout + done.stderr
    judged = run_bench("check", "results/stack/new", "--against", "results/stack/old")
    assert judged.returncode in (0, 1, 3)
    records = {name: list((tmp_path / "results" / "stack" / name).glob("*echo*.json")) for name in ("old", "new")}
    answers = {name: files[0].read_text("utf-8") for name, files in records.items()}
    assert '"raw":"warm"' in answers["old"]
    assert '"raw":"cold"' in answers["new"]
    assert records["old"][0].name == records["new"][0].name
    assert not os.path.exists(tmp_path / "luckylib.py")


def test_a_stack_that_cannot_be_made_is_refused(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("no-such-library==1\n")
    (tmp_path / "new.txt").write_text("\n")
    done = run_bench("compare", "old.txt", "new.txt", "--stack", PIP_NO_INDEX="1")
    assert (done.returncode, "pip could not install it" in done.stderr) == (2, True)
    assert run_bench("compare", "old.txt", "nowhere.txt", "--stack").returncode == 2
