"""Many records: read on all cores in order, without their texts, and no less strictly than one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeRecord

from bench.analysis import comparison
from bench.errors import UserError
from bench.records import reader
from bench.records.record import Record
from bench.records.samples import Sample, Samples

MANY = reader.FEW + reader.SHELF // 2


@pytest.fixture
def file(make_record: MakeRecord, tmp_path: Path) -> Path:
    texts = [' warm\nQ: "…"', "", "따뜻함\t\\u0041", "\u2028 </script> \x7f"]
    samples = [
        Sample(id=f'q"{place}', references=("warm", text), raw=text, answer=text or None, scores={"em": 0.1, "f1": 1})
        for place, text in enumerate(texts)
    ]
    return make_record().model_copy(update={"samples": Samples.from_list(samples)}).write(tmp_path)


def one(file: Path) -> Record:
    (found,) = reader.read_files([file])
    return found


def test_a_record_without_its_texts_is_the_same_record(file: Path) -> None:
    whole, found = Record.read(file), one(file)
    assert found == whole
    assert whole == found
    assert found.to_json() == file.read_text("utf-8")
    assert (found.samples.ids, found.samples.digest) == (whole.samples.ids, whole.samples.digest)
    for metric in ("em", "f1"):
        assert found.samples.scores(metric) == whole.samples.scores(metric)
    assert list(found.samples) == list(whole.samples)
    assert found.samples[1] == whole.samples[1]
    assert found.samples[1:3] == whole.samples[1:3]
    assert found.samples.take([3, 0]) == [whole.samples[3], whole.samples[0]]


def test_however_a_file_is_laid_out_it_is_the_same_record(file: Path) -> None:
    content = json.loads(file.read_text("utf-8"))
    turned = dict(reversed(content.items()))
    (file.parent / "turned.json").write_text(json.dumps(turned, indent=4), "utf-8")  # escapes, and samples come first
    assert one(file.parent / "turned.json") == Record.read(file)


def test_texts_are_read_when_they_are_looked_at_and_not_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, read = one(file), []
    monkeypatch.setattr(Path, "read_bytes", lambda place, real=Path.read_bytes: (read.append(place), real(place))[1])
    assert len(found.samples) == 4
    assert found.samples.scores("em").tolist() == [0.1] * 4
    assert not read
    assert found.samples[0].raw == ' warm\nQ: "…"'
    assert read == [file]


def test_a_file_that_changes_while_it_is_read_is_refused(file: Path) -> None:
    found = one(file)
    file.write_text(file.read_text("utf-8").replace("</script>", "</Script>"), "utf-8")
    with pytest.raises(UserError, match="changed while it was read"):
        list(found.samples)
    file.unlink()
    with pytest.raises(UserError, match="changed while it was read"):
        found.samples[0]


@pytest.mark.parametrize(
    ("change", "told"),
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
@pytest.mark.parametrize("among", [1, MANY])
def test_what_is_wrong_is_refused_with_its_file_and_its_place(
    file: Path, change: tuple[Any, ...], told: str, among: int
) -> None:
    content: Any = json.loads(file.read_text("utf-8"))
    part = content
    for step in change[:-2]:
        part = part[step]
    part[change[-2]] = change[-1]
    wrong = file.parent / "wrong.json"
    wrong.write_text(json.dumps(content), "utf-8")
    files = [file] * (among - 1) + [wrong]
    with pytest.raises(UserError) as refused:
        list(reader.read_files(files))
    assert told in refused.value.what
    assert refused.value.where == str(wrong)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"samples": []}', "\x00"], ids=repr)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text, "utf-8")
    with pytest.raises(UserError, match="no record of this version"):
        one(tmp_path / "odd.json")


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"</script>", b"\xff"))
    with pytest.raises(UserError, match="no record of this version"):
        one(file)


def test_many_files_are_read_in_order_and_hold_their_questions_once(make_record: MakeRecord, tmp_path: Path) -> None:
    files = [make_record(seed=seed).write(tmp_path) for seed in range(MANY)][::-1]
    found = list(reader.read_files(files))
    assert [record.spec.seed for record in found] == list(range(MANY))[::-1]
    assert len({id(record.samples.ids) for record in found}) == 1
    assert len({id(record.spec.model_fields_set) for record in found}) == 1
    assert found[3] == Record.read(files[3])


def test_scores_are_put_beside_each_other_by_their_questions(make_record: MakeRecord) -> None:
    first = make_record(items=3, em=1 / 3).samples
    other = Samples.from_list([first[2], first[0], first[1]])
    assert comparison.scores_by_question([first, other], "em").tolist() == [[1.0, 0.0, 0.0]] * 2
    with pytest.raises(KeyError):
        comparison.scores_by_question([first, first[1:]], "em")
