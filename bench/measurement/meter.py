"""Seconds, peak memory and energy of the phases of a run; latency of single queries."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import psutil

from bench.measurement import energy, nvml
from bench.measurement.environment import process_memory
from bench.records import Phase
from bench.records.cost import CUDA_ALLOCATOR

MIB = 2**20
MIN_TIMED_QUERIES, MAX_TIMED_QUERIES = 5, 20
MAX_TIMING_SECONDS = 2.0
MAX_CONTEXT_BYTES = 2 * 2**30
"""No CUDA context takes more; usual are 300 to 600 MiB."""
_CLEAR_REFS_FILE = Path("/proc/self/clear_refs")
_STAT_FILE = Path("/proc/self/stat")


class Meter:
    """Measures the phases of one process, one after the other.

    `phases` holds their costs by name. On CUDA, `peak_mib` is what torch's allocator held on the device, and
    `host_peak_mib` the resident memory of the process; elsewhere `peak_mib` is the latter.

    Args:
        device: Torch device name; for several devices the first of them.
        devices: Number of devices of the run. Memory is measured on the first, energy on all of them.
    """

    open_meter: ClassVar[Meter | None] = None
    """The meter in this process that measures a phase now."""

    def __init__(self, device: str = "cpu", devices: int = 1) -> None:
        self.device = device
        self.phases: dict[str, Phase] = {}
        self._open_phase: str | None = None
        self._cuda = _CudaAllocator(device) if device.partition(":")[0] == "cuda" else None
        self._host = _host_memory_reader()
        self._earlier_peaks: list[_Peaks] = []
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
        return self._cuda.name if self._cuda else self._host.name

    @property
    def host_memory_source(self) -> str | None:
        """Source of the process's memory beside a CUDA device; None elsewhere."""
        return self._host.name if self._cuda else None

    @property
    def context_mib(self) -> float | None:
        """MiB that the CUDA context takes outside of the allocator; None if not measured."""
        return self._cuda.context_mib if self._cuda else None

    def add_host_phase(self, name: str, phase: Phase) -> None:
        """Add a phase that was measured before the device of this meter was in use."""
        self.phases[name] = phase.as_host_phase() if self._cuda else phase

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
        self._earlier_peaks = []
        start_mib = self._start_memory(reset_peak=not since_process_start)
        synchronize(self.device)
        start_joules = self._joules()
        if since_process_start:
            start_wall, start_cpu = _process_start(), 0.0
        else:
            start_wall, start_cpu = time.perf_counter(), time.process_time()
        Meter.open_meter = self
        try:
            yield
            # The device is not waited for if the body raised: a broken device would raise again and hide that error.
            synchronize(self.device)
        finally:
            wall_s, cpu_s = time.perf_counter() - start_wall, time.process_time() - start_cpu
            peaks = _Peaks.highest([*self._earlier_peaks, self._stop_memory()])
            self.phases[name] = Phase(
                wall_s=round(wall_s, 6),
                cpu_s=round(cpu_s, 6),
                start_mib=start_mib,
                peak_mib=peaks.peak_mib,
                host_peak_mib=peaks.host_peak_mib,
                reserved_mib=peaks.reserved_mib,
                energy_j=self._joules_since(start_joules),
            )
            self._open_phase = Meter.open_meter = None

    @contextmanager
    def exclude_from_peak(self) -> Iterator[None]:
        """Leave memory that the body frees again out of the peak of the open phase.

        If the body raises, its memory counts: the phase fails there.
        """
        self._earlier_peaks.append(self._stop_memory())
        self._start_memory(reset_peak=False)
        yield
        self._stop_memory()
        self._start_memory(reset_peak=True)

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

    def _start_memory(self, *, reset_peak: bool) -> float | None:
        """Start reading peaks; return the memory held now, or None if the peak so far is kept."""
        host_mib = self._host.start(reset_peak=reset_peak)
        return self._cuda.start(reset_peak=reset_peak) if self._cuda else host_mib

    def _stop_memory(self) -> _Peaks:
        """Stop reading peaks and return them; None for those that cannot be read.

        A device that is broken by an error of the phase may raise again, which would hide that error.
        """
        host_peak_mib = peak_mib = reserved_mib = None
        with suppress(Exception):
            host_peak_mib = self._host.stop()
        if self._cuda is None:
            return _Peaks(host_peak_mib, None, None)
        with suppress(Exception):
            peak_mib, reserved_mib = self._cuda.stop()
        return _Peaks(peak_mib, reserved_mib, host_peak_mib)


class _Peaks(NamedTuple):
    """Peaks of memory in MiB."""

    peak_mib: float | None
    reserved_mib: float | None
    host_peak_mib: float | None

    @classmethod
    def highest(cls, parts: Sequence[_Peaks]) -> _Peaks:
        """Return the peaks of a phase that was measured in parts."""
        columns = ([value for value in values if value is not None] for values in zip(*parts, strict=True))
        return cls(*(max(values, default=None) for values in columns))


@contextmanager
def exclude_from_peak() -> Iterator[None]:
    """Leave memory that the body frees again out of the peak of the open phase, if any.

    Trying whether something fits takes memory that the work itself may not take.
    """
    if Meter.open_meter is None:
        yield
        return
    with Meter.open_meter.exclude_from_peak():
        yield


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


class _HostMemoryReader(Protocol):
    """Reads the resident memory of this process, in MiB, at the start and the end of a phase."""

    name: str

    def start(self, *, reset_peak: bool) -> float | None:
        """Begin a phase; return the memory held now, or None if the peak so far is kept."""

    def stop(self) -> float:
        """End a phase and return its peak."""


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

    def stop(self) -> float:
        return process_memory("VmHWM") / MIB


class _Sampling:
    """Elsewhere: a thread that samples resident memory and may miss a short peak."""

    name = "psutil-sampling"
    interval_s = 0.005

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._peak_mib = 0.0

    def start(self, *, reset_peak: bool) -> float | None:
        if reset_peak:
            _malloc_trim()
        self._peak_mib = resident_mib = self._resident_mib()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-sampling", daemon=True)
        self._thread.start()
        return resident_mib if reset_peak else None

    def stop(self) -> float:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
        return max(self._peak_mib, self._resident_mib())

    def _sample(self) -> None:
        while not self._stopped.wait(self.interval_s):
            self._peak_mib = max(self._peak_mib, self._resident_mib())

    def _resident_mib(self) -> float:
        return float(self._process.memory_info().rss) / MIB


class _CudaAllocator:
    """CUDA: the peaks of torch's caching allocator, of allocated and of reserved memory."""

    name = CUDA_ALLOCATOR

    def __init__(self, device: str) -> None:
        self._device = device
        self.context_mib = self._start_context()

    def start(self, *, reset_peak: bool) -> float | None:
        """Begin a phase; return the memory held now, or None if the peak so far is kept."""
        if not reset_peak:
            return None
        cuda = _torch_cuda()
        cuda.init()
        cuda.empty_cache()  # What earlier phases freed is kept, and would count as reserved by this one.
        cuda.reset_peak_memory_stats(self._device)
        return float(cuda.memory_allocated(self._device)) / MIB

    def stop(self) -> tuple[float, float]:
        """End a phase; return the peaks of allocated and reserved memory."""
        cuda = _torch_cuda()
        allocated, reserved = cuda.max_memory_allocated(self._device), cuda.max_memory_reserved(self._device)
        return allocated / MIB, reserved / MIB

    def _start_context(self) -> float | None:
        """Create the CUDA context; return the MiB that it and its libraries take.

        None if NVML cannot be read. None too if the context exists already, since it cannot be told from the memory of
        other programs on the GPU, or if these have taken or freed memory meanwhile, so that the difference is no size
        of a context.
        """
        cuda = _torch_cuda()
        read_used_bytes = None if cuda.is_initialized() else nvml.used_bytes_reader(self._device)
        if read_used_bytes is None:
            return None
        used_before = read_used_bytes()
        _multiply_small_matrices(self._device)
        context_bytes = read_used_bytes() - used_before - cuda.memory_reserved(self._device)
        return context_bytes / MIB if 0 < context_bytes <= MAX_CONTEXT_BYTES else None


def _multiply_small_matrices(device: str) -> None:
    """Load the libraries for matrix products, as the first layer of a model would."""
    import torch

    ones = torch.ones((8, 8), device=device)
    _ = ones @ ones
    torch.cuda.synchronize(device)


def _host_memory_reader() -> _HostMemoryReader:
    """Return the best way to read the memory of this process that works here."""
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
