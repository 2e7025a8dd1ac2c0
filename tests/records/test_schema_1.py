"""Records of schema 1: read with the names of schema 2, under their old ids, and as strictly as others."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CODE, MakeRecord
from pydantic import BaseModel

from bench.errors import UserError
from bench.records import Record, Spec, reader
from bench.records.schema_1 import upgrade_json, upgrade_record

FOLDERS = (Path(__file__).parent / "schema_1", CODE / "results" / "baselines" / "ci")
SCHEMA_1_FILES = [
    file
    for folder in FOLDERS
    for file in sorted(folder.glob("*.json"))
    if '"schema": 1' in file.read_text("utf-8")[:40]
]
PHASE_NAMES = {
    "import": "import",
    "load": "load",
    "remember": "general_text_before",
    "fit": "fit",
    "predict": "predict",
    "latency": "latency",
    "forget": "general_text_after",
    "serve": "adapter_serving",
}
PHASE = {
    "wall_s": 2.5,
    "cpu_s": 3.5,
    "start_mib": 1.5,
    "peak_mib": 9.5,
    "reserved_mib": 12.5,
    "forecast_mib": 8.5,
    "energy_j": 4.5,
}
FULL_RECORD: dict[str, Any] = {
    "schema": 1,
    "id": "",
    "status": "ok",
    "spec": {
        "task": {"name": "feelings", "ref": "./feelings", "version": 1, "sha256": "a" * 64, "metric": "em"},
        "method": {"name": "lora", "ref": "lora", "control": True, "sham": True, "params": {"rank": 16, "passes": 2}},
        "base": {"ref": "org/model", "revision": "c" * 40, "sha256": "b" * 64, "dtype": "float32"},
        "budget": {
            "examples": 9,
            "passes": 3,
            "steps": 4,
            "tokens": 900,
            "seconds": 60.0,
            "memory": 2**30,
            "trials": 2,
            "batch": 8,
            "new_tokens": 7,
        },
        "decoding": {
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": 1.5,
            "max_new_tokens": 7,
            "stop": ["\n"],
        },
        "seed": 2,
        "exam": "test",
    },
    "asked": ["run", "--methods", "lora"],
    "scores": {"em": 1.0},
    "cost": {
        "phases": {name: dict(PHASE) for name in PHASE_NAMES},
        "memory_read_by": "VmHWM",
        "parameters": {"total": 900, "trainable": 40, "kept": 41},
        "spent": {
            "available": 9,
            "examples": 18,
            "passes": 2.0,
            "steps": 3,
            "tokens": 99,
            "seconds": 1.5,
            "micro_batch": 4,
            "flops": 1e9,
            "stopped_by": "passes",
        },
        "answering": {
            "queries": 1,
            "prompt_tokens": 11,
            "answer_tokens": 12,
            "cut_prompts": 1,
            "longest_prompt": 13,
            "shared_prompt": 5,
            "context": 512,
            "attention": "sdpa",
            "latency_ms": [1.5, 2.5],
        },
        "artefact_bytes": 2048,
        "adapter": {
            "queries": 1,
            "load_ms": 3.5,
            "switch_ms": 0.5,
            "loaded_same": 1.0,
            "merged_same": 0.5,
            "merged_latency_ms": [1.25],
        },
        "adapter_failure": "KeyError: 'x'",
    },
    "env": {
        "started": "2026-01-01T00:00:00+00:00",
        "adaptbench": "0.9",
        "revision": "abc+dirty",
        "method_sha256": "d" * 64,
        "python": "3.11.9",
        "platform": "Linux",
        "processor": "CPU",
        "cores": 2,
        "threads": 1,
        "memory_mib": 8000,
        "device": "cpu",
        "processes": 2,
        "matmul_flops_per_s": 1e11,
        "others_cores": 0.25,
        "packages": {"torch": "2.9", "passes": "1"},
    },
    "curve": [
        {
            "step": 1,
            "tokens": 33,
            "seconds": 0.5,
            "train_loss": 1.5,
            "validation_loss": 1.25,
            "next_token_accuracy": 0.5,
        }
    ],
    "forgetting": {"text_sha256": "e" * 64, "tokens": 1000, "nats_before": 2.5, "nats_after": 2.75},
    "tuning": {
        "ranges": {
            "rank": {"low": 1.0, "high": 64.0, "whole": True, "log": True, "choices": None},
            "whole": {"low": None, "high": None, "whole": False, "log": False, "choices": ["a", 1, 0.5, True]},
        },
        "attempts": [{"params": {"rank": 4}, "status": "ok", "score": 0.5}],
    },
    "error": {"kind": "ValueError", "message": "why", "trace": "Traceback"},
    "samples": [{"id": "q0", "references": ["warm"], "raw": " warm", "answer": "warm", "scores": {"em": 1.0}}],
}
"""A record of schema 1 that has every field of it, each with another value than its default."""


def full_record() -> dict[str, Any]:
    record = copy.deepcopy(FULL_RECORD)
    record["id"] = Spec.model_validate_json(json.dumps(upgrade_record(record)["spec"])).id
    return record


def missing_fields(model: BaseModel, path: str = "") -> list[str]:
    """The optional fields that are null, anywhere in a model."""
    missing = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if not field.is_required() and value is None:
            missing.append(f"{path}{name}")
        children = [value] if isinstance(value, BaseModel) else []
        if isinstance(value, dict):
            children += [inner for inner in value.values() if isinstance(inner, BaseModel)]
        if isinstance(value, tuple):
            children += [inner for inner in value if isinstance(inner, BaseModel)]
        for child in children:
            missing += missing_fields(child, f"{path}{name}.")
    return missing


def read_both_ways(file: Path) -> Record:
    """Read a file alone and among files; both records must be equal."""
    record = Record.read(file)
    (from_files,) = reader.read_files([file])
    assert from_files == record
    assert list(from_files.samples) == list(record.samples)
    assert from_files.to_json() == record.to_json()
    return record


def set_at(record: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    node: Any = record
    for parent in parents:
        node = node[int(parent) if isinstance(node, list) else parent]
    node[name] = value


def write(record: dict[str, Any], folder: Path) -> Path:
    file = folder / "record.json"
    file.write_text(json.dumps(record), "utf-8")
    return file


@pytest.mark.parametrize("file", SCHEMA_1_FILES, ids=lambda file: file.stem)
def test_committed_record_reads_equal_both_ways_and_keeps_its_id(file: Path, tmp_path: Path) -> None:
    assert json.loads(file.read_bytes())["schema"] == 1
    record = read_both_ways(file)
    assert record.spec.id == record.id == file.stem
    rewritten = record.write(tmp_path)
    assert json.loads(rewritten.read_bytes())["schema"] == 2
    assert read_both_ways(rewritten) == record


def test_committed_records_are_found() -> None:
    assert {file.parent for file in SCHEMA_1_FILES} == set(FOLDERS)


def test_full_record_has_every_optional_field() -> None:
    record = Record.model_validate_json(json.dumps(upgrade_record(full_record())))
    # A range has either bounds or choices.
    expected = {"tuning.ranges.choices", "tuning.ranges.low", "tuning.ranges.high"}
    # Schema 1 ended before these were counted or tried.
    expected |= {f"cost.answering.{name}_answers" for name in ("generated", "cut", "repeating")}
    expected.add("cost.answering.unused_fast_paths")
    expected |= {"cost.energy_unmeasured", "env.deterministic", "env.matmul_flops_per_s_by_dtype"}
    expected |= {f"cost.{name}" for name in ("host_memory_source", "context_mib")}
    expected.add("cost.phases.host_peak_mib")
    expected |= {f"cost.budget_usage.{name}" for name in ("validation_s", "tried_memory")}
    expected |= {"corpus_scores", "corpus_values", "labels", "shifted", "spec.decoding.constraint"}
    expected |= {"rating_reports", "spec.task.metric_models"}
    expected |= {"kept_weights", "fit_report", "forgetting.before_measured", "forgetting.before_cost"}
    expected |= {"forgetting.text", "cost.budget_usage.activation_checkpointing"}
    assert set(missing_fields(record)) == expected


def test_full_record_is_read_with_all_values(tmp_path: Path) -> None:
    content = full_record()
    record = read_both_ways(write(content, tmp_path))
    spec, cost, env, tuning = record.spec, record.cost, record.env, record.tuning
    assert cost and env and tuning and cost.parameters and cost.budget_usage and cost.answering and cost.adapter_serving
    assert record.command == ("run", "--methods", "lora")
    assert (spec.split, spec.budget.epochs, spec.method.negative_control) == ("test", 3, True)
    assert spec.method.params == {"rank": 16, "passes": 2}  # the names of hyper-parameters stay
    assert list(cost.phases) == list(PHASE_NAMES.values())
    assert {phase.estimated_mib for phase in cost.phases.values()} == {8.5}
    assert (cost.memory_source, cost.artifact_bytes, cost.parameters.saved) == ("VmHWM", 2048, 41)
    usage, answering, adapter = cost.budget_usage, cost.answering, cost.adapter_serving
    assert (usage.train_size, usage.epochs, usage.stopped_by) == (9, 2.0, "epochs")
    assert (answering.truncated_prompts, answering.longest_prompt_tokens, answering.shared_prefix_tokens) == (1, 13, 5)
    assert (adapter.reload_agreement, adapter.merge_agreement) == (1.0, 0.5)
    assert cost.adapter_serving_error == "KeyError: 'x'"
    assert (env.background_cores, env.packages) == (0.25, {"torch": "2.9", "passes": "1"})
    assert list(tuning.ranges) == ["rank", "whole"] and tuning.ranges["rank"].integer
    assert tuning.trials[0].score == 0.5
    assert record.forgetting and record.forgetting.nats_after == 2.75
    assert record.error and record.error.trace == "Traceback"


def test_upgrade_keeps_every_value_and_the_order_of_keys() -> None:
    def values(node: Any) -> list[Any]:
        if isinstance(node, dict | list):
            children = node.values() if isinstance(node, dict) else node
            return [value for child in children for value in values(child)]
        return [node]

    content = full_record()
    expected = values(content)
    expected[0] = 2  # schema
    expected[expected.index("passes")] = "epochs"  # stopped_by
    assert values(upgrade_record(content)) == expected


def test_upgrade_record_does_not_change_its_argument() -> None:
    content = full_record()
    before = copy.deepcopy(content)
    upgrade_record(content)
    assert content == before


def test_predicted_mib_the_earlier_name_of_forecast_mib_is_read(tmp_path: Path) -> None:
    content = full_record()
    phase = content["cost"]["phases"]["fit"]
    phase["predicted_mib"] = phase.pop("forecast_mib")
    record = read_both_ways(write(content, tmp_path))
    assert record.cost and record.cost.phases["fit"].estimated_mib == 8.5


@pytest.mark.parametrize("part", ["cost", "env", "forgetting", "tuning", "error"])
def test_schema_1_record_with_a_null_part_is_read(tmp_path: Path, part: str) -> None:
    record = read_both_ways(write(full_record() | {part: None}, tmp_path))
    assert getattr(record, part) is None


@pytest.mark.parametrize("part", ["parameters", "spent", "answering", "adapter"])
def test_schema_1_record_with_a_null_cost_is_read(tmp_path: Path, part: str) -> None:
    content = full_record()
    content["cost"][part] = None
    read_both_ways(write(content, tmp_path))


def test_schema_1_record_with_keys_in_another_order_is_read(tmp_path: Path) -> None:
    content = full_record()
    expected = read_both_ways(write(content, tmp_path))
    assert read_both_ways(write(dict(reversed(content.items())), tmp_path)) == expected


def test_schema_2_record_is_never_upgraded(make_record: MakeRecord) -> None:
    content = make_record().to_json().encode()
    assert upgrade_json(content) is None
    assert upgrade_json(content.replace(b'"schema": 2', b'"schema": 1', 1)) is not None


@pytest.mark.parametrize("old_name", ["asked", "spec.exam", "cost.spent", "cost.artefact_bytes", "cost.adapter"])
def test_schema_2_record_with_an_old_name_is_refused(make_record: MakeRecord, tmp_path: Path, old_name: str) -> None:
    content = json.loads(make_record().to_json())
    set_at(content, old_name, None)
    with pytest.raises(UserError) as refused:
        list(reader.read_files([write(content, tmp_path)]))
    assert f"{old_name}: extra inputs are not permitted" in refused.value.message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("asked", 7, "command: input should be a valid array"),
        ("spec.exam", "train", "spec.split: input should be 'test' or 'validation'"),
        ("spec.budget.passes", 0, "spec.budget.epochs: input should be greater than 0"),
        ("spec.seed", -1, "spec.seed: input should be greater than or equal to 0"),
        ("cost.spent.passes", "two", "cost.budget_usage.epochs: input should be a valid number"),
        ("cost.spent", 7, "cost.budget_usage: input should be an object"),
        ("cost.phases.remember", None, "cost.phases.general_text_before: input should be an object"),
        ("cost.phases.fit.forecast_mib", -1, "cost.phases.fit.estimated_mib: input should be greater than or equal"),
        ("cost.phases.fit.predicted_mib", 1, "cost.phases.fit.predicted_mib: extra inputs are not permitted"),
        ("cost.budget_usage", None, "cost.spent: extra inputs are not permitted"),
        ("cost.seconds", 1, "cost.seconds: extra inputs are not permitted"),
        ("tuning.ranges.rank.whole", "maybe", "tuning.ranges.rank.integer: input should be a valid boolean"),
        ("tuning.attempts", 7, "tuning.trials: input should be a valid array"),
        ("samples.0.raw", 7, "samples.0.raw: input should be a valid string"),
        ("command", [], "asked: extra inputs are not permitted"),
    ],
)
def test_invalid_schema_1_record_is_refused_with_its_field(tmp_path: Path, path: str, value: Any, message: str) -> None:
    content = full_record()
    set_at(content, path, value)
    file = write(content, tmp_path)
    with pytest.raises(UserError) as refused:
        list(reader.read_files([file]))
    assert message in refused.value.message
    assert refused.value.location == str(file)


def test_schema_1_record_without_a_required_field_is_refused(tmp_path: Path) -> None:
    content = full_record()
    del content["cost"]["memory_read_by"]
    with pytest.raises(UserError, match=r"cost\.memory_source: field required"):
        list(reader.read_files([write(content, tmp_path)]))


@pytest.mark.parametrize("schema", [0, 3, "1", None])
def test_unknown_schema_is_refused(tmp_path: Path, schema: Any) -> None:
    with pytest.raises(UserError, match="schema: input should be 2"):
        list(reader.read_files([write(full_record() | {"schema": schema}, tmp_path)]))


def test_truncated_schema_1_record_is_refused(tmp_path: Path) -> None:
    file = write(full_record(), tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a valid record"):
        list(reader.read_files([file]))
