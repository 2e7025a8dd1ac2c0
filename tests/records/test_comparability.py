"""What may stand in one table: runs under the same terms, and a word where machines or packages differ."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRecord

from bench.analysis import summary
from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.measurement import environment
from bench.records import comparability
from bench.report import caveats

ENV = environment.describe_environment("2026-11-21T00:00:00+00:00", "d" * 64, "cpu", 0.0)

UNLIKE = {
    "task.sha256": {"task__sha256": "c" * 64},
    "task.version": {"task__version": 2},
    "base.sha256": {"base__sha256": "c" * 64},
    "base.dtype": {"base__dtype": "bfloat16"},
    "budget.passes": {"budget__passes": 1},
    "budget.trials": {"budget__trials": 4},
    "budget.batch": {"budget__batch": 8},
    "decoding.max_new_tokens": {"decoding__max_new_tokens": 9},
    "decoding.stop": {"decoding__stop": []},
    "exam": {"exam": "validation"},
}
ALIKE: dict[str, dict[str, Any]] = {
    "method": {"method__params": {"rank": 2}},
    "seed": {"seed": 7},
    "where the task lies": {"task__ref": "/elsewhere/feelings"},
    "where the base lies": {"base__ref": "/elsewhere/bookworm"},
}


@pytest.mark.parametrize(("field", "change"), UNLIKE.items())
def test_records_under_different_terms_are_refused_and_the_term_is_named(
    make_record: MakeRecord, field: str, change: dict[str, Any]
) -> None:
    records = [make_record("lora"), make_record("full", **change)]
    with pytest.raises(UserError) as refusal:
        summary.summarize_methods(records)
    assert f"{field}: " in str(refusal.value)
    assert all(record.id in str(refusal.value) for record in records)
    for other in UNLIKE.keys() - {field}:
        assert f"{other}: " not in str(refusal.value)


@pytest.mark.parametrize("change", ALIKE.values(), ids=ALIKE)
def test_what_is_compared_may_differ(make_record: MakeRecord, change: dict[str, Any]) -> None:
    comparability.require_comparable([make_record("lora"), make_record("full", **change)])


def test_every_part_of_a_spec_is_a_term_or_may_differ(make_record: MakeRecord) -> None:
    """A field that joins the spec must be thought about: it either decides a comparison or is compared."""
    spec = make_record("lora").spec
    parts = {name.partition(".")[0] for name in comparability.comparison_terms(spec)}
    assert set(type(spec).model_fields) == parts | {"method", "seed"}


def test_other_machines_and_packages_are_told_below_the_table(make_record: MakeRecord) -> None:
    here, there = (make_record(name, env=ENV.model_dump()) for name in ("lora", "full"))
    assert comparability.environment_differences([here, there]) == {}
    moved = ENV.model_copy(update={"cores": 640, "packages": ENV.packages | {"torch": "9.9"}})
    there = there.model_copy(update={"env": moved})
    told = comparability.environment_differences([here, there])
    assert told == {"cores": [str(ENV.cores), "640"], "torch": [ENV.packages["torch"], "9.9"]}
    assert any("torch" in line and "9.9" in line for line in caveats.caveats(group_by_task([here, there])[0]))


def test_an_adapter_that_could_not_be_served_is_told_and_costs_no_run(make_record: MakeRecord) -> None:
    record = make_record("lora")
    assert record.cost is not None
    broken = record.model_copy(update={"cost": record.cost.model_copy(update={"adapter_failure": "KeyError: 'x'"})})
    assert [
        line
        for line in caveats.caveats(group_by_task([broken])[0])
        if "KeyError: 'x'" in line and line.startswith("lora seed 0")
    ]
    assert summary.summarize_methods([broken])[0].status == "ok"


def test_a_package_that_a_run_did_not_need_is_no_difference(make_record: MakeRecord) -> None:
    less = {name: version for name, version in ENV.packages.items() if name != "torch"}
    envs = ENV, ENV.model_copy(update={"packages": less, "threads": None}), None
    assert (
        comparability.environment_differences(
            [make_record("lora", env=env.model_dump() if env else None) for env in envs]
        )
        == {}
    )


def test_what_computes_without_torch_is_at_home_on_any_device(make_record: MakeRecord) -> None:
    bare = ENV.model_copy(update={"threads": None, "device": "cpu"})
    trained = ENV.model_copy(update={"threads": 8, "device": "NVIDIA H200"})
    elsewhere = trained.model_copy(update={"device": "NVIDIA L4"})
    here, control, there = (make_record("lora", env=env.model_dump()) for env in (trained, bare, elsewhere))
    assert comparability.same_machine([here, control])
    assert not comparability.same_machine([here, there]) and not comparability.same_machine([here, control, there])
    other = make_record("lora", env=bare.model_copy(update={"cores": 640}).model_dump())
    assert not comparability.same_machine([here, other])


def test_prompts_that_lost_their_beginning_are_told(make_record: MakeRecord) -> None:
    record = make_record("few-shot")
    assert record.cost and record.cost.answering
    assert not [line for line in caveats.caveats(group_by_task([record])[0]) if "lost their beginning" in line]
    answering = record.cost.answering.model_copy(update={"queries": 4, "cut_prompts": 3})
    cut = record.model_copy(update={"cost": record.cost.model_copy(update={"answering": answering})})
    assert "few-shot seed 0: 3 of 4 prompts were longer" in "\n".join(caveats.caveats(group_by_task([cut])[0]))
