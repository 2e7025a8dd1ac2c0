"""Many records: read on all cores in order, without their texts, and as strictly as a single one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeRecord

from bench import cpu
from bench.analysis import comparison
from bench.errors import UserError
from bench.records import Record, Sample, Samples, reader

FILES_FOR_POOL = reader.MAX_FILES_WITHOUT_POOL + reader.FILES_PER_BATCH // 2


@pytest.fixture
def file(make_record: MakeRecord, tmp_path: Path) -> Path:
    texts = [' warm\nQ: "…"', "", "따뜻함\t\\u0041", "\u2028 </script> \x7f"]
    samples = [
        Sample(id=f'q"{index}', references=("warm", text), raw=text, answer=text or None, scores={"em": 0.1, "f1": 1})
        for index, text in enumerate(texts)
    ]
    changes = {"samples": Samples.from_list(samples), "scores": {"em": 0.1, "f1": 1.0}}
    return make_record().model_copy(update=changes).write(tmp_path)


def read_lazily(file: Path) -> Record:
    (record,) = reader.read_files([file])
    return record


def test_lazy_record_equals_the_complete_record(file: Path) -> None:
    complete, lazy = Record.read(file), read_lazily(file)
    assert lazy == complete
    assert complete == lazy
    assert lazy.to_json() == file.read_text("utf-8")
    assert (lazy.samples.ids, lazy.samples.digest) == (complete.samples.ids, complete.samples.digest)
    for metric in ("em", "f1"):
        assert lazy.samples.scores(metric) == complete.samples.scores(metric)
    assert list(lazy.samples) == list(complete.samples)
    assert lazy.samples[1] == complete.samples[1]
    assert lazy.samples[1:3] == complete.samples[1:3]
    assert lazy.samples.take([3, 0]) == [complete.samples[3], complete.samples[0]]


def test_groups_are_read_and_records_without_them_name_none(file: Path) -> None:
    record = Record.read(file)
    assert '"group"' not in record.to_json()
    assert read_lazily(file).samples.groups is record.samples.groups is None
    samples = [
        sample.model_copy(update={"group": f"passage {index // 2}"}) for index, sample in enumerate(record.samples)
    ]
    record.model_copy(update={"samples": Samples.from_list(samples)}).write(file.parent)
    complete, lazy = Record.read(file), read_lazily(file)
    assert complete == lazy
    assert complete.samples.groups == lazy.samples.groups == ("passage 0", "passage 0", "passage 1", "passage 1")
    assert lazy.samples[2].group == "passage 1"
    assert lazy.to_json() == file.read_text("utf-8")


def test_read_files_groups_of_some_samples_raise(file: Path) -> None:
    content = json.loads(file.read_text("utf-8"))
    content["samples"][1]["group"] = "passage"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(UserError, match="some samples have a group"):
        read_lazily(file)


def test_read_files_other_layout_gives_the_same_record(file: Path) -> None:
    content = json.loads(file.read_text("utf-8"))
    reordered = dict(reversed(content.items()))
    # ASCII escapes, another indent, and the samples first.
    (file.parent / "reordered.json").write_text(json.dumps(reordered, indent=4), "utf-8")
    assert read_lazily(file.parent / "reordered.json") == Record.read(file)


def test_texts_are_read_when_used_and_not_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, read_paths = read_lazily(file), []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read_paths.append(path), read_bytes(path))[1])
    assert len(record.samples) == 4
    assert record.samples.scores("em").tolist() == [0.1] * 4
    assert not read_paths
    assert record.samples[0].raw == ' warm\nQ: "…"'
    assert read_paths == [file]


def test_file_changed_after_reading_is_refused(file: Path) -> None:
    record = read_lazily(file)
    file.write_text(file.read_text("utf-8").replace("</script>", "</Script>"), "utf-8")
    with pytest.raises(UserError, match="changed while it was read"):
        list(record.samples)
    file.unlink()
    with pytest.raises(UserError, match="changed while it was read"):
        record.samples[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("samples", 1, "raw", 7), "samples.1.raw: input should be a valid string"),
        (("samples", 3, "references", "warm"), "samples.3.references: input should be a valid array"),
        (("samples", 0, "references", ["warm", None]), "samples.0.references.1: input should be a valid string"),
        (("samples", 2, "scores", {"em": "high"}), "samples.2.scores.em: input should be a valid number"),
        (("samples", 2, "answer", ["a"]), "samples.2.answer: input should be a valid string"),
        (("samples", 2, "seconds", 1), "samples.2.seconds: extra inputs are not permitted"),
        (("samples", {}), "samples: input should be a valid array"),
        (("seconds", 1), "seconds: extra inputs are not permitted"),
        (("spec", "seed", -1), "spec.seed: input should be greater than or equal to 0"),
        (("spec", 7), "spec: input should be an object"),
        (("cost", "phases", "fit", "wall_s", "long"), "cost.phases.fit.wall_s: input should be a valid number"),
    ],
    ids=str,
)
@pytest.mark.parametrize("file_count", [1, FILES_FOR_POOL])
def test_invalid_record_is_refused_with_its_file_and_field(
    file: Path, change: tuple[Any, ...], message: str, file_count: int
) -> None:
    content: Any = json.loads(file.read_text("utf-8"))
    part = content
    for key in change[:-2]:
        part = part[key]
    part[change[-2]] = change[-1]
    invalid_file = file.parent / "invalid.json"
    invalid_file.write_text(json.dumps(content), "utf-8")
    files = [file] * (file_count - 1) + [invalid_file]
    with pytest.raises(UserError) as refused:
        list(reader.read_files(files))
    assert message in refused.value.message
    assert refused.value.location == str(invalid_file)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"samples": []}', "\x00"], ids=repr)
def test_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text, "utf-8")
    with pytest.raises(UserError, match="not a valid record for this version"):
        read_lazily(tmp_path / "odd.json")


def test_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"</script>", b"\xff"))
    with pytest.raises(UserError, match="not a valid record for this version"):
        read_lazily(file)


def test_read_files_many_keep_order_and_share_question_ids(make_record: MakeRecord, tmp_path: Path) -> None:
    files = [make_record(seed=seed).write(tmp_path) for seed in range(FILES_FOR_POOL)][::-1]
    records = list(reader.read_files(files))
    assert [record.spec.seed for record in records] == list(range(FILES_FOR_POOL))[::-1]
    assert len({id(record.samples.ids) for record in records}) == 1
    assert len({id(record.spec.model_fields_set) for record in records}) == 1
    assert records[3] == Record.read(files[3])


def test_scores_by_question_aligns_samples_by_id(make_record: MakeRecord) -> None:
    first = make_record(items=3, em=1 / 3).samples
    reordered = Samples.from_list([first[2], first[0], first[1]])
    assert comparison.scores_by_question([first, reordered], "em").tolist() == [[1.0, 0.0, 0.0]] * 2
    with pytest.raises(KeyError):
        comparison.scores_by_question([first, first[1:]], "em")


def test_available_cores_without_cpu_affinity_counts_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu.available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu.available_cores() == 1


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [300, 700, 100_000])
def test_file_that_is_nested_deeply_is_refused(file: Path, schema: int, opening: str, closing: str, depth: int) -> None:
    content = json.loads(file.read_text("utf-8")) | {"schema": schema, "curve": "nested"}
    text = json.dumps(content).replace('"nested"', opening * depth + "1" + closing * depth)
    file.write_text(text, "utf-8")
    with pytest.raises(UserError, match="not a valid record for this version"):
        read_lazily(file)
