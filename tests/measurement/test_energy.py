"""Energy is what the machine's counters say, or it is not told."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from bench.measurement import energy


def package(rapl: Path, number: int, joules: float, full: int = 2**32) -> Path:
    folder = rapl / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n", "ascii")
    (folder / "max_energy_range_uj").write_text(f"{full}\n", "ascii")
    return folder


def test_joules_of_all_packages_are_added(tmp_path: Path) -> None:
    package(tmp_path, 0, 10)
    package(tmp_path, 1, 100)
    count = energy.energy_counter("cpu", tmp_path)
    assert count is not None
    began = count()
    package(tmp_path, 0, 12.5)
    package(tmp_path, 1, 101)
    assert count() - began == pytest.approx(3.5)


def test_a_counter_that_starts_over_is_followed(tmp_path: Path) -> None:
    package(tmp_path, 0, 999, full=int(1000e6))
    count = energy.energy_counter("cpu", tmp_path)
    assert count is not None
    began = count()
    package(tmp_path, 0, 4, full=int(1000e6))
    assert count() - began == pytest.approx(5)


def test_parts_of_a_package_are_not_counted_twice(tmp_path: Path) -> None:
    package(tmp_path, 0, 1)
    (tmp_path / "intel-rapl:0:0").mkdir()  # the cores of package 0
    count = energy.energy_counter("cpu", tmp_path)
    assert count is not None
    assert count() == 0


def test_all_gpus_of_a_run_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {3: 1000, "GPU-1f": 20_000, 0: 400_000}
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=drawn.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f,0")
    for device, gpus, joules in (("cuda", 1, 1), ("cuda:0", 2, 21), ("cuda:0", 3, 421), ("cuda:1", 1, 20)):
        count = energy.energy_counter(device, gpus=gpus)
        assert count is not None and count() == joules
    assert energy.energy_counter("cuda:0", gpus=5) is None  # not all of them can be read


def test_where_nothing_can_be_read_nothing_is_told(tmp_path: Path) -> None:
    assert energy.energy_counter("cpu", tmp_path) is None
    broken = package(tmp_path, 0, 1)
    (broken / "energy_uj").unlink()
    assert energy.energy_counter("cpu", tmp_path) is None
    assert energy.energy_counter("cuda:0") is None or energy.energy_counter("cuda:0")() >= 0  # type: ignore[misc]
