"""Tuning runs the same number of trials for every method, scored on validation only; records keep all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import Bench, MakeTask

from bench import registry
from bench.execution.plan import search_ranges
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, SearchRange, read_all

METHOD = '''
"""Gives more correct answers the closer `place` is to 0.6."""
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method, param

@dataclass
class Mine(Method):
    control: ClassVar[bool] = True  # a control, so that no other controls are added
    place: float = param(0.1, help="best at 0.6", search=(0.0, 1.0))
    depth: int = param(2, help="has no effect", search=(1, 8), log=True)
    fixed: int = param(7, help="has no search range")

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        if {fails}:
            raise ValueError("diverged")
        self.targets_ = {{row.input: row.target for row in [*data.train, *data.validation]}}
        return self

    def predict(self, inputs):
        with Path({log!r}).open("a") as file:
            file.writelines(f"{{text}}\\n" for text in inputs)
        correct = round(len(inputs) * (1 - abs(self.place - 0.6)))
        return [self.targets_.get(text, "?") if n < correct else "?" for n, text in enumerate(inputs)]

    def save(self, folder):
        (folder / "place").write_text(str(self.place))
'''


@pytest.fixture
def arguments(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    make_task(tmp_path / "feelings")
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4"]


def write_method(folder: Path, fails: str = "False") -> str:
    """Write the method, which fails where the expression `fails` holds; returns its reference."""
    (folder / "mine.py").write_text(METHOD.format(fails=fails, log=str(folder / "questions")), "utf-8")
    return "./mine.py"


def tuned_records(folder: Path) -> list[Record]:
    """The records of the runs after tuning."""
    return [record for record in read_all(folder / "results") if record.spec.split == "test"]


def test_tuning_keeps_all_trials_and_runs_the_best_on_validation(
    run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    process = run_bench(*arguments, "--methods", write_method(tmp_path), "--trials", "6", "--seeds", "2")
    assert process.returncode == 0, process.stderr
    first, second = tuned_records(tmp_path)
    assert first.tuning is not None and first.tuning == second.tuning, "seeds of a method share its tuning"
    trials = first.tuning.trials
    assert len(trials) == 6 == first.spec.budget.trials
    assert trials[0].params == {"place": 0.1, "depth": 2, "fixed": 7}, "the defaults are tried first"
    assert all(0 <= trial.params["place"] <= 1 and 1 <= trial.params["depth"] <= 8 for trial in trials)
    assert {trial.params["fixed"] for trial in trials} == {7}
    best = max(trials, key=lambda trial: trial.score or 0)
    assert best.score != trials[0].score, "no trial was better, so this test could not fail"
    assert first.spec.method.params == best.params
    assert {record.spec.seed for record in (first, second)} == {0, 1}
    assert "expected best validation score after 1 to 6 trials" in process.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ('size: int | str = param("auto", help="size", search=(1, 9), log=True)', "auto"),
        ('size: str = param("auto", help="size", search=("small", "large"))', "auto"),
        ('size: int = param(20, help="size", search=(1, 9))', 20),
    ],
)
def test_tuning_default_outside_of_its_range_is_tried_first(
    field: str, default: object, run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    method = METHOD.replace('fixed: int = param(7, help="has no search range")', field)
    (tmp_path / "mine.py").write_text(method.format(fails="False", log=str(tmp_path / "questions")), "utf-8")
    process = run_bench(*arguments, "--methods", "./mine.py", "--trials", "3")
    assert process.returncode == 0, process.stderr
    (record,) = tuned_records(tmp_path)
    assert record.tuning is not None
    sizes = [trial.params["size"] for trial in record.tuning.trials]
    assert sizes[0] == default and default not in sizes[1:] and len(sizes) == 3


def test_tuning_several_train_sizes_tunes_each(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    process = run_bench(*arguments, "--methods", write_method(tmp_path), "--trials", "2", "--train-sizes", "4,9")
    assert process.returncode == 0, process.stderr
    assert {record.spec.budget.examples for record in tuned_records(tmp_path)} == {4, None}
    trials = [record for record in read_all(tmp_path / "results" / "trials") if record.spec.split == "validation"]
    assert Counter(record.spec.budget.examples for record in trials) == {4: 2, None: 2}


def test_trials_answer_validation_questions_only(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    assert run_bench(*arguments, "--methods", write_method(tmp_path, "data.seed == 0"), "--trials", "3").returncode == 1
    questions = {
        split: {json.loads(line)["input"] for line in (tmp_path / "feelings" / f"{split}.jsonl").open()}
        for split in ("validation", "test")
    }
    answered = set((tmp_path / "questions").read_text("utf-8").splitlines())
    assert answered == questions["validation"]
    assert not answered & questions["test"]


def test_tuning_fixed_hyper_parameter_is_not_tuned(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    assert (
        run_bench(
            *arguments, "--methods", write_method(tmp_path), "--trials", "3", "--set", "mine.place=0.9"
        ).returncode
        == 0
    )
    (record,) = tuned_records(tmp_path)
    assert record.tuning is not None and list(record.tuning.ranges) == ["depth"]
    assert {trial.params["place"] for trial in record.tuning.trials} == {0.9}


def test_tuning_failed_trial_counts_as_trial(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    process = run_bench(*arguments, "--methods", write_method(tmp_path, "self.place > 0.5"), "--trials", "6")
    assert process.returncode == 0, process.stderr
    (record,) = tuned_records(tmp_path)
    assert record.tuning is not None
    failed = [trial for trial in record.tuning.trials if trial.status == "error"]
    assert failed and all(trial.score is None for trial in failed)
    assert len(record.tuning.trials) == 6
    assert record.spec.method.params["place"] <= 0.5
    assert f"{len(failed)} failed trials count as 0: " in process.stdout.replace("\n", " ")


def test_tuning_repeated_command_runs_no_trial_again(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    command = [*arguments, "--methods", write_method(tmp_path), "--trials", "3"]
    assert run_bench(*command).returncode == 0
    before = (tmp_path / "questions").read_text("utf-8"), tuned_records(tmp_path)
    assert run_bench(*command).returncode == 0
    assert ((tmp_path / "questions").read_text("utf-8"), tuned_records(tmp_path)) == before


def test_tuning_more_trials_continue_an_earlier_search(run_bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    command = [*arguments, "--methods", write_method(tmp_path)]
    assert run_bench(*command, "--trials", "2").returncode == 0
    assert run_bench(*command, "--trials", "4").returncode == 0
    short, long = sorted(tuned_records(tmp_path), key=lambda record: record.spec.budget.trials or 0)
    assert short.tuning is not None and long.tuning is not None
    assert long.tuning.trials[:2] == short.tuning.trials
    assert len(list((tmp_path / "results" / "trials").glob("*.json"))) == 4


def test_search_ranges_reads_fields_without_fixed_ones() -> None:
    ranges = search_ranges(registry.find_method("lora"), {"rank"})
    assert ranges["lr"] == SearchRange(low=1e-3, high=2e-2, log=True)
    assert ranges["alpha"] == SearchRange(low=8, high=128, log=True, integer=True)
    assert "rank" not in ranges and "warmup" not in ranges
    assert search_ranges(registry.find_method("features"), {})["pool"] == SearchRange(choices=("last", "mean"))
