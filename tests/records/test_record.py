"""The record: what is written is what is read, whole or not at all, and what counts as the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import CODE, MakeRecord
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.records import record
from bench.records.record import Record
from bench.records.samples import Sample, Samples

SCHEMA = CODE / "docs" / "record.schema.json"
# A lone surrogate is no text: UTF-8 cannot hold it, and no tokenizer decodes to one.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_a_record_reads_back_as_it_was_written(make_record: MakeRecord, tmp_path: Path) -> None:
    written = make_record()
    place = written.write(tmp_path / "new" / "folder")
    assert place.name == f"{written.spec.id}.json"
    assert Record.read(place) == written
    assert list(record.read_all(tmp_path)) == [written]


@given(raw=TEXTS, answer=st.none() | TEXTS)
def test_any_answer_survives_writing(make_record: MakeRecord, raw: str, answer: str | None) -> None:
    sample = Sample(id="odd", references=("warm",), raw=raw, answer=answer, scores={"em": 0.0})
    written = make_record().model_copy(update={"samples": Samples.from_list([sample])})
    assert Record.model_validate_json(written.to_json()) == written


@pytest.mark.parametrize("items", [0, 1, 5])
def test_the_header_comes_first_and_each_sample_has_a_line_of_its_own(make_record: MakeRecord, items: int) -> None:
    text = make_record(items=items).to_json()
    assert next(iter(json.loads(text))) == "schema"
    assert list(json.loads(text))[-1] == "samples"
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(' "samples"'))
    parsed = [json.loads(line.strip().rstrip(",")) for line in lines[begin + 1 : begin + 1 + items]]
    assert [sample["id"] for sample in parsed] == [f"q{place}" for place in range(items)]
    assert '"id": "q0"' not in "\n".join(lines[:begin])


@pytest.mark.parametrize("place", [(), ("spec",), ("spec", "budget"), ("cost",), ("samples", 0)])
def test_an_unknown_key_is_refused_wherever_it_stands(
    make_record: MakeRecord, tmp_path: Path, place: tuple[str | int, ...]
) -> None:
    content: Any = json.loads(make_record().to_json())
    part = content
    for step in place:
        part = part[step]
    part["seconds_total"] = 1
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValidationError, match="seconds_total"):
        Record.read(file)


def test_a_record_of_another_schema_is_refused(make_record: MakeRecord) -> None:
    content = json.loads(make_record().to_json()) | {"schema": 2}
    with pytest.raises(ValidationError, match="schema"):
        Record.model_validate(content)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"task__ref": "/somewhere/else"},
        {"method__ref": "bench.methods.lora:LoRA"},
        {"base__ref": "./models/bookworm"},
    ],
    ids=str,
)
def test_the_key_ignores_the_seed_and_how_things_were_found(make_record: MakeRecord, change: dict[str, Any]) -> None:
    assert make_record(**change).spec.key == make_record().spec.key


@pytest.mark.parametrize(
    "change",
    [
        {"method__params": {"rank": 8, "lr": 2e-3}},
        {"method__params": {"rank": 16, "lr": 1e-3}},
        {"method__name": "qlora"},
        {"budget": {"passes": 4}},
        {"budget": {"passes": 3, "seconds": 60}},
        {"budget": {"passes": 3, "batch": 8}},
        {"decoding__max_new_tokens": 9},
        {"decoding__stop": []},
        {"decoding__repetition_penalty": 1.1},
        {"task__sha256": "c" * 64},
        {"task__version": 2},
        {"base__sha256": "c" * 64},
        {"base__dtype": "bfloat16"},
    ],
    ids=str,
)
def test_the_key_changes_with_all_that_decides_the_outcome(make_record: MakeRecord, change: dict[str, Any]) -> None:
    assert make_record(**change).spec.key != make_record().spec.key


def test_the_key_does_not_depend_on_the_order_of_hyper_parameters(make_record: MakeRecord) -> None:
    swapped = make_record(method__params={"lr": 2e-3, "rank": 16})
    assert swapped.spec.key == make_record().spec.key


def test_seeds_have_files_of_their_own(make_record: MakeRecord) -> None:
    assert len({make_record(seed=seed).id for seed in range(3)}) == 3


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_what_was_there(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old, new = make_record(em=0.25), make_record(em=0.75)
    place = old.write(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(record.os, "fsync", full) if step == "fsync" else broken.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            new.write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [place.name]
    assert Record.read(place) == old
    new.write(tmp_path)
    assert Record.read(place) == new


def test_the_published_schema_is_that_of_the_code() -> None:
    assert SCHEMA.read_text("utf-8") == record.json_schema()


@pytest.mark.parametrize("status", ["ok", "unsupported", "did-not-fit", "timeout", "error"])
def test_a_written_record_keeps_the_published_schema(make_record: MakeRecord, tmp_path: Path, status: str) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    bare: dict[str, Any] = {"cost": None, "samples": [], "error": {"kind": "K", "message": "why", "trace": None}}
    place = make_record(status=status, **({} if status == "ok" else bare)).write(tmp_path)
    content = json.loads(place.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"status": "fine"}, schema)


def test_a_record_holds_no_number_that_json_does_not_know(make_record: MakeRecord) -> None:
    """NaN is no JSON: other readers than Python's refuse the whole file for it."""
    point = {"step": 1, "tokens": 1, "seconds": 1.0, "train_loss": float("nan")}
    diverged = make_record(curve=[point | {"validation_loss": float("inf"), "next_token_accuracy": 0.0}])

    def refuse(word: str) -> None:
        raise AssertionError(f"the record holds {word}")

    json.loads(diverged.to_json(), parse_constant=refuse)
