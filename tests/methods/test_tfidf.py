"""tfidf, the control for tasks with closed labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import MakeTask

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.execution.plan import plan_jobs
from bench.method import LM, Unsupported
from bench.records import BudgetLimits
from bench.task import TaskRow, TaskTrainingData
from bench.testing import tiny_training_data


def training_data(labels: tuple[str, ...] | None, rows: list[tuple[str, str]]) -> TaskTrainingData:
    card = tiny_training_data().card.model_copy(update={"labels": labels})
    train = tuple(TaskRow(f"{index}", question, (answer,)) for index, (question, answer) in enumerate(rows))
    return TaskTrainingData(card, train, train[:1], seed=0)


def fit(data: TaskTrainingData) -> Any:
    return registry.find_method("tfidf")().fit(
        cast(LM, None), data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
    )


ROWS = [(f"{color} {number}", answer) for number in range(6) for color, answer in (("red", "warm"), ("blue", "cold"))]


def test_predict_uses_the_letters_of_the_question() -> None:
    assert fit(training_data(("warm", "cold"), ROWS)).predict(["a bluish 9", "reddish 8"]) == ["cold", "warm"]


def test_save_writes_arrays_and_names_but_no_code(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    fit(training_data(("warm", "cold"), ROWS)).save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}
    names = json.loads((tmp_path / "regression.json").read_text("utf-8"))
    assert names["labels"] == ["cold", "warm"]
    assert load_file(tmp_path / "regression.safetensors")["weights"].shape == (1, len(names["ngrams"]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [(training_data(None, ROWS), "nearest"), (training_data(("warm", "cold"), ROWS[::2]), "majority")],
    ids=["open", "one label"],
)
def test_fit_unsupported_task_names_another_control(data: TaskTrainingData, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        fit(data)


@pytest.mark.parametrize("labels", [None, ["warm", "cold", "mild"]], ids=["open", "closed"])
def test_plan_adds_tfidf_to_tasks_with_closed_labels_only(
    make_task: MakeTask, tmp_path: Path, labels: list[str] | None
) -> None:
    folder = make_task(tmp_path / "task", **({"labels": labels} if labels else {}))

    def planned_methods(methods: str) -> set[str]:
        jobs = plan_jobs(methods, str(folder), "bookworm", seeds=1, budget_text="quick", settings=())
        return {job.spec.method.name for job in jobs}

    assert ("tfidf" in planned_methods("lora")) is (labels is not None)
    assert planned_methods("tfidf") == {"tfidf"}, "a named method runs and reports why it is unsupported"
