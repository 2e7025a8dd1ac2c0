"""The control for closed labels."""

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
    train = tuple(TaskRow(f"{place}", question, (answer,)) for place, (question, answer) in enumerate(rows))
    return TaskTrainingData(card, train, train[:1], seed=0)


def fit(what: TaskTrainingData) -> Any:
    return registry.find_method("tfidf")().fit(
        cast(LM, None), what, BudgetTracker(BudgetLimits(epochs=1), len(what.train))
    )


ROWS = [(f"{color} {place}", answer) for place in range(6) for color, answer in (("red", "warm"), ("blue", "cold"))]


def test_labels_are_read_off_the_letters() -> None:
    assert fit(training_data(("warm", "cold"), ROWS)).predict(["a bluish 9", "reddish 8"]) == ["cold", "warm"]


def test_what_is_saved_is_numbers_for_n_grams_and_no_code(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    fit(training_data(("warm", "cold"), ROWS)).save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}
    words = json.loads((tmp_path / "regression.json").read_text("utf-8"))
    assert words["labels"] == ["cold", "warm"]
    assert load_file(tmp_path / "regression.safetensors")["weights"].shape == (1, len(words["ngrams"]))


@pytest.mark.parametrize(
    ("what", "reason"),
    [(training_data(None, ROWS), "nearest"), (training_data(("warm", "cold"), ROWS[::2]), "majority")],
    ids=["open", "one label"],
)
def test_where_it_cannot_be_a_yardstick_it_names_the_one_that_can(what: TaskTrainingData, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        fit(what)


@pytest.mark.parametrize("labels", [None, ["warm", "cold", "mild"]], ids=["open", "closed"])
def test_it_joins_comparisons_on_closed_labels_and_no_others(
    make_task: MakeTask, tmp_path: Path, labels: list[str] | None
) -> None:
    folder = make_task(tmp_path / "task", **({"labels": labels} if labels else {}))

    def planned(methods: str) -> set[str]:
        jobs = plan_jobs(methods, str(folder), "bookworm", seeds=1, budget_text="quick", settings=())
        return {job.spec.method.name for job in jobs}

    assert ("tfidf" in planned("lora")) is (labels is not None)
    assert planned("tfidf") == {"tfidf"}, "asked for by name it runs, and says why it cannot"
