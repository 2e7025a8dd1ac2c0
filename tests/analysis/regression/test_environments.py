"""`bench compare --requirements`: equal runs with two sets of libraries, and the speed of interleaved rounds."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, MakeRecord, MakeTask

from bench.analysis.regression import speed
from bench.analysis.regression.gates import Policy
from bench.errors import UserError
from bench.records import Record

METHOD = """
from dataclasses import dataclass

from bench.method import Method


@dataclass
class Echo(Method):
    \"\"\"Answers with a constant of a library.\"\"\"

    control = True  # Otherwise `bench run` would add a control of its own.

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        import echolib

        self.answer_ = echolib.ANSWER
        return self

    def predict(self, inputs):
        return [self.answer_ for _ in inputs]

    def save(self, folder):
        (folder / "answer.txt").write_text(self.answer_)
"""
RUN_OPTIONS = "--methods ./echo.py --task ./feelings --budget quick"


def build_wheel(folder: Path, version: str, answer: str) -> Path:
    """Build a one-line library that pip installs without a network."""
    file = folder / f"echolib-{version}-py3-none-any.whl"
    info = f"echolib-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("echolib.py", f"ANSWER = {answer!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: echolib\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


def make_env(**changes: Any) -> dict[str, Any]:
    return {
        "started": "2026-01-01", "adaptbench": "0", "revision": None, "method_sha256": "0", "python": "3.11",
        "platform": "Linux", "processor": "P", "cores": 2, "threads": 2, "memory_mib": 9, "device": "cpu",
        "background_cores": 0, "packages": {},
    } | changes  # fmt: skip


def write_with_phase_seconds(record: Record, folder: Path, seconds: dict[str, float]) -> None:
    assert record.cost is not None
    phases = {name: phase.model_copy(update={"wall_s": seconds[name]}) for name, phase in record.cost.phases.items()}
    record.model_copy(update={"cost": record.cost.model_copy(update={"phases": phases})}).write(folder)


def test_compare_requirements_runs_each_library_version(make_task: MakeTask, run_bench: Bench, tmp_path: Path) -> None:
    make_task(tmp_path / "feelings")
    (tmp_path / "echo.py").write_text(METHOD)
    for name, version, answer in (("old", "1.0", "warm"), ("new", "2.0", "cold")):
        (tmp_path / f"{name}.txt").write_text(f"{build_wheel(tmp_path, version, answer)}\n")
    completed = run_bench("compare", "old.txt", "new.txt", "--requirements", "--run", RUN_OPTIONS, PIP_NO_INDEX="1")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    checked = run_bench("check", "results/requirements/new", "--baseline", "results/requirements/old")
    assert checked.returncode in (0, 1, 3)
    results = tmp_path / "results" / "requirements"
    files = {name: list((results / name).glob("*echo*.json")) for name in ("old", "new")}
    texts = {name: paths[0].read_text("utf-8") for name, paths in files.items()}
    assert '"raw":"warm"' in texts["old"]
    assert '"raw":"cold"' in texts["new"]
    assert files["old"][0].name == files["new"][0].name
    assert not (tmp_path / "echolib.py").exists()


def test_compare_requirements_rounds_alternate(make_task: MakeTask, run_bench: Bench, tmp_path: Path) -> None:
    make_task(tmp_path / "feelings")
    (tmp_path / "echo.py").write_text(METHOD)
    for name, version in (("old", "1.0"), ("new", "2.0")):
        (tmp_path / f"{name}.txt").write_text(f"{build_wheel(tmp_path, version, 'warm')}\n")
    arguments = ("compare", "old.txt", "new.txt", "--requirements", "--run", RUN_OPTIONS, "--rounds", 5)
    completed = run_bench(*arguments, PIP_NO_INDEX="1")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    rounds = tmp_path / "results" / "requirements" / "rounds"
    for number in range(1, 6):
        envs = [Record.read(next((rounds / side / str(number)).glob("*echo*"))).env for side in ("old", "new")]
        old_env, new_env = envs
        assert old_env and new_env
        assert (old_env.started <= new_env.started) == bool(number % 2)
    assert run_bench("compare", "old.txt", "new.txt", "--requirements", "--rounds", 2).returncode == 2


@pytest.mark.parametrize(("ratio", "verdict"), [(1.3, "worse"), (1.07, "same"), (1.0, "same"), (0.7, "same")])
def test_compare_speed_known_ratio_gives_verdict(
    make_record: MakeRecord, tmp_path: Path, ratio: float, verdict: str
) -> None:
    rng = random.Random(1)
    for number in range(1, 6):
        for side, factor in (("old", 1.0), ("new", ratio)):
            folder = tmp_path / side / str(number)
            # The seeds of a round are summed: 2 s of seed 1 and the rest of seed 0.
            make_record("lora", env=make_env(), seed=1).write(folder)
            seconds = {phase: (factor * 4 - 2) * rng.uniform(0.99, 1.01) for phase in ("fit", "predict")}
            write_with_phase_seconds(make_record("lora", env=make_env(), seed=0), folder, seconds)
            make_record("majority", env=make_env(threads=None)).write(folder)  # A method that does not use torch.
    findings = [finding for finding in speed.compare_speed(tmp_path, Policy()) if "lora" in finding.name]
    assert {finding.verdict for finding in findings} == {verdict}
    assert len(findings) == 2
    make_record("majority", env=make_env(cores=64)).write(tmp_path / "new" / "5")
    with pytest.raises(UserError, match="different machines"):
        speed.compare_speed(tmp_path, Policy())


def test_compare_speed_one_slow_round_is_same_and_few_rounds_raise(make_record: MakeRecord, tmp_path: Path) -> None:
    for number in range(1, 6):
        for side in ("old", "new"):
            seconds = 9.0 if (side, number) == ("new", 3) else 2.0
            folder = tmp_path / side / str(number)
            write_with_phase_seconds(make_record("lora"), folder, {"fit": seconds, "predict": seconds})
    assert {finding.verdict for finding in speed.compare_speed(tmp_path, Policy())} == {"same"}
    with pytest.raises(UserError, match="0 rounds"):
        speed.compare_speed(tmp_path / "nowhere", Policy())


def test_compare_speed_short_phases_are_unsure(make_record: MakeRecord, tmp_path: Path) -> None:
    for number in range(1, 6):
        for side in ("old", "new"):
            make_record("lora", cost=None).write(tmp_path / side / str(number))
    assert [finding.verdict for finding in speed.compare_speed(tmp_path, Policy())] == ["unsure"]


def test_compare_requirements_not_installable_or_missing_fails(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("no-such-library==1\n")
    (tmp_path / "new.txt").write_text("\n")
    completed = run_bench("compare", "old.txt", "new.txt", "--requirements", PIP_NO_INDEX="1")
    assert (completed.returncode, "pip could not install it" in completed.stderr) == (2, True)
    assert run_bench("compare", "old.txt", "nowhere.txt", "--requirements").returncode == 2


def test_compare_requirements_other_files_in_out_are_kept(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "measured.json").write_text("{}")
    for name in ("old.txt", "new.txt"):
        (tmp_path / name).write_text("\n")
    completed = run_bench("compare", "old.txt", "new.txt", "--requirements", "--out", "results", PIP_NO_INDEX="1")
    assert (completed.returncode, "would be deleted" in completed.stderr) == (2, True)
    assert (tmp_path / "results" / "measured.json").exists()


@pytest.mark.parametrize(("old", "new"), [("a/old.txt", "b/old.txt"), ("harness.txt", "new.txt")])
def test_compare_requirements_equal_or_reserved_names_fail(
    run_bench: Bench, tmp_path: Path, old: str, new: str
) -> None:
    for name in (old, new):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n")
    completed = run_bench("compare", old, new, "--requirements", PIP_NO_INDEX="1")
    assert (completed.returncode, "different names" in completed.stderr) == (2, True)
    assert not (tmp_path / "results").exists()
