"""The record file: written atomically, read back equal, and named by a digest of its settings."""

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

from bench.errors import UserError
from bench.records import Record, Sample, Samples, Spec, files, read_all, record

SCHEMA_FILE = CODE / "docs" / "record.schema.json"
# UTF-8 cannot encode a lone surrogate, and no tokenizer decodes to one.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_record_reads_back_as_written(make_record: MakeRecord, tmp_path: Path) -> None:
    written = make_record()
    file = written.write(tmp_path / "new" / "folder")
    assert file.name == f"{written.spec.id}.json"
    assert Record.read(file) == written
    assert list(read_all(tmp_path)) == [written]


@given(raw=TEXTS, answer=st.none() | TEXTS)
def test_record_any_answer_survives_writing(make_record: MakeRecord, raw: str, answer: str | None) -> None:
    sample = Sample(id="odd", references=("warm",), raw=raw, answer=answer, scores={"em": 0.0})
    written = make_record().model_copy(update={"samples": Samples.from_list([sample]), "scores": {"em": 0.0}})
    assert Record.model_validate_json(written.to_json()) == written


@pytest.mark.parametrize("items", [0, 1, 5])
def test_to_json_has_the_header_first_and_a_line_per_sample(make_record: MakeRecord, items: int) -> None:
    text = make_record(items=items).to_json()
    assert next(iter(json.loads(text))) == "schema"
    assert list(json.loads(text))[-1] == "samples"
    lines = text.splitlines()
    samples_line = next(number for number, line in enumerate(lines) if line.startswith(' "samples"'))
    parsed = [json.loads(line.strip().rstrip(",")) for line in lines[samples_line + 1 : samples_line + 1 + items]]
    assert [sample["id"] for sample in parsed] == [f"q{index}" for index in range(items)]
    assert '"id": "q0"' not in "\n".join(lines[:samples_line])


@pytest.mark.parametrize("path", [(), ("spec",), ("spec", "budget"), ("cost",), ("samples", 0)])
def test_read_unknown_key_is_refused_everywhere(
    make_record: MakeRecord, tmp_path: Path, path: tuple[str | int, ...]
) -> None:
    content: Any = json.loads(make_record().to_json())
    part = content
    for key in path:
        part = part[key]
    part["seconds_total"] = 1
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValidationError, match="seconds_total"):
        Record.read(file)


def test_record_of_another_schema_is_refused(make_record: MakeRecord) -> None:
    content = json.loads(make_record().to_json()) | {"schema": 3}
    with pytest.raises(ValidationError, match="schema"):
        Record.model_validate(content)
    with pytest.raises(ValidationError, match="schema"):
        Record.from_json(json.dumps(content).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"task__ref": "/somewhere/else"},
        {"method__ref": "bench.methods.lora:LoRA"},
        {"method__negative_control": True},
        {"base__ref": "./models/bookworm"},
        {"base__revision": "c" * 40},
    ],
    ids=str,
)
def test_spec_key_ignores_the_seed_and_references(make_record: MakeRecord, change: dict[str, Any]) -> None:
    assert make_record(**change).spec.key == make_record().spec.key


@pytest.mark.parametrize(
    "change",
    [
        {"method__params": {"rank": 8, "lr": 2e-3}},
        {"method__params": {"rank": 16, "lr": 1e-3}},
        {"method__name": "qlora"},
        {"budget": {"epochs": 4}},
        {"budget": {"epochs": 3, "seconds": 60}},
        {"budget": {"epochs": 3, "batch": 8}},
        {"decoding__max_new_tokens": 9},
        {"decoding__stop": []},
        {"decoding__repetition_penalty": 1.1},
        {"task__sha256": "c" * 64},
        {"task__version": 2},
        {"base__sha256": "c" * 64},
        {"base__dtype": "bfloat16"},
        {"split": "validation"},
    ],
    ids=str,
)
def test_spec_key_changes_with_every_deciding_setting(make_record: MakeRecord, change: dict[str, Any]) -> None:
    assert make_record(**change).spec.key != make_record().spec.key


def test_spec_key_plain_prompts_are_no_part_of_it(make_record: MakeRecord) -> None:
    """Ids of records that were made before prompts had a format stay valid."""
    spec = make_record().spec
    earlier = spec.model_dump(mode="json", exclude={"prompt"})
    assert "prompt" in spec.model_dump() and Spec.model_validate(earlier) == spec
    assert spec.id == "feelings-lora-1aaf8f449ac5-s0"
    assert make_record(prompt__format="chat").spec.key != spec.key


def test_spec_key_ignores_the_order_of_hyper_parameters(make_record: MakeRecord) -> None:
    reordered = make_record(method__params={"lr": 2e-3, "rank": 16})
    assert reordered.spec.key == make_record().spec.key


def test_spec_id_differs_by_seed(make_record: MakeRecord) -> None:
    assert len({make_record(seed=seed).id for seed in range(3)}) == 3


@pytest.mark.parametrize("failing_step", ["fsync", "replace"])
def test_write_failing_midway_keeps_the_old_record(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_step: str
) -> None:
    old, new = make_record(em=0.25), make_record(em=0.75)
    file = old.write(tmp_path)

    def raise_disk_full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    owner: Any = files.os if failing_step == "fsync" else Path
    with monkeypatch.context() as patched:
        patched.setattr(owner, failing_step, raise_disk_full)
        with pytest.raises(OSError, match="No space"):
            new.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert Record.read(file) == old
    new.write(tmp_path)
    assert Record.read(file) == new


def test_published_schema_is_up_to_date() -> None:
    """`python -c "from bench.records.record import json_schema; print(json_schema(), end='')"` prints the schema."""
    assert SCHEMA_FILE.read_text("utf-8") == record.json_schema()


@pytest.mark.parametrize("status", ["ok", "unsupported", "did-not-fit", "diverged", "timeout", "error"])
def test_written_record_is_valid_under_the_published_schema(
    make_record: MakeRecord, tmp_path: Path, status: str
) -> None:
    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    failed: dict[str, Any] = {"cost": None, "samples": [], "error": {"kind": "K", "message": "why", "trace": None}}
    file = make_record(status=status, **({} if status == "ok" else failed)).write(tmp_path)
    content = json.loads(file.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"status": "fine"}, schema)


def test_to_json_writes_nan_and_infinity_as_null(make_record: MakeRecord) -> None:
    """JSON has no NaN: readers other than Python's reject the whole file because of one."""
    point = {"step": 1, "tokens": 1, "seconds": 1.0, "train_loss": float("nan")}
    diverged = make_record(curve=[point | {"validation_loss": float("inf"), "next_token_accuracy": 0.0}])

    def refuse(constant: str) -> None:
        raise AssertionError(f"the record holds {constant}")

    json.loads(diverged.to_json(), parse_constant=refuse)


FOREIGN_NAMES = ["../victim/precious", "/tmp/precious", "..", ".", "", ".hidden", "a\\b", "a\nb", "a\x00b", "a" * 200]


@pytest.mark.parametrize("name", FOREIGN_NAMES, ids=repr)
def test_record_name_that_cannot_name_a_file_is_refused(make_record: MakeRecord, tmp_path: Path, name: str) -> None:
    """The id is built from the names, so a record may have an id that fits its settings and yet leads elsewhere."""
    record = make_record()
    task = record.spec.task.model_copy(update={"name": name})
    spec = record.spec.model_copy(update={"task": task})
    foreign = record.model_copy(update={"spec": spec, "id": spec.id})
    with pytest.raises(ValidationError, match="names of task and method" if len(name) > 99 else "name"):
        Record.from_json(foreign.to_json().encode())
    with pytest.raises(UserError, match="the record cannot be written"):
        foreign.write(tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("id", ["../victim/precious", "", ".", "feelings-lora-0123456789ab-s0"])
def test_record_with_another_id_is_neither_read_nor_written(make_record: MakeRecord, tmp_path: Path, id: str) -> None:
    precious = tmp_path / "victim" / "precious"
    precious.mkdir(parents=True)
    foreign = make_record().model_copy(update={"id": id})
    with pytest.raises(ValidationError, match="is not that of the settings"):
        Record.from_json(foreign.to_json().encode())
    with pytest.raises(UserError, match="is not that of the settings"):
        foreign.write(tmp_path / "new")
    assert precious.is_dir()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("is_written", [True, False])
def test_write_deletes_the_old_artifact_only_with_the_new_record(
    make_record: MakeRecord, tmp_path: Path, is_written: bool
) -> None:
    written = make_record()
    artifact = tmp_path / written.id
    artifact.mkdir()
    (artifact / "adapter.safetensors").touch()
    if is_written:
        written.write(tmp_path)
        assert not artifact.exists()
        return
    (tmp_path / f"{written.id}.json").mkdir()  # A folder in the place of the record file.
    with pytest.raises(OSError, match="directory"):
        written.write(tmp_path)
    assert (artifact / "adapter.safetensors").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {written.id, f"{written.id}.json"}


def test_write_replaces_links_and_does_not_follow_them(make_record: MakeRecord, tmp_path: Path) -> None:
    written = make_record()
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.mkdir()
    out.mkdir()
    (precious / "notes").write_text("mine")
    (out / written.id).symlink_to(precious)
    (out / f"{written.id}.json").symlink_to(precious / "notes")
    written.write(out)
    assert (precious / "notes").read_text() == "mine"
    assert [path.name for path in out.iterdir()] == [f"{written.id}.json"]


def test_spec_copy_with_other_settings_has_its_own_key_and_id(make_record: MakeRecord) -> None:
    spec = make_record("lora").spec
    key, run_id = spec.key, spec.id
    other = spec.model_copy(update={"seed": spec.seed + 1, "split": "validation"})
    assert (spec.key, spec.id) == (key, run_id)
    assert other.id == type(other).model_validate(other.model_dump()).id != run_id
    assert other.key != key
