"""Records found in files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeLabelRecord, MakeRecord, MakeTask

from bench.analysis.regression import baseline
from bench.errors import UserError
from bench.records import read_records
from bench.records.labels import find_task_labels
from bench.task import digest_task


def test_read_records_skips_a_baseline_below_the_folder(make_record: MakeRecord, tmp_path: Path) -> None:
    make_record("lora").write(tmp_path)
    folder = tmp_path / "baselines" / "ci"
    baseline.bless_baseline([make_record("full", budget__epochs=1)], folder, "the first")
    assert [record.spec.method.name for record in read_records([tmp_path])] == ["lora"]
    assert [record.spec.method.name for record in read_records([folder])] == ["full"]


def test_read_records_skips_tuning_trials(make_record: MakeRecord, tmp_path: Path) -> None:
    make_record("lora").write(tmp_path)
    make_record("lora", split="validation").write(tmp_path / "trials")
    assert [record.spec.split for record in read_records([tmp_path])] == ["test"]


def test_read_records_rejects_missing_and_conflicting_records(make_record: MakeRecord, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_records([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no record in"):
        read_records([tmp_path])
    make_record("lora").write(tmp_path / "a")
    make_record("lora", scores={"em": 0.1}).write(tmp_path / "b")
    with pytest.raises(UserError, match="two different records"):
        read_records([tmp_path])
    assert len(read_records([tmp_path / "a", tmp_path / "a"])) == 1
    (tmp_path / "a" / "alien.json").write_text('{"schema": 7}')
    with pytest.raises(UserError, match="not a valid record for this version of adaptbench"):
        read_records([tmp_path / "a"])


def test_read_records_old_records_gain_metrics_of_all_answers(
    make_label_record: MakeLabelRecord, make_task: MakeTask, tmp_path: Path
) -> None:
    labels = ["warm", "cold", "mild"]
    task = make_task(tmp_path / "task", labels=labels)
    spec = {"ref": str(task), "name": "feelings", "version": 1, "sha256": digest_task(task), "metric": "em"}
    new = make_label_record("lora", labels, ["warm", "warm", "cold"], ["warm", "cold", "cold"], task=spec)
    old = new.model_copy(update={"labels": None, "corpus_scores": None})
    old.write(tmp_path / "results")
    (record,) = read_records([tmp_path / "results"])
    assert record.corpus_scores == new.corpus_scores
    assert (record.labels and record.labels.names) == tuple(labels)
    find_task_labels.cache_clear()
    (task / "test.jsonl").write_text((task / "test.jsonl").read_text("utf-8") + "\n", "utf-8")
    (record,) = read_records([tmp_path / "results"])
    assert (record.corpus_scores, record.labels) == (None, None)  # the task is not the same any more


def test_read_records_metrics_of_all_answers_must_be_those_of_the_answers(
    make_label_record: MakeLabelRecord, tmp_path: Path
) -> None:
    record = make_label_record("lora", ["a", "b"], ["a", "b"], ["a", "a"], task__metric="macro-f1")
    file = record.write(tmp_path)
    (read,) = read_records([tmp_path])
    assert read.all_scores["macro-f1"] == pytest.approx(1 / 3)
    file.write_text(file.read_text("utf-8").replace('"macro-f1": 0.3333333333333333', '"macro-f1": 0.9'), "utf-8")
    with pytest.raises(UserError, match=r"macro-f1 is 0\.9"):
        read_records([tmp_path])
