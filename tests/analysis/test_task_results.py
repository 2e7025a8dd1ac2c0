"""Records grouped by task and model, with the training sizes side by side."""

from __future__ import annotations

import json

import pytest
from conftest import MakeRecord

from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.records import Record


def test_group_by_task_compares_the_largest_training_size(make_record: MakeRecord) -> None:
    sizes = ((10, 0.2), (40, 0.6), (20, 0.4))
    (task_results,) = group_by_task([make_record("lora", em, items=40, budget__examples=size) for size, em in sizes])
    assert list(task_results.records_by_size) == [10, 20, 40]
    assert [record.scores["em"] for record in task_results.records] == [0.6]


def test_group_by_task_counts_all_examples_as_a_size(make_record: MakeRecord) -> None:
    (task_results,) = group_by_task([make_record("lora", budget__examples=4), make_record("lora")])
    assert list(task_results.records_by_size) == [4, 9]


def test_group_by_task_rejects_all_examples_given_in_two_ways(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match="the same runs twice"):
        group_by_task([make_record("lora", budget__examples=9), make_record("lora")])


def test_group_by_task_without_train_size_computes_it_from_epochs(make_record: MakeRecord) -> None:
    content = make_record("lora").model_dump(mode="json", by_alias=True)
    content["cost"]["budget_usage"] |= {"train_size": None, "examples": 54, "epochs": 6}
    old = Record.model_validate_json(json.dumps(content))
    (task_results,) = group_by_task([make_record("lora", budget__examples=4), old])
    assert list(task_results.records_by_size) == [4, 9]


def test_group_by_task_adds_the_digest_to_models_of_one_name(make_record: MakeRecord) -> None:
    same_name = group_by_task(
        [make_record("lora", base__ref="/a/x"), make_record("lora", base__ref="/b/x", base__sha256="c" * 64)]
    )
    assert [task_results.title for task_results in same_name] == ["feelings · x bbbbbb", "feelings · x cccccc"]
    same_model = [make_record("lora", base__ref="/a/x"), make_record("full", base__ref="x")]
    assert len(group_by_task(same_model)) == 1


def test_group_by_task_rejects_other_settings_and_names_them(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match=r"budget\.epochs: 3 and 1"):
        group_by_task([make_record("lora"), make_record("full", budget__epochs=1)])


def test_group_by_task_keeps_tasks_apart(make_record: MakeRecord) -> None:
    results = group_by_task([make_record("lora"), make_record("lora", task__name="other"), make_record("full")])
    assert [task_results.title for task_results in results] == ["feelings · bookworm", "other · bookworm"]


def test_task_results_reuse_the_comparison_for_the_largest_size(make_record: MakeRecord) -> None:
    sizes = ((10, 0.2), (40, 0.6))
    (task_results,) = group_by_task([make_record("lora", em, items=40, budget__examples=size) for size, em in sizes])
    assert [records for records, _ in task_results.results_by_size] == list(task_results.records_by_size.values())
    assert task_results.results_by_size[-1][1] is task_results.comparison.results
