"""Damaged records: no command that reads records ends with a traceback, and no check of them passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import CODE, imported


@pytest.fixture
def fuzz_records() -> Iterator[ModuleType]:
    yield from imported(CODE / "benchmarks", "fuzz_records")


def test_damaged_records_have_no_traceback_and_no_silent_pass(fuzz_records: ModuleType, tmp_path: Path) -> None:
    """`python benchmarks/fuzz_records.py` does the same with thousands, and with reports."""
    outcome = fuzz_records.fuzz(40, 0, ["check", "advise"], tmp_path)
    assert (outcome.tracebacks, outcome.silent_passes) == ([], [])
    assert set(outcome.codes["check"]) == {0, 1, 2, 3}
