"""Seconds, peak memory and energy of the phases of a run; latency of single queries."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil

from bench.measurement import energy
from bench.measurement.environment import process_memory
from bench.records import Phase

MIB = 2**20
MIN_TIMED_QUERIES, MAX_TIMED_QUERIES = 5, 20
MAX_TIMING_SECONDS = 2.0
_CLEAR_REFS_FILE = Path("/proc/self/clear_refs")
_STAT_FILE = Path("/proc/self/stat")


class Meter:
    """Measures the phases of one process, one after the other.

    `phases` holds their costs by name. On CUDA, memory is what torch's allocator holds on the device; elsewhere
    it is resident memory of the process.

    Args:
        device: Torch device name; for several devices the first of them.
        devices: Number of devices of the run. Memory is measured on the first, energy on all of them.
    """

    def __init__(self, device: str = "cpu", devices: int = 1) -> None:
        self.device = device
        self.phases: dict[str, Phase] = {}
        self._open_phase: str | None = None
        self._memory = _memory_reader(device)
        self.energy_unmeasured: str | None = None
        """Reason why energy is not measured."""
        self._read_energy: energy.EnergyCounter | None = None
        try:
            self._read_energy = energy.energy_counter(device, gpus=devices)
        except energy.EnergyUnavailable as error:
            self.energy_unmeasured = str(error)

    @property
    def memory_source(self) -> str:
        """Source of the memory values: `VmHWM`, `cuda-allocator` or `psutil-sampling`.

        Values of different sources cannot be compared.
        """
        return self._memory.name

    @contextmanager
    def phase(self, name: str, *, since_process_start: bool = False) -> Iterator[None]:
        """Measure the body and store its cost as `phases[name]`, also if the body raises.

        Args:
            name: Name of the phase.
            since_process_start: Count from the start of this process, which includes imports made before a meter
                could exist. The memory held at that time is unknown, so `start_mib` is None.

        Raises:
            RuntimeError: If another phase is open or the name was measured before.
        """
        if self._open_phase is not None:
            raise RuntimeError(f"phase {name!r} cannot begin within phase {self._open_phase!r}")
        if name in self.phases:
            raise RuntimeError(f"phase {name!r} has been measured already")
        self._open_phase = name
        start_mib = self._memory.start(reset_peak=not since_process_start)
        synchronize(self.device)
        start_joules = self._joules()
        if since_process_start:
            start_wall, start_cpu = _process_start(), 0.0
        else:
            start_wall, start_cpu = time.perf_counter(), time.process_time()
        try:
            yield
            # The device is not waited for if the body raised: a broken device would raise again and hide that error.
            synchronize(self.device)
        finally:
            wall_s, cpu_s = time.perf_counter() - start_wall, time.process_time() - start_cpu
            peak_mib, reserved_mib = self._stop_memory()
            self.phases[name] = Phase(
                wall_s=round(wall_s, 6),
                cpu_s=round(cpu_s, 6),
                start_mib=start_mib,
                peak_mib=peak_mib,
                reserved_mib=reserved_mib,
                energy_j=self._joules_since(start_joules),
            )
            self._open_phase = None

    def _joules(self) -> float | None:
        """Return the reading of the energy counter; None without one, or if it has failed."""
        if self._read_energy is None:
            return None
        try:
            return self._read_energy()
        except Exception as error:  # a counter that fails must not end the run
            self._read_energy, self.energy_unmeasured = None, str(energy.EnergyUnavailable.because_of(error))
            return None

    def _joules_since(self, start_joules: float | None) -> float | None:
        end_joules = self._joules()
        return None if start_joules is None or end_joules is None else round(end_joules - start_joules, 3)

    def _stop_memory(self) -> tuple[float | None, float | None]:
        """Return the peaks of the open phase; None if they cannot be read.

        A device that is broken by an error of the phase may raise again, which would hide that error.
        """
        try:
            return self._memory.stop()
        except Exception:
            return None, None


def measure_latency(
    predict: Callable[[list[str]], list[str]], questions: Sequence[str], seconds: float = MAX_TIMING_SECONDS
) -> tuple[list[str], tuple[float, ...]]:
    """Answer questions one at a time and time each of them, after one warm-up query.

    At most the first `MAX_TIMED_QUERIES` questions are answered.

    Args:
        predict: Answers a list of questions.
        questions: Questions in the order to answer them.
        seconds: Time after which no further query starts, once `MIN_TIMED_QUERIES` are done.

    Returns:
        The answers, and the milliseconds of each.
    """
    if not questions:
        return [], ()
    predict([questions[0]])
    answers: list[str] = []
    milliseconds: list[float] = []
    first_start = time.perf_counter()
    for question in questions[:MAX_TIMED_QUERIES]:
        start = time.perf_counter()
        if start - first_start > seconds and len(milliseconds) >= MIN_TIMED_QUERIES:
            break
        answers += predict([question])
        milliseconds.append(round((time.perf_counter() - start) * 1000, 3))
    return answers, tuple(milliseconds)


class _MemoryReader(Protocol):
    """Reads the memory of this process or device, in MiB, at the start and the end of a phase."""

    name: str

    def start(self, *, reset_peak: bool) -> float | None:
        """Begin a phase; return the memory held now, or None if the peak so far is kept."""

    def stop(self) -> tuple[float, float | None]:
        """End a phase; return the peak and, for an allocator, the peak of what it reserved."""


class _HighWaterMark:
    """Linux: the kernel's high-water mark of resident memory (VmHWM).

    It misses no peak and costs nothing. `ru_maxrss` is not used, because a child process inherits it from its parent
    through fork and exec.
    """

    name = "VmHWM"

    def start(self, *, reset_peak: bool) -> float | None:
        if not reset_peak:
            return None
        # The C library keeps freed pages. Without the trim they would be used again without growing the process, and
        # the phase would look too small.
        _malloc_trim()
        _CLEAR_REFS_FILE.write_text("5", encoding="ascii")  # 5 resets the high-water mark
        return process_memory("VmRSS") / MIB

    def stop(self) -> tuple[float, None]:
        return process_memory("VmHWM") / MIB, None


class _CudaAllocator:
    """CUDA: the peaks of torch's caching allocator, of allocated and of reserved memory."""

    name = "cuda-allocator"

    def __init__(self, device: str) -> None:
        self._device = device

    def start(self, *, reset_peak: bool) -> float | None:
        if not reset_peak:
            return None
        cuda = _torch_cuda()
        cuda.init()
        cuda.reset_peak_memory_stats(self._device)
        return float(cuda.memory_allocated(self._device)) / MIB

    def stop(self) -> tuple[float, float]:
        cuda = _torch_cuda()
        allocated, reserved = cuda.max_memory_allocated(self._device), cuda.max_memory_reserved(self._device)
        return allocated / MIB, reserved / MIB


class _Sampling:
    """Elsewhere: a thread that samples resident memory and may miss a short peak."""

    name = "psutil-sampling"
    interval_s = 0.005

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stopped = threading.Event()
        self._thread = threading.Thread()
        self._peak_mib = 0.0

    def start(self, *, reset_peak: bool) -> float | None:
        if reset_peak:
            _malloc_trim()
        self._peak_mib = resident_mib = self._resident_mib()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-sampling", daemon=True)
        self._thread.start()
        return resident_mib if reset_peak else None

    def stop(self) -> tuple[float, None]:
        self._stopped.set()
        self._thread.join()
        return max(self._peak_mib, self._resident_mib()), None

    def _sample(self) -> None:
        while not self._stopped.wait(self.interval_s):
            self._peak_mib = max(self._peak_mib, self._resident_mib())

    def _resident_mib(self) -> float:
        return float(self._process.memory_info().rss) / MIB


def _memory_reader(device: str) -> _MemoryReader:
    """Return the best way to read memory that works here."""
    if device.split(":")[0] == "cuda":
        return _CudaAllocator(device)
    try:
        # Some containers mount /proc read-only or hide the mark. This fails now, and not in the middle of a run.
        _CLEAR_REFS_FILE.open("w", encoding="ascii").close()
        process_memory("VmHWM")
    except (OSError, LookupError):
        return _Sampling()
    return _HighWaterMark()


def _malloc_trim() -> None:
    """Return freed heap pages to the system if the C library can (glibc)."""
    if sys.platform == "linux":
        trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _process_start() -> float:
    """Return the start of this process on the clock of `time.perf_counter`."""
    return time.perf_counter() - _process_age()


def _process_age() -> float:
    """Return the seconds since this process started, outside Linux to a second at best."""
    try:
        fields_after_name = _STAT_FILE.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        start_ticks = int(fields_after_name[19])  # field 22 of proc(5): clock ticks from boot to process start
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return max(0.0, time.time() - psutil.Process().create_time())


def synchronize(device: str) -> None:
    """Wait for the work queued on a torch device, if torch is imported and uses the device."""
    kind = device.split(":")[0]
    if "torch" not in sys.modules:
        return
    if kind == "cuda" and _torch_cuda().is_initialized():
        _torch_cuda().synchronize(device)
    elif kind == "mps":
        import torch

        torch.mps.synchronize()


def _torch_cuda() -> Any:
    """Return torch's CUDA module as `Any`, because its types are incomplete."""
    import torch

    return torch.cuda
