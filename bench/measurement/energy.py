"""Energy counters of GPUs (NVML) and processors (RAPL), where they can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from bench.measurement.nvml import gpu_handle

_RAPL_FOLDER = Path("/sys/class/powercap")

EnergyCounter = Callable[[], float]
"""Returns joules since some fixed moment; only differences of two readings have a meaning."""


class EnergyUnavailable(Exception):
    """The energy that a device draws cannot be read; the message is the reason."""

    @classmethod
    def because_of(cls, error: Exception) -> Self:
        """Return the error for an exception of a driver or the kernel, with a message of one line."""
        return cls(" ".join(f"{type(error).__name__}: {error}".split()))


def energy_counter(device: str, rapl_folder: Path = _RAPL_FOLDER, gpus: int = 1) -> EnergyCounter:
    """Return a counter of the energy that a device draws.

    A GPU is read by NVML. On a CPU all processor packages are added up (RAPL,
    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html). Both count everything that runs on the
    device, not this process alone.

    Args:
        device: Torch device name; for several GPUs the first of them.
        rapl_folder: Folder of the kernel's power capping zones.
        gpus: Number of GPUs of the run, all of which are counted.

    Raises:
        EnergyUnavailable: If no counter can be read.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise EnergyUnavailable(f"no energy counter of the device {kind} is supported")
    try:
        return _gpus_counter(device, gpus) if kind == "cuda" else _packages_counter(rapl_folder)
    except EnergyUnavailable:
        raise
    except ModuleNotFoundError:
        raise EnergyUnavailable("the package nvidia-ml-py is missing: pip install 'adaptbench[gpu]'") from None
    except PermissionError as error:
        raise EnergyUnavailable(f"no permission to read {error.filename}") from None
    except Exception as error:  # drivers and kernels without the counter raise errors of their own types
        raise EnergyUnavailable.because_of(error) from None


def _gpus_counter(device: str, gpus: int) -> EnergyCounter:
    first = int(device.partition(":")[2] or 0)
    counters = [_gpu_counter(index) for index in range(first, first + gpus)]
    return lambda: sum(read_joules() for read_joules in counters)


def _gpu_counter(torch_index: int) -> EnergyCounter:
    """Return the counter of one GPU, by torch's index of it."""
    nvml, handle = gpu_handle(torch_index)
    nvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # fails here and not in a run if the GPU has no counter
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _packages_counter(rapl_folder: Path) -> EnergyCounter:
    packages = [_ProcessorPackage(folder) for folder in sorted(rapl_folder.glob("intel-rapl:?"))]
    if not packages:
        raise EnergyUnavailable(f"this machine shows no energy counter of its processors in {rapl_folder}")
    return lambda: sum(package.read_joules() for package in packages)


class _ProcessorPackage:
    """One processor package; its counter in microjoules starts again at 0 after a maximum."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text("ascii"))
        self._last, self._total = int(self._file.read_text("ascii")), 0

    def read_joules(self) -> float:
        """Return joules since this object was made."""
        now = int(self._file.read_text("ascii"))
        self._total += (now - self._last) % self._range
        self._last = now
        return self._total / 1e6
