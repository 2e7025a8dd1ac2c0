"""What each phase of a run costs: seconds by the wall and on the processor, and the peak of the memory held."""

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
from bench.records.cost import Phase

MIB = 2**20
MAX_TIMED_QUERIES, MIN_TIMED_QUERIES = 20, 5  # timed one by one at the most, and however long they take
MAX_TIMING_SECONDS = 2.0  # after which no more are begun
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STAT = Path("/proc/self/stat")


class Meter:
    """Meters the phases of one process, one after the other; `phases` holds their costs by name.

    `device` is a torch device name. On cuda the memory is the allocator's on that device, elsewhere the process' own.
    """

    def __init__(self, device: str = "cpu", devices: int = 1) -> None:
        """Memory is read on the first of so many `devices`, energy on all of them."""
        self.device = device
        self.phases: dict[str, Phase] = {}
        self._open: str | None = None
        self._gauge = _gauge(device)
        self._joules = energy.energy_counter(device, gpus=devices)

    @property
    def memory_source(self) -> str:
        """How memory is read: `VmHWM`, `cuda-allocator` or `psutil-sampling`; unlike ones do not compare."""
        return self._gauge.name

    @contextmanager
    def phase(self, name: str, *, since_process_start: bool = False) -> Iterator[None]:
        """Meter the body and keep its cost as `phases[name]`, also when the body raises.

        `since_process_start` reaches back to the start of this process (imports made before a meter could exist);
        the memory held back then is not known, so `start_mib` is None.
        Raises RuntimeError within another phase or for a name already metered.
        """
        if self._open is not None:
            raise RuntimeError(f"phase {name!r} cannot begin within phase {self._open!r}")
        if name in self.phases:
            raise RuntimeError(f"phase {name!r} has been metered already")
        self._open = name
        start_mib = self._gauge.start(fresh=not since_process_start)
        synchronize(self.device)
        joules = self._joules() if self._joules else 0.0
        wall, cpu = (_process_start(), 0.0) if since_process_start else (time.perf_counter(), time.process_time())
        try:
            yield
            # A body that raised is not waited for: a broken device would raise again and hide the first exception.
            synchronize(self.device)
        finally:
            wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
            peak_mib, reserved_mib = self._gauge.stop()
            self.phases[name] = Phase(
                wall_s=round(wall_s, 6),
                cpu_s=round(cpu_s, 6),
                start_mib=start_mib,
                peak_mib=peak_mib,
                reserved_mib=reserved_mib,
                energy_j=round(self._joules() - joules, 3) if self._joules else None,
            )
            self._open = None


def measure_latency(
    answer: Callable[[list[str]], list[str]], questions: Sequence[str], seconds: float = MAX_TIMING_SECONDS
) -> tuple[list[str], tuple[float, ...]]:
    """Answers to the first `QUERIES` questions and milliseconds of each, one at a time, after a warm-up.

    No more are begun once so many `seconds` have passed and `FEWEST` are timed.
    """
    if not questions:
        return [], ()
    answer([questions[0]])
    answers, times, since = list[str](), list[float](), time.perf_counter()
    for question in questions[:MAX_TIMED_QUERIES]:
        began = time.perf_counter()
        if began - since > seconds and len(times) >= MIN_TIMED_QUERIES:
            break
        answers += answer([question])
        times.append(round((time.perf_counter() - began) * 1000, 3))
    return answers, tuple(times)


class _Gauge(Protocol):
    """Reads memory in MiB, from `start` (what is held; None if not `fresh`, which keeps the peak there was) to `stop`
    (the peak of what was held, and of what an allocator had reserved, None where there is no such thing).
    """

    name: str

    def start(self, *, fresh: bool) -> float | None: ...
    def stop(self) -> tuple[float, float | None]: ...


class _HighWater:
    """Linux: the kernel's own high-water mark of resident memory, so no peak is missed and reading costs nothing.

    Not `ru_maxrss`: a child inherits that from its parent through fork and exec.
    """

    name = "VmHWM"

    def start(self, *, fresh: bool) -> float | None:
        if not fresh:
            return None
        # Freed pages that the C library kept would be reused unseen, and the phase would look too small.
        _malloc_trim()
        _CLEAR_REFS.write_text("5", encoding="ascii")
        return process_memory("VmRSS") / MIB

    def stop(self) -> tuple[float, None]:
        return process_memory("VmHWM") / MIB, None


class _CudaAllocator:
    """CUDA: torch's caching allocator keeps both peaks, what tensors held and what it had reserved for them."""

    name = "cuda-allocator"

    def __init__(self, device: str) -> None:
        self._device = device

    def start(self, *, fresh: bool) -> float | None:
        if not fresh:
            return None
        cuda = _cuda()
        cuda.init()
        cuda.reset_peak_memory_stats(self._device)
        return float(cuda.memory_allocated(self._device)) / MIB

    def stop(self) -> tuple[float, float]:
        cuda = _cuda()
        held, reserved = cuda.max_memory_allocated(self._device), cuda.max_memory_reserved(self._device)
        return held / MIB, reserved / MIB


class _Sampling:
    """Elsewhere: a thread looks at resident memory every few milliseconds, so a short peak may be missed."""

    name = "psutil-sampling"
    every_s = 0.005

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread()
        self._peak_mib = 0.0

    def start(self, *, fresh: bool) -> float | None:
        if fresh:
            _malloc_trim()
        self._peak_mib = held_mib = self._resident_mib()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-sampling", daemon=True)
        self._thread.start()
        return held_mib if fresh else None

    def stop(self) -> tuple[float, None]:
        self._done.set()
        self._thread.join()
        return max(self._peak_mib, self._resident_mib()), None

    def _watch(self) -> None:
        while not self._done.wait(self.every_s):
            self._peak_mib = max(self._peak_mib, self._resident_mib())

    def _resident_mib(self) -> float:
        return float(self._process.memory_info().rss) / MIB


def _gauge(device: str) -> _Gauge:
    if device.split(":")[0] == "cuda":
        return _CudaAllocator(device)
    try:
        # Some containers mount /proc read-only or leave the mark out: find out now, not in the middle of a run.
        _CLEAR_REFS.open("w", encoding="ascii").close()
        process_memory("VmHWM")
    except (OSError, LookupError):
        return _Sampling()
    return _HighWater()


def _malloc_trim() -> None:
    """Hand freed heap pages back to the system, where the C library can (glibc)."""
    if sys.platform == "linux":
        trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _process_start() -> float:
    """When this process began, on the clock of `time.perf_counter`."""
    return time.perf_counter() - _age_s()


def _age_s() -> float:
    """Seconds since this process began; beyond Linux known to the second at best, since psutil counts from the boot."""
    try:
        ticks = _STAT.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return max(0.0, time.time() - psutil.Process().create_time())


def _cuda() -> Any:
    """Torch's CUDA module (whose types are incomplete), imported only where a CUDA device is asked for."""
    import torch

    return torch.cuda


def synchronize(device: str) -> None:
    """Wait for the work queued on `device`, which runs on after Python has moved on; never wakes a device for it."""
    kind = device.split(":")[0]
    if "torch" not in sys.modules:
        return
    if kind == "cuda" and _cuda().is_initialized():
        _cuda().synchronize(device)
    elif kind == "mps":
        import torch

        torch.mps.synchronize()
