"""Environment of a run: the number of threads that it computes with, and the load of other processes."""

from __future__ import annotations

import time

import pytest

from bench.measurement import environment
from bench.measurement.environment import BackgroundLoad


@pytest.mark.parametrize(("setting", "expected"), [("", 2), ("1", 1), ("7", 2), ("0", 2), ("many", 2)])
def test_compute_threads_is_every_core_unless_user_sets_fewer(
    monkeypatch: pytest.MonkeyPatch, setting: str, expected: int
) -> None:
    monkeypatch.setattr(environment, "available_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert environment.compute_threads() == expected


def test_background_load_excluded_seconds_are_no_load() -> None:
    load = BackgroundLoad()
    time.sleep(0.05)
    load.exclude(1e6)
    assert load.background_cores() == 0
