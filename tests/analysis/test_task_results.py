"""Records grouped by task and model, with the training sizes side by side."""

from __future__ import annotations

import json

import pytest
from conftest import MakeRecord

from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.measurement import environment
from bench.records import Record

QUICK = {"examples": 200, "epochs": 1}


def test_group_by_task_compares_the_largest_training_size(make_record: MakeRecord) -> None:
    sizes = ((10, 0.2), (40, 0.6), (20, 0.4))
    (task_results,) = group_by_task([make_record("lora", em, items=40, budget__examples=size) for size, em in sizes])
    assert list(task_results.records_by_size) == [10, 20, 40]
    assert [record.scores["em"] for record in task_results.records] == [0.6]


def test_group_by_task_counts_all_examples_as_a_size(make_record: MakeRecord) -> None:
    (task_results,) = group_by_task([make_record("lora", budget__examples=4), make_record("lora")])
    assert list(task_results.records_by_size) == [4, 9]


def test_group_by_task_all_examples_given_in_two_ways_shows_one(make_record: MakeRecord) -> None:
    (task_results,) = group_by_task([make_record("lora", budget__examples=9), make_record("lora"), make_record("full")])
    assert [record.spec.method.name for record in task_results.records] == ["lora", "full"]
    assert task_results.records_by_size == {}
    assert [len(other.records) for other in task_results.other_sets] == [1]


def test_group_by_task_limit_above_all_examples_is_their_number(make_record: MakeRecord) -> None:
    content = make_record("lora", budget__examples=200).model_dump(mode="json", by_alias=True)
    content["cost"]["budget_usage"]["train_size"] = 9
    records = [Record.model_validate_json(json.dumps(content)), make_record("lora", budget__examples=4)]
    (task_results,) = group_by_task(records)
    assert list(task_results.records_by_size) == [4, 9]


def test_group_by_task_unknown_number_of_examples_is_shown_apart(make_record: MakeRecord) -> None:
    failed = make_record("lora", status="error", samples=[], cost=None)
    (task_results,) = group_by_task(
        [failed, make_record("lora", budget__examples=4), make_record("full", budget__examples=4)]
    )
    assert [record.spec.method.name for record in task_results.records] == ["lora", "full"]
    assert [other.records for other in task_results.other_sets] == [[failed]]


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


def started(day: int) -> dict[str, object]:
    return environment.describe_environment(f"2026-11-{day:02}T10:00:00+00:00", "d" * 64, "cpu", 0.0).model_dump()


def test_group_by_task_other_terms_shows_the_newest_runs(make_record: MakeRecord) -> None:
    quick = [make_record(name, env=started(3), budget=QUICK) for name in ("lora", "full", "dora")]
    standard = [make_record("lora", env=started(4))]
    for records in (quick + standard, standard + quick):
        (task_results,) = group_by_task(records)
        assert task_results.records == tuple(standard)
        assert task_results.title == "feelings · bookworm"
        (other,) = task_results.other_sets
        assert other.records == quick


def test_group_by_task_all_terms_have_sections_with_their_names(make_record: MakeRecord) -> None:
    records = [make_record("lora", env=started(3), budget=QUICK), make_record("lora", env=started(4))]
    records.append(make_record("lora", env=started(2), base__dtype="bfloat16"))
    results = group_by_task(records, "all")
    titles = ["feelings · bookworm · standard, float32", "feelings · bookworm · quick, float32"]
    assert [section.title for section in results] == [*titles, "feelings · bookworm · standard, bfloat16"]
    assert len({section.slug for section in results}) == 3
    assert not any(section.other_sets for section in results)


def test_group_by_task_id_of_terms_shows_these_runs(make_record: MakeRecord) -> None:
    records = [make_record("lora", env=started(3), budget=QUICK), make_record("lora", env=started(4))]
    records.append(make_record("lora", task__name="other"))
    id = group_by_task(records)[0].other_sets[0].id
    chosen, other_task = group_by_task(records, id)
    assert (chosen.title, chosen.records) == ("feelings · bookworm · quick", (records[0],))
    assert (other_task.title, other_task.records) == ("other · bookworm", (records[2],))
    with pytest.raises(UserError, match="no runs with these terms") as refusal:
        group_by_task(records, "x" * 6)
    assert f"{id} (feelings, bookworm, quick)" in str(refusal.value)


def test_group_by_task_keeps_tasks_apart(make_record: MakeRecord) -> None:
    results = group_by_task([make_record("lora"), make_record("lora", task__name="other"), make_record("full")])
    assert [task_results.title for task_results in results] == ["feelings · bookworm", "other · bookworm"]


def test_task_results_reuse_the_comparison_for_the_largest_size(make_record: MakeRecord) -> None:
    sizes = ((10, 0.2), (40, 0.6))
    (task_results,) = group_by_task([make_record("lora", em, items=40, budget__examples=size) for size, em in sizes])
    assert [records for records, _ in task_results.results_by_size] == list(task_results.records_by_size.values())
    assert task_results.results_by_size[-1][1] is task_results.comparison.results
