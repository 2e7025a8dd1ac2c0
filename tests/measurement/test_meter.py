"""The meter of time and memory. Every case runs in a process of its own: memory has no other clean slate."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from bench.measurement.meter import Meter

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(Meter().instrument != "VmHWM", reason="the high-water mark of /proc is not readable here")

REPORT = """
import json
print(json.dumps({name: phase.model_dump() for name, phase in meter.phases.items()}))
"""


def metered(body: str, launcher: str | None = None) -> dict[str, dict[str, Any]]:
    """Run `body` in a fresh interpreter, where `meter` is a Meter, and return its phases."""
    script = (
        f"import time\nfrom bench.measurement.meter import Meter\nmeter = Meter()\n{textwrap.dedent(body)}\n{REPORT}"
    )
    command = [sys.executable, "-c", script] if launcher is None else [sys.executable, "-c", launcher, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    phases: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return phases


def grown(phase: dict[str, Any]) -> float:
    return float(phase["peak_mib"] - phase["start_mib"])


@LINUX
def test_a_phase_reads_the_memory_it_touched() -> None:
    phases = metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
        """
    )
    assert grown(phases["fit"]) == pytest.approx(200, abs=8)
    assert phases["fit"]["reserved_mib"] is None


@LINUX
def test_a_peak_is_read_though_it_was_freed_before_the_end() -> None:
    phases = metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
            del held
        """
    )
    assert grown(phases["fit"]) == pytest.approx(200, abs=8)


@LINUX
def test_a_later_phase_does_not_inherit_an_earlier_peak() -> None:
    phases = metered(
        """
        with meter.phase("fit"):
            held = b"x" * (200 << 20)
            del held
        with meter.phase("predict"):
            held = b"x" * (20 << 20)
        """
    )
    assert grown(phases["predict"]) == pytest.approx(20, abs=8)


@LINUX
def test_heap_freed_before_a_phase_does_not_hide_what_the_phase_takes() -> None:
    phases = metered(
        """
        with meter.phase("fit"):
            held = [b"x" * 64_000 for _ in range(3200)]
            pin = b"y" * 64_000
            del held
        with meter.phase("predict"):
            held = [b"x" * 64_000 for _ in range(1600)]
        """
    )
    assert grown(phases["predict"]) == pytest.approx(1600 * 64_000 / 2**20, abs=8)


@LINUX
def test_memory_of_a_fat_parent_is_not_inherited() -> None:
    launcher = """if True:
        import subprocess, sys
        fat = b"x" * (300 << 20)
        sys.exit(subprocess.call([sys.executable, "-c", sys.argv[1]]))
    """
    phases = metered(
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


def test_seconds_are_those_of_the_wall_and_of_the_processor() -> None:
    phases = metered(
        """
        with meter.phase("idle"):
            time.sleep(0.3)
        with meter.phase("busy"):
            begun = time.process_time()
            while time.process_time() - begun < 0.3:
                pass
        """
    )
    assert 0.3 <= phases["idle"]["wall_s"] < 5
    assert phases["idle"]["cpu_s"] < 0.2
    assert 0.3 <= phases["busy"]["cpu_s"] < 0.6
    assert phases["busy"]["wall_s"] >= 0.29


def test_a_phase_since_process_start_holds_what_ran_before_the_meter() -> None:
    phases = metered(
        """
        time.sleep(0.3)
        with meter.phase("import", since_process_start=True):
            total = time.process_time()
        """
    )
    assert 0.3 <= phases["import"]["wall_s"] < 20
    assert phases["import"]["cpu_s"] > 0.03
    assert phases["import"]["start_mib"] is None
    assert phases["import"]["peak_mib"] > 1


def test_a_phase_that_raises_is_recorded_and_the_exception_passes_on() -> None:
    meter = Meter()
    with pytest.raises(KeyError, match="lost"), meter.phase("fit"):
        raise KeyError("lost")
    assert meter.phases["fit"].wall_s >= 0
    with meter.phase("predict"):
        pass
    assert list(meter.phases) == ["fit", "predict"]


def test_a_phase_within_a_phase_is_refused() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError, match="'load' cannot begin within phase 'fit'"), meter.phase("fit"):  # noqa: SIM117
        with meter.phase("load"):
            pass
    assert list(meter.phases) == ["fit"]


def test_a_name_metered_twice_is_refused() -> None:
    meter = Meter()
    with meter.phase("fit"):
        pass
    with pytest.raises(RuntimeError, match="'fit' has been metered already"), meter.phase("fit"):
        pass


def test_where_the_kernel_keeps_no_mark_memory_is_sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.measurement.meter._CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    meter = Meter()
    with meter.phase("import", since_process_start=True):
        pass
    with meter.phase("fit"):
        pass
    assert meter.instrument == "psutil-sampling"
    assert meter.phases["import"].start_mib is None
    start, peak = meter.phases["fit"].start_mib, meter.phases["fit"].peak_mib
    assert start is not None
    assert peak is not None
    assert 0 < start <= peak


def test_metering_a_cpu_imports_no_torch() -> None:
    phases = metered(
        """
        import sys
        with meter.phase("fit"):
            pass
        assert "torch" not in sys.modules
        """
    )
    assert list(phases) == ["fit"]


@pytest.mark.gpu
def test_cuda_phases_read_the_allocator_and_start_afresh() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    meter = Meter("cuda")
    with meter.phase("fit"):
        held = torch.ones(50 << 20, dtype=torch.float32, device="cuda")
        del held
    with meter.phase("predict"):
        torch.ones(5 << 20, dtype=torch.float32, device="cuda")
    fit, predict = meter.phases["fit"], meter.phases["predict"]
    assert meter.instrument == "cuda-allocator"
    assert (fit.peak_mib or 0) - (fit.start_mib or 0) == pytest.approx(200, abs=2)
    assert (predict.peak_mib or 0) - (predict.start_mib or 0) == pytest.approx(20, abs=2)
    assert (fit.reserved_mib or 0) >= (fit.peak_mib or 0)


@LINUX
def test_importing_counts_from_the_very_start_of_the_process() -> None:
    began = time.time()
    phases = metered(
        """
        import time
        time.sleep(0.5)
        with meter.phase("import", since_process_start=True):
            pass
        """
    )
    assert 0.5 <= phases["import"]["wall_s"] <= time.time() - began
