"""The meter of time and memory. Most cases run in a process of their own, because peaks belong to a process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.measurement import energy
from bench.measurement.meter import (
    MAX_TIMED_QUERIES,
    MIN_TIMED_QUERIES,
    Meter,
    exclude_from_peak,
    measure_latency,
)

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(Meter().memory_source != "VmHWM", reason="the high-water mark in /proc cannot be read here")

REPORT = """
import json
print(json.dumps({name: phase.model_dump() for name, phase in meter.phases.items()}))
"""


def run_metered(body: str, launcher: str | None = None) -> dict[str, dict[str, Any]]:
    """Run `body` in a new interpreter, where `meter` is a Meter, and return its phases."""
    script = (
        f"import time\nfrom bench.measurement.meter import Meter\nmeter = Meter()\n{textwrap.dedent(body)}\n{REPORT}"
    )
    command = [sys.executable, "-c", script] if launcher is None else [sys.executable, "-c", launcher, script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    phases: dict[str, dict[str, Any]] = json.loads(process.stdout)
    return phases


def added_mib(phase: dict[str, Any]) -> float:
    return float(phase["peak_mib"] - phase["start_mib"])


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


@LINUX
def test_phase_reads_the_memory_it_touched() -> None:
    phases = run_metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
        """
    )
    assert added_mib(phases["fit"]) == pytest.approx(200, abs=8)
    assert phases["fit"]["reserved_mib"] is None


@LINUX
def test_phase_peak_freed_before_the_end_is_read() -> None:
    phases = run_metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
            del held
        """
    )
    assert added_mib(phases["fit"]) == pytest.approx(200, abs=8)


@LINUX
def test_phase_after_higher_peak_does_not_inherit_it() -> None:
    phases = run_metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
            del held
        with meter.phase("predict"):
            held = b"x" * (20 << 20)
        """
    )
    assert added_mib(phases["predict"]) == pytest.approx(20, abs=8)


@LINUX
def test_phase_reusing_freed_heap_still_shows_its_memory() -> None:
    phases = run_metered(
        """
        with meter.phase("fit"):
            held = [b"x" * 64_000 for _ in range(3200)]
            pin = b"y" * 64_000
            del held
        with meter.phase("predict"):
            held = [b"x" * 64_000 for _ in range(1600)]
        """
    )
    assert added_mib(phases["predict"]) == pytest.approx(1600 * 64_000 / 2**20, abs=8)


@LINUX
def test_phase_with_large_parent_process_does_not_inherit_its_memory() -> None:
    launcher = """if True:
        import subprocess, sys
        large = b"x" * (300 << 20)
        sys.exit(subprocess.call([sys.executable, "-c", sys.argv[1]]))
    """
    phases = run_metered(
        """
        with meter.phase("import", since_process_start=True):
            pass
        with meter.phase("fit"):
            pass
        """,
        launcher,
    )
    assert phases["import"]["peak_mib"] < 150
    assert phases["fit"]["peak_mib"] < 150


def test_phase_measures_wall_and_cpu_seconds() -> None:
    phases = run_metered(
        """
        with meter.phase("idle"):
            time.sleep(0.3)
        with meter.phase("busy"):
            start = time.process_time()
            while time.process_time() - start < 0.3:
                pass
        """
    )
    assert 0.3 <= phases["idle"]["wall_s"] < 60
    assert phases["idle"]["cpu_s"] < 0.2
    assert 0.3 <= phases["busy"]["cpu_s"] < 0.6
    assert phases["busy"]["wall_s"] >= 0.29


def test_phase_since_process_start_includes_time_before_meter() -> None:
    phases = run_metered(
        """
        time.sleep(0.3)
        with meter.phase("import", since_process_start=True):
            total = time.process_time()
        """
    )
    assert 0.3 <= phases["import"]["wall_s"] < 120
    assert phases["import"]["cpu_s"] > 0.03
    assert phases["import"]["start_mib"] is None
    assert phases["import"]["peak_mib"] > 1


def test_phase_that_raises_is_recorded_and_raises_on() -> None:
    meter = Meter()
    with pytest.raises(KeyError, match="lost"), meter.phase("fit"):
        raise KeyError("lost")
    assert meter.phases["fit"].wall_s >= 0
    with meter.phase("predict"):
        pass
    assert list(meter.phases) == ["fit", "predict"]


def test_phase_within_phase_is_an_error() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError, match="'load' cannot begin within phase 'fit'"), meter.phase("fit"):  # noqa: SIM117
        with meter.phase("load"):
            pass
    assert list(meter.phases) == ["fit"]


def test_phase_name_used_twice_is_an_error() -> None:
    meter = Meter()
    with meter.phase("fit"):
        pass
    with pytest.raises(RuntimeError, match="'fit' has been measured already"), meter.phase("fit"):
        pass


def test_meter_without_kernel_high_water_mark_samples_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.measurement.meter._CLEAR_REFS_FILE", tmp_path / "absent" / "clear_refs")
    meter = Meter()
    with meter.phase("import", since_process_start=True):
        pass
    with meter.phase("fit"):
        pass
    assert meter.memory_source == "psutil-sampling"
    assert meter.phases["import"].start_mib is None
    start, peak = meter.phases["fit"].start_mib, meter.phases["fit"].peak_mib
    assert start is not None
    assert peak is not None
    assert 0 < start <= peak


def test_meter_on_cpu_does_not_import_torch() -> None:
    phases = run_metered(
        """
        import sys
        with meter.phase("fit"):
            pass
        assert "torch" not in sys.modules
        """
    )
    assert list(phases) == ["fit"]


class FakeCuda:
    """The functions of `torch.cuda` that the meter calls, for a device of which a test sets what is held."""

    def __init__(self) -> None:
        self.allocated = self.peak = self.reserved = self.peak_reserved = 0
        self.cached = 0
        self.calls: list[str] = []

    def hold(self, mib: int) -> None:
        """Allocate MiB; a negative number frees them into the cache of the allocator."""
        self.allocated += mib * 2**20
        self.cached = max(self.cached - mib * 2**20, 0)
        self.peak = max(self.peak, self.allocated)
        self.peak_reserved = max(self.peak_reserved, self.memory_reserved())

    def init(self) -> None:
        self.calls.append("init")

    def is_initialized(self) -> bool:
        return "synchronize" in self.calls

    def synchronize(self, device: str) -> None:
        self.calls.append("synchronize")

    def empty_cache(self) -> None:
        self.cached = 0

    def reset_peak_memory_stats(self, device: str) -> None:
        self.peak, self.peak_reserved = self.allocated, self.memory_reserved()

    def memory_allocated(self, device: str) -> int:
        return self.allocated

    def memory_reserved(self, device: str | None = None) -> int:
        return self.allocated + self.cached

    def max_memory_allocated(self, device: str) -> int:
        return self.peak

    def max_memory_reserved(self, device: str) -> int:
        return self.peak_reserved


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    monkeypatch.setattr("bench.measurement.meter._torch_cuda", lambda: cuda)
    return cuda


def test_phase_on_cuda_keeps_device_and_host_apart(fake_cuda: FakeCuda) -> None:
    fake_cuda.hold(300)
    meter = Meter("cuda")
    with meter.phase("fit"):
        fake_cuda.hold(500)
        fake_cuda.hold(-400)
    fit = meter.phases["fit"]
    assert (fit.start_mib, fit.peak_mib, fit.reserved_mib) == (300, 800, 800)
    assert fit.host_peak_mib is not None
    assert 20 < fit.host_peak_mib == pytest.approx(resident_mib(), rel=0.2)
    assert (meter.memory_source, meter.host_memory_source) == ("cuda-allocator", Meter().memory_source)


def test_phase_on_cpu_has_no_second_host_peak() -> None:
    meter = Meter()
    with meter.phase("fit"):
        pass
    assert meter.phases["fit"].host_peak_mib is None
    assert meter.host_memory_source is None
    assert meter.context_mib is None


def test_phase_on_cuda_reserved_excludes_cache_of_earlier_phase(fake_cuda: FakeCuda) -> None:
    meter = Meter("cuda")
    with meter.phase("fit"):
        fake_cuda.hold(900)
        fake_cuda.hold(-900)
    with meter.phase("predict"):
        fake_cuda.hold(50)
    assert meter.phases["fit"].reserved_mib == 900
    assert meter.phases["predict"].reserved_mib == 50


def test_meter_on_cuda_imports_were_measured_on_the_host(fake_cuda: FakeCuda) -> None:
    earlier = Meter()
    with earlier.phase("import", since_process_start=True):
        pass
    meter = Meter("cuda")
    meter.add_host_phase("import", earlier.phases["import"])
    phase = meter.phases["import"]
    assert (phase.peak_mib, phase.start_mib, phase.energy_j) == (None, None, None)
    assert phase.host_peak_mib == earlier.phases["import"].peak_mib
    same_device = Meter()
    same_device.add_host_phase("import", earlier.phases["import"])
    assert same_device.phases == earlier.phases


def test_exclude_from_peak_leaves_out_what_the_body_freed(fake_cuda: FakeCuda) -> None:
    meter = Meter("cuda")
    with meter.phase("fit"):
        fake_cuda.hold(200)
        fake_cuda.hold(-100)
        with exclude_from_peak():
            fake_cuda.hold(4000)
            fake_cuda.hold(-4000)
        fake_cuda.hold(50)
    assert (meter.phases["fit"].peak_mib, meter.phases["fit"].reserved_mib) == (200, 200)


def test_exclude_from_peak_counts_what_the_body_kept(fake_cuda: FakeCuda) -> None:
    meter = Meter("cuda")
    with meter.phase("fit"), exclude_from_peak():
        fake_cuda.hold(300)
    assert meter.phases["fit"].peak_mib == 300


def test_exclude_from_peak_body_that_raises_counts(fake_cuda: FakeCuda) -> None:
    meter = Meter("cuda")
    with pytest.raises(MemoryError), meter.phase("fit"), exclude_from_peak():
        fake_cuda.hold(4000)
        raise MemoryError
    assert meter.phases["fit"].peak_mib == 4000


def test_exclude_from_peak_outside_of_phases_does_nothing() -> None:
    with exclude_from_peak():
        pass


@pytest.mark.parametrize("source", ["VmHWM", "psutil-sampling"])
def test_exclude_from_peak_works_for_host_memory(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if source == "psutil-sampling":
        monkeypatch.setattr("bench.measurement.meter._CLEAR_REFS_FILE", tmp_path / "absent" / "clear_refs")
    meter = Meter()
    if meter.memory_source != source:
        pytest.skip("the high-water mark in /proc cannot be read here")
    with meter.phase("fit"), exclude_from_peak():
        held = b"x" * (200 << 20)
        time.sleep(0.05)
        del held
    assert added_mib(meter.phases["fit"].model_dump()) < 100


@pytest.mark.parametrize("others", [0, 3000])
def test_context_on_cuda_is_what_nvml_sees_beside_the_allocator(
    others: int, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = 0

    def create_context(device: str) -> None:
        nonlocal context
        context = 450
        fake_cuda.hold(8)

    def used_bytes() -> int:
        return (others + context) * 2**20 + fake_cuda.memory_reserved()

    monkeypatch.setattr("bench.measurement.meter._multiply_small_matrices", create_context)
    monkeypatch.setattr("bench.measurement.nvml.used_bytes_reader", lambda device: used_bytes)
    assert Meter("cuda").context_mib == 450


@pytest.mark.parametrize("taken_mib", [-1000, 5000])
def test_context_on_cuda_beside_changing_programs_is_not_measured(
    taken_mib: int, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([8000 * 2**20, (8000 + taken_mib) * 2**20])
    monkeypatch.setattr("bench.measurement.meter._multiply_small_matrices", lambda device: fake_cuda.hold(8))
    monkeypatch.setattr("bench.measurement.nvml.used_bytes_reader", lambda device: lambda: next(readings))
    assert Meter("cuda").context_mib is None


def test_context_on_cuda_without_nvml_is_not_measured(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter("cuda").context_mib is None
    assert fake_cuda.calls == []


@LINUX
def test_phase_since_process_start_counts_from_process_start() -> None:
    start_time = time.monotonic()
    phases = run_metered(
        """
        import time
        time.sleep(0.5)
        with meter.phase("import", since_process_start=True):
            pass
        """
    )
    assert 0.5 <= phases["import"]["wall_s"] <= time.monotonic() - start_time


def test_measure_latency_times_single_queries_and_fewer_if_slow() -> None:
    calls: list[list[str]] = []

    def predict(questions: list[str]) -> list[str]:
        calls.append(questions)
        return [question.upper() for question in questions]

    questions = [f"question {number}" for number in range(2 * MAX_TIMED_QUERIES)]
    answers, milliseconds = measure_latency(predict, questions)
    assert answers == [question.upper() for question in questions[:MAX_TIMED_QUERIES]]
    assert len(milliseconds) == MAX_TIMED_QUERIES
    assert calls == [questions[:1], *([question] for question in questions[:MAX_TIMED_QUERIES])]
    answers, milliseconds = measure_latency(predict, questions, seconds=0)
    assert len(answers) == len(milliseconds) == MIN_TIMED_QUERIES
    assert measure_latency(predict, []) == ([], ())


def fail(*_: object, **__: object) -> float:
    raise RuntimeError("CUDA error: device-side assert triggered")


def test_phase_broken_instruments_keep_the_error_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "energy_counter", lambda *args, **kwargs: iter([1.0]).__next__)
    meter = Meter()
    with pytest.raises(ZeroDivisionError), meter.phase("fit"):
        monkeypatch.setattr("bench.measurement.meter.process_memory", fail)
        1 / 0  # noqa: B018
    phase = meter.phases["fit"]
    assert (phase.peak_mib, phase.energy_j) == (None, None)
    assert meter.energy_unmeasured is not None and "StopIteration" in meter.energy_unmeasured


def test_phase_energy_is_difference_of_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "energy_counter", lambda *args, **kwargs: iter([1.0, 3.5]).__next__)
    meter = Meter()
    with meter.phase("fit"):
        pass
    assert meter.phases["fit"].energy_j == 2.5
    assert meter.energy_unmeasured is None
