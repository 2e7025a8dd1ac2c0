"""Comparison terms: runs with different settings are refused, other machines and packages are reported."""

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

DIFFERENT_TERMS = {
    "task.sha256": {"task__sha256": "c" * 64},
    "task.version": {"task__version": 2},
    "base.sha256": {"base__sha256": "c" * 64},
    "base.dtype": {"base__dtype": "bfloat16"},
    "budget.epochs": {"budget__epochs": 1},
    "budget.trials": {"budget__trials": 4},
    "budget.batch": {"budget__batch": 8},
    "decoding.max_new_tokens": {"decoding__max_new_tokens": 9},
    "decoding.stop": {"decoding__stop": []},
    "prompt.format": {"prompt__format": "chat"},
    "prompt.thinking": {"prompt__thinking": "on"},
    "split": {"split": "validation"},
}
EQUAL_TERMS: dict[str, dict[str, Any]] = {
    "method": {"method__params": {"rank": 2}},
    "seed": {"seed": 7},
    "folder of the task": {"task__ref": "/elsewhere/feelings"},
    "folder of the base model": {"base__ref": "/elsewhere/bookworm"},
}


@pytest.mark.parametrize(("term", "change"), DIFFERENT_TERMS.items())
def test_require_comparable_different_term_is_refused_by_name(
    make_record: MakeRecord, term: str, change: dict[str, Any]
) -> None:
    records = [make_record("lora"), make_record("full", **change)]
    with pytest.raises(UserError) as refusal:
        summary.summarize_methods(records)
    assert f"{term}: " in str(refusal.value)
    assert all(record.id in str(refusal.value) for record in records)
    for other_term in DIFFERENT_TERMS.keys() - {term}:
        assert f"{other_term}: " not in str(refusal.value)


@pytest.mark.parametrize("change", EQUAL_TERMS.values(), ids=EQUAL_TERMS)
def test_require_comparable_compared_settings_may_differ(make_record: MakeRecord, change: dict[str, Any]) -> None:
    comparability.require_comparable([make_record("lora"), make_record("full", **change)])


def test_comparison_terms_every_part_of_a_spec_is_classified(make_record: MakeRecord) -> None:
    """A new field of the spec must be considered here: it is a comparison term or something that is compared."""
    spec = make_record("lora").spec
    parts = {name.partition(".")[0] for name in comparability.comparison_terms(spec)}
    assert set(type(spec).model_fields) == parts | {"method", "seed"}


def test_environment_differences_other_machine_and_packages_are_reported(make_record: MakeRecord) -> None:
    first, second = (make_record(name, env=ENV.model_dump()) for name in ("lora", "full"))
    assert comparability.environment_differences([first, second]) == {}
    other_env = ENV.model_copy(update={"cores": 640, "packages": ENV.packages | {"torch": "9.9"}})
    second = second.model_copy(update={"env": other_env})
    differences = comparability.environment_differences([first, second])
    assert differences == {"cores": [str(ENV.cores), "640"], "torch": [ENV.packages["torch"], "9.9"]}
    lines = caveats.list_caveats(group_by_task([first, second])[0])
    assert any("torch" in line and "9.9" in line for line in lines)


def test_adapter_serving_error_is_a_caveat_and_the_run_stays_ok(make_record: MakeRecord) -> None:
    record = make_record("lora")
    assert record.cost is not None
    cost = record.cost.model_copy(update={"adapter_serving_error": "KeyError: 'x'"})
    failed = record.model_copy(update={"cost": cost})
    lines = caveats.list_caveats(group_by_task([failed])[0])
    assert [line for line in lines if "KeyError: 'x'" in line and line.startswith("lora seed 0")]
    assert summary.summarize_methods([failed])[0].status == "ok"


def test_environment_differences_package_not_needed_is_none(make_record: MakeRecord) -> None:
    packages = {name: version for name, version in ENV.packages.items() if name != "torch"}
    envs = ENV, ENV.model_copy(update={"packages": packages, "threads": None}), None
    records = [make_record("lora", env=env.model_dump() if env else None) for env in envs]
    assert comparability.environment_differences(records) == {}


def test_same_machine_run_without_torch_fits_any_device(make_record: MakeRecord) -> None:
    without_torch = ENV.model_copy(update={"threads": None, "device": "cpu"})
    with_torch = ENV.model_copy(update={"threads": 8, "device": "NVIDIA H200"})
    other_device = with_torch.model_copy(update={"device": "NVIDIA L4"})
    trained, control, elsewhere = (
        make_record("lora", env=env.model_dump()) for env in (with_torch, without_torch, other_device)
    )
    assert comparability.same_machine([trained, control])
    assert not comparability.same_machine([trained, elsewhere])
    assert not comparability.same_machine([trained, control, elsewhere])
    other_machine = make_record("lora", env=without_torch.model_copy(update={"cores": 640}).model_dump())
    assert not comparability.same_machine([trained, other_machine])


def test_truncated_prompts_are_a_caveat(make_record: MakeRecord) -> None:
    record = make_record("few-shot")
    assert record.cost and record.cost.answering
    lines = caveats.list_caveats(group_by_task([record])[0])
    assert not [line for line in lines if "truncated at the start" in line]
    answering = record.cost.answering.model_copy(update={"queries": 4, "truncated_prompts": 3})
    truncated = record.model_copy(update={"cost": record.cost.model_copy(update={"answering": answering})})
    lines = caveats.list_caveats(group_by_task([truncated])[0])
    assert "few-shot seed 0: 3 of 4 prompts were longer" in "\n".join(lines)
