"""Energy counters of processor packages and GPUs."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from bench.measurement import energy


def write_package(rapl_folder: Path, number: int, joules: float, counter_range: int = 2**32) -> Path:
    folder = rapl_folder / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n", "ascii")
    (folder / "max_energy_range_uj").write_text(f"{counter_range}\n", "ascii")
    return folder


def test_energy_counter_two_packages_adds_them(tmp_path: Path) -> None:
    write_package(tmp_path, 0, 10)
    write_package(tmp_path, 1, 100)
    read_joules = energy.energy_counter("cpu", tmp_path)
    start = read_joules()
    write_package(tmp_path, 0, 12.5)
    write_package(tmp_path, 1, 101)
    assert read_joules() - start == pytest.approx(3.5)


def test_energy_counter_overflow_is_followed(tmp_path: Path) -> None:
    write_package(tmp_path, 0, 999, counter_range=int(1000e6))
    read_joules = energy.energy_counter("cpu", tmp_path)
    start = read_joules()
    write_package(tmp_path, 0, 4, counter_range=int(1000e6))
    assert read_joules() - start == pytest.approx(5)


def test_energy_counter_zone_inside_package_is_not_counted(tmp_path: Path) -> None:
    write_package(tmp_path, 0, 1)
    (tmp_path / "intel-rapl:0:0").mkdir()  # the cores of package 0
    read_joules = energy.energy_counter("cpu", tmp_path)
    assert read_joules() == 0


def test_energy_counter_several_gpus_adds_visible_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    millijoules = {3: 1000, "GPU-1f": 20_000, 0: 400_000}
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=millijoules.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f,0")
    for device, gpus, joules in (("cuda", 1, 1), ("cuda:0", 2, 21), ("cuda:0", 3, 421), ("cuda:1", 1, 20)):
        read_joules = energy.energy_counter(device, gpus=gpus)
        assert read_joules() == joules
    with pytest.raises(energy.EnergyUnavailable):
        energy.energy_counter("cuda:0", gpus=5)  # not all of them can be read


def deny(*_: object) -> None:
    raise PermissionError(13, "Permission denied", "/sys/class/powercap/intel-rapl:0/energy_uj")


class NVMLError(Exception):
    """As raised for a GPU without a counter."""


def test_energy_counter_nothing_readable_tells_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(device: str) -> str:
        with pytest.raises(energy.EnergyUnavailable) as error:
            energy.energy_counter(device, tmp_path)
        return str(error.value)

    def fail(*_: object) -> None:
        raise NVMLError("Not Supported")

    assert "no energy counter of its processors" in reason("cpu")
    assert reason("mps") == "no energy counter of the device mps is supported"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert reason("cuda") == "the package nvidia-ml-py is missing: pip install 'adaptbench[gpu]'"
    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(nvmlInit=fail))
    assert reason("cuda:0") == "NVMLError: Not Supported"
    write_package(tmp_path, 0, 1)
    monkeypatch.setattr(Path, "read_text", deny)
    assert reason("cpu") == "no permission to read /sys/class/powercap/intel-rapl:0/energy_uj"
