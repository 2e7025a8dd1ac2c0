"""Energy that the machine's own counters tell; most machines tell ordinary users nothing, and then nothing is said."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RAPL = Path("/sys/class/powercap")

Counter = Callable[[], float]
"""Joules since some moment in the past."""


def energy_counter(device: str, rapl: Path = _RAPL, gpus: int = 1) -> Counter | None:
    """What counts the energy that a run on `device` draws: the GPU's counter (NVML), or those of all processor packages
    (RAPL, https://www.kernel.org/doc/html/latest/power/powercap/powercap.html); None where there is none to be read.

    Both count what everything on the device draws, not this process alone. Of a run on several `gpus`, of which this is
    the first, all are counted.
    """
    try:
        return _gpus(device, gpus) if device.partition(":")[0] == "cuda" else _packages(rapl)
    except Exception:  # a driver or kernel without the counter may fail in ways of its own
        return None


def _gpus(device: str, count: int) -> Counter:
    first = int(device.partition(":")[2] or 0)
    counters = [_gpu(number) for number in range(first, first + count)]
    return lambda: sum(joules() for joules in counters)


def _gpu(number: int) -> Counter:
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    # NVML counts all GPUs of the machine, and torch those that it is shown.
    shown = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    chosen = shown[number] if len(shown) > number and shown[number] else str(number)
    index = chosen.isdecimal()
    handle = nvml.nvmlDeviceGetHandleByIndex(int(chosen)) if index else nvml.nvmlDeviceGetHandleByUUID(chosen)
    nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _packages(rapl: Path) -> Counter | None:
    packages = [_Package(folder) for folder in sorted(rapl.glob("intel-rapl:?"))]
    return (lambda: sum(package.joules() for package in packages)) if packages else None


class _Package:
    """One processor package, whose counter starts over when it is full."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._full = int((folder / "max_energy_range_uj").read_text("ascii"))
        self._last, self._total = int(self._file.read_text("ascii")), 0

    def joules(self) -> float:
        now = int(self._file.read_text("ascii"))
        self._total += (now - self._last) % self._full
        self._last = now
        return self._total / 1e6
