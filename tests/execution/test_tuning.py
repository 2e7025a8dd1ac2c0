"""Tuning: as many trials for every method, judged on validation only, and all of them told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import Bench, MakeTask

from bench import registry
from bench.execution.plan import search_ranges
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Record, SearchRange, read_all

METHOD = '''
"""Answers the more questions right the nearer its setting is to 0.6."""
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method, param

@dataclass
class Mine(Method):
    control: ClassVar[bool] = True  # brings no others along
    place: float = param(0.1, help="where it stands", search=(0.0, 1.0))
    depth: int = param(2, help="how deep it looks", search=(1, 8), log=True)
    fixed: int = param(7, help="never tuned")

    def load(self, base):
        return None

    def fit(self, lm, lesson, budget):
        if {fails}:
            raise ValueError("diverged")
        self.known_ = {{row.input: row.target for row in [*lesson.train, *lesson.validation]}}
        return self

    def predict(self, inputs):
        with Path({seen!r}).open("a") as file:
            file.writelines(f"{{text}}\\n" for text in inputs)
        right = round(len(inputs) * (1 - abs(self.place - 0.6)))
        return [self.known_.get(text, "?") if n < right else "?" for n, text in enumerate(inputs)]

    def save(self, folder):
        (folder / "place").write_text(str(self.place))
'''


@pytest.fixture
def asked(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    make_task(tmp_path / "feelings")
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4"]


def write(folder: Path, fails: str = "False") -> str:
    (folder / "mine.py").write_text(METHOD.format(fails=fails, seen=str(folder / "seen")), "utf-8")
    return "./mine.py"


def tuned(folder: Path) -> list[Record]:
    return [record for record in read_all(folder / "results") if record.spec.split == "test"]


def test_every_trial_is_kept_and_the_best_on_validation_is_run(
    run_bench: Bench, asked: list[str], tmp_path: Path
) -> None:
    done = run_bench(*asked, "--methods", write(tmp_path), "--trials", "6", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    first, second = tuned(tmp_path)
    assert first.tuning is not None and first.tuning == second.tuning, "seeds of a method share what was found"
    attempts = first.tuning.trials
    assert len(attempts) == 6 == first.spec.budget.trials
    assert attempts[0].params == {"place": 0.1, "depth": 2, "fixed": 7}, "the defaults are tried first"
    assert all(0 <= one.params["place"] <= 1 and 1 <= one.params["depth"] <= 8 for one in attempts)
    assert {one.params["fixed"] for one in attempts} == {7}
    best = max(attempts, key=lambda one: one.score or 0)
    assert best.score != attempts[0].score, "no trial was better, so this test could not fail"
    assert first.spec.method.params == best.params
    assert {record.spec.seed for record in (first, second)} == {0, 1}
    assert "best of 1 to 6 trials on validation" in done.stdout.replace("\n", " ")


def test_each_training_size_is_tuned_for_itself(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    done = run_bench(*asked, "--methods", write(tmp_path), "--trials", "2", "--train-sizes", "4,9")
    assert done.returncode == 0, done.stderr
    assert {record.spec.budget.examples for record in tuned(tmp_path)} == {4, None}
    trials = [one for one in read_all(tmp_path / "results" / "trials") if one.spec.split == "validation"]
    assert Counter(one.spec.budget.examples for one in trials) == {4: 2, None: 2}


def test_trials_are_asked_validation_questions_only(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    assert run_bench(*asked, "--methods", write(tmp_path, "lesson.seed == 0"), "--trials", "3").returncode == 1
    questions = {
        split: {json.loads(line)["input"] for line in (tmp_path / "feelings" / f"{split}.jsonl").open()}
        for split in ("validation", "test")
    }
    seen = set((tmp_path / "seen").read_text("utf-8").splitlines())
    assert seen == questions["validation"]
    assert not seen & questions["test"]


def test_a_setting_that_was_given_is_not_tuned(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    assert run_bench(*asked, "--methods", write(tmp_path), "--trials", "3", "--set", "mine.place=0.9").returncode == 0
    (record,) = tuned(tmp_path)
    assert record.tuning is not None and list(record.tuning.ranges) == ["depth"]
    assert {one.params["place"] for one in record.tuning.trials} == {0.9}


def test_a_trial_that_fails_is_a_trial(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    done = run_bench(*asked, "--methods", write(tmp_path, "self.place > 0.5"), "--trials", "6")
    assert done.returncode == 0, done.stderr
    (record,) = tuned(tmp_path)
    assert record.tuning is not None
    failed = [one for one in record.tuning.trials if one.status == "error"]
    assert failed and all(one.score is None for one in failed)
    assert len(record.tuning.trials) == 6
    assert record.spec.method.params["place"] <= 0.5
    assert f"{len(failed)} of them failed" in done.stdout.replace("\n", " ")


def test_the_same_command_again_runs_no_trial_twice(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    command = [*asked, "--methods", write(tmp_path), "--trials", "3"]
    assert run_bench(*command).returncode == 0
    before = (tmp_path / "seen").read_text("utf-8"), tuned(tmp_path)
    assert run_bench(*command).returncode == 0
    assert ((tmp_path / "seen").read_text("utf-8"), tuned(tmp_path)) == before


def test_a_longer_search_goes_on_where_a_shorter_one_ended(run_bench: Bench, asked: list[str], tmp_path: Path) -> None:
    command = [*asked, "--methods", write(tmp_path)]
    assert run_bench(*command, "--trials", "2").returncode == 0
    assert run_bench(*command, "--trials", "4").returncode == 0
    short, long = sorted(tuned(tmp_path), key=lambda record: record.spec.budget.trials or 0)
    assert short.tuning is not None and long.tuning is not None
    assert long.tuning.trials[:2] == short.tuning.trials
    assert len(list((tmp_path / "results" / "trials").glob("*.json"))) == 4


def test_ranges_are_read_off_the_fields() -> None:
    found = search_ranges(registry.find_method("lora"), {"rank"})
    assert found["lr"] == SearchRange(low=1e-3, high=2e-2, log=True)
    assert found["alpha"] == SearchRange(low=8, high=128, log=True, integer=True)
    assert "rank" not in found and "warmup" not in found
    assert search_ranges(registry.find_method("features"), {})["pool"] == SearchRange(choices=("last", "mean"))
