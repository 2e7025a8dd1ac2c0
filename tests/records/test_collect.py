"""Records found in files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MakeRecord

from bench.analysis.regression import baseline
from bench.errors import UserError
from bench.records import read_records


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
