"""Machine, packages and code behind a run, and the background load on the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import psutil

import bench
from bench.cpu import available_cores
from bench.records import Env

RUN_THREADS_VARIABLE = "ADAPTBENCH_THREADS"
"""Environment variable with the number of threads that all ranks of a run have together."""
RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "tokenizers",
    "scikit-learn",
)
PACKAGES_OF_SOME_RUNS = ("llguidance",)
"""Recorded only if the process has imported them: the others do not depend on them."""
_STATUS_FILE = Path("/proc/self/status")


class BackgroundLoad:
    """Load of other processes on the machine, measured from the moment this object is made."""

    def __init__(self) -> None:
        self._start_time = time.monotonic()
        self._start_busy_seconds = _busy_seconds()
        self._start_own_seconds = time.process_time()

    def exclude(self, cpu_seconds: float) -> None:
        """Count CPU seconds of other processes as the run's own, such as those of its other ranks."""
        self._start_own_seconds -= cpu_seconds

    def background_cores(self) -> float:
        """Return the mean number of cores that other processes have kept busy so far."""
        elapsed = max(time.monotonic() - self._start_time, 1e-9)
        own_seconds = time.process_time() - self._start_own_seconds
        return max(0.0, _busy_seconds() - self._start_busy_seconds - own_seconds) / elapsed


def describe_environment(
    started: str,
    method_sha256: str,
    device: str,
    background_cores: float,
    matmul_rates: Mapping[str, float] | None = None,
    processes: int = 1,
) -> Env:
    """Describe the machine, the packages and the code of a run; torch is not imported.

    Args:
        started: Start time of the run, in ISO format.
        method_sha256: Digest of the method's source.
        device: Name of the GPU, or torch's name of another device.
        background_cores: Mean number of cores that other processes kept busy.
        matmul_rates: Measured operations per second of matrix products by dtype; None if not measured.
        processes: Number of ranks that trained together.
    """
    torch = sys.modules.get("torch")
    return Env(
        started=started,
        adaptbench=bench.__version__,
        revision=_git_revision(),
        method_sha256=method_sha256,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor_name(),
        cores=available_cores(),
        threads=torch.get_num_threads() if torch else None,
        memory_mib=psutil.virtual_memory().total // 2**20,
        device=device,
        processes=processes,
        matmul_flops_per_s=(matmul_rates or {}).get("float32"),
        matmul_flops_per_s_by_dtype=dict(matmul_rates) if matmul_rates else None,
        background_cores=round(background_cores, 2),
        packages=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that influence results."""
    names = (*RECORDED_PACKAGES, *(name for name in PACKAGES_OF_SOME_RUNS if name in sys.modules))
    return {name: version for name in names if (version := _package_version(name))}


def available_memory() -> int:
    """Return the bytes of memory still free on this machine, or in this container if less."""
    free = psutil.virtual_memory().available
    cgroup = Path("/sys/fs/cgroup")
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = (cgroup / "memory.current").read_text("ascii").strip()
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def process_memory(field: str) -> int:
    """Return the bytes in a field of /proc/self/status, such as `VmRSS`.

    Raises:
        LookupError: If there is no such field; only Linux has the file.
    """
    for line in _STATUS_FILE.read_text("ascii", "replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024  # the file writes kB and means KiB
    raise LookupError(f"{_STATUS_FILE} has no {field}")


def compute_threads() -> int:
    """Return the threads of a run: one per core, or OMP_NUM_THREADS if that is fewer."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return min(available_cores(), int(setting)) if setting.isdecimal() and int(setting) else available_cores()


def _busy_seconds() -> float:
    """Return the CPU seconds that all processes of the machine have used since boot."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _package_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """Return the name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git_revision() -> str | None:
    """Return the git commit of this checkout, or None outside a checkout.

    '+dirty' is appended if tracked files are changed.
    """
    root = Path(bench.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git_output(root, "rev-parse", "HEAD")
        changes = _git_output(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+dirty" if changes else "")


def _git_output(root: Path, *arguments: str) -> str:
    command: list[str | Path] = ["git", "-C", root, *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True).stdout.strip()
