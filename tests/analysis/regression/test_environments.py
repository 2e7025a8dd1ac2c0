"""An upgrade is judged before it is made: the same runs with the libraries of two files of requirements."""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, MakeRecord, MakeTask

from bench.analysis.regression import speed
from bench.analysis.regression.gates import Policy
from bench.errors import UserError
from bench.records.record import Record

METHOD = """
from dataclasses import dataclass

from bench.method import Method


@dataclass
class Echo(Method):
    \"\"\"Answers as a library says.\"\"\"

    control = True  # alone, so that no other yardstick joins

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
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
    done = run_bench("compare", "old.txt", "new.txt", "--requirements", "--run", options, PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stdout + done.stderr
    judged = run_bench("check", "results/requirements/new", "--baseline", "results/requirements/old")
    assert judged.returncode in (0, 1, 3)
    records = {name: list((tmp_path / "results" / "stack" / name).glob("*echo*.json")) for name in ("old", "new")}
    answers = {name: files[0].read_text("utf-8") for name, files in records.items()}
    assert '"raw":"warm"' in answers["old"]
    assert '"raw":"cold"' in answers["new"]
    assert records["old"][0].name == records["new"][0].name
    assert not os.path.exists(tmp_path / "luckylib.py")


def test_rounds_take_turns(make_task: MakeTask, run_bench: Bench, tmp_path: Path) -> None:
    make_task(tmp_path / "feelings")
    (tmp_path / "echo.py").write_text(METHOD)
    for name, version in (("old", "1.0"), ("new", "2.0")):
        (tmp_path / f"{name}.txt").write_text(f"{wheel(tmp_path, version, 'warm')}\n")
    options = "--methods ./echo.py --task ./feelings --budget quick"
    done = run_bench(
        "compare", "old.txt", "new.txt", "--requirements", "--run", options, "--rounds", 5, PIP_NO_INDEX="1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    started = {
        (side, number): Record.read(
            next((tmp_path / "results/requirements/rounds" / side / str(number)).glob("*echo*"))
        ).env
        for side in ("old", "new")
        for number in range(1, 6)
    }
    for number in range(1, 6):
        old, new = (started[side, number].started for side in ("old", "new"))
        assert (old <= new) == bool(number % 2)
    assert run_bench("compare", "old.txt", "new.txt", "--requirements", "--rounds", 2).returncode == 2


@pytest.mark.parametrize(("times", "verdict"), [(1.3, "worse"), (1.07, "same"), (1.0, "same"), (0.7, "same")])
def test_what_is_slower_in_turns_is_told(make_record: MakeRecord, tmp_path: Path, times: float, verdict: str) -> None:
    dice = random.Random(1)
    for number in range(1, 6):
        for side, factor in (("old", 1.0), ("new", times)):
            made, more = (make_record("lora", env=env(), seed=seed) for seed in (0, 1))
            more.write(tmp_path / side / str(number))  # seeds of a round count together
            phases = {
                name: phase.model_copy(update={"wall_s": (factor * 4 - 2) * dice.uniform(0.99, 1.01)})
                for name, phase in made.cost.phases.items()
            }
            cost = made.cost.model_copy(update={"phases": phases})
            made.model_copy(update={"cost": cost}).write(tmp_path / side / str(number))
            make_record("majority", env=env(threads=None)).write(tmp_path / side / str(number))  # it needs no torch
    found = [one for one in speed.compare_speed(tmp_path, Policy()) if "lora" in one.name]
    assert {one.verdict for one in found} == {verdict}
    assert len(found) == 2
    make_record("majority", env=env(cores=64)).write(tmp_path / "new" / "5")
    with pytest.raises(UserError, match="different machines"):
        speed.compare_speed(tmp_path, Policy())


def env(**changes: Any) -> dict[str, Any]:
    return {
        "started": "2026-01-01", "adaptbench": "0", "revision": None, "method_sha256": "0", "python": "3.11",
        "platform": "Linux", "processor": "P", "cores": 2, "threads": 2, "memory_mib": 9, "device": "cpu",
        "others_cores": 0, "packages": {},
    } | changes  # fmt: skip


def test_one_luckless_round_is_no_verdict_and_few_rounds_are_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    for number in range(1, 6):
        for side in ("old", "new"):
            made = make_record("lora")
            slow = 9.0 if (side, number) == ("new", 3) else 2.0
            phases = {name: phase.model_copy(update={"wall_s": slow}) for name, phase in made.cost.phases.items()}
            cost = made.cost.model_copy(update={"phases": phases})
            made.model_copy(update={"cost": cost}).write(tmp_path / side / str(number))
    assert {one.verdict for one in speed.compare_speed(tmp_path, Policy())} == {"same"}
    with pytest.raises(UserError, match="0 rounds"):
        speed.compare_speed(tmp_path / "nowhere", Policy())


def test_a_stack_that_cannot_be_made_is_refused(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("no-such-library==1\n")
    (tmp_path / "new.txt").write_text("\n")
    done = run_bench("compare", "old.txt", "new.txt", "--requirements", PIP_NO_INDEX="1")
    assert (done.returncode, "pip could not install it" in done.stderr) == (2, True)
    assert run_bench("compare", "old.txt", "nowhere.txt", "--requirements").returncode == 2


def test_a_folder_that_holds_something_else_is_not_emptied(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "measured.json").write_text("{}")
    for name in ("old.txt", "new.txt"):
        (tmp_path / name).write_text("\n")
    done = run_bench("compare", "old.txt", "new.txt", "--requirements", "--out", "results", PIP_NO_INDEX="1")
    assert (done.returncode, "would be lost" in done.stderr) == (2, True)
    assert (tmp_path / "results" / "measured.json").exists()


def test_rounds_too_short_to_tell_are_unsure(make_record: MakeRecord, tmp_path: Path) -> None:
    for number in range(1, 6):
        for side in ("old", "new"):
            make_record("lora", cost=None).write(tmp_path / side / str(number))
    assert [one.verdict for one in speed.compare_speed(tmp_path, Policy())] == ["unsure"]


@pytest.mark.parametrize(("old", "new"), [("a/old.txt", "b/old.txt"), ("harness.txt", "new.txt")])
def test_files_that_name_one_folder_or_one_in_use_are_refused(
    run_bench: Bench, tmp_path: Path, old: str, new: str
) -> None:
    for name in (old, new):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n")
    done = run_bench("compare", old, new, "--requirements", PIP_NO_INDEX="1")
    assert (done.returncode, "two names" in done.stderr) == (2, True)
    assert not (tmp_path / "results").exists()
