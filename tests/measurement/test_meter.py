"""The meter of time and memory. Most cases run in a process of their own, because peaks belong to a process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from bench.measurement import energy
from bench.measurement.meter import MAX_TIMED_QUERIES, MIN_TIMED_QUERIES, Meter, measure_latency

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
