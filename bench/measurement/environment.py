"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil

import bench
from bench.records.record import Env

ALL_THREADS = "ADAPTBENCH_THREADS"  # says how many the processes of a run have together
STACK = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate", "tokenizers", "scikit-learn")
_STATUS = Path("/proc/self/status")


class BackgroundLoad:
    """Watches, from when it is made, how busy other processes keep the machine."""

    def __init__(self) -> None:
        self.began, self.busy, self.own = time.monotonic(), _busy_seconds(), time.process_time()

    def background_cores(self) -> float:
        """Cores that other processes kept busy up to now, on average."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        own = time.process_time() - self.own
        return max(0.0, _busy_seconds() - self.busy - own) / elapsed


def describe_environment(
    started: str,
    method_sha256: str,
    device: str,
    others_cores: float,
    matmul: float | None = None,
    processes: int = 1,
) -> Env:
    """The machine, the packages and the code behind a run; torch is asked only if the run has imported it."""
    torch = sys.modules.get("torch")
    return Env(
        started=started,
        adaptbench=bench.__version__,
        revision=_revision(),
        method_sha256=method_sha256,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=available_cores(),
        threads=torch.get_num_threads() if torch else None,
        memory_mib=psutil.virtual_memory().total // 2**20,
        device=torch.cuda.get_device_name(device) if torch and device.startswith("cuda") else device,
        processes=processes,
        matmul_flops_per_s=matmul,
        background_cores=round(others_cores, 2),
        packages=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """The versions of the libraries that decide what a run does."""
    return {name: version for name in STACK if (version := _version(name))}


def available_cores() -> int:
    """Cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that processes may still take on this machine, or in this container."""
    free = psutil.virtual_memory().available
    try:
        most, held = (Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
        return min(free, int(most) - int(held)) if most != "max" else free
    except (OSError, ValueError):
        return free


def process_memory(field: str) -> int:
    """Bytes in a field of /proc/self/status such as `VmRSS`; raises LookupError where there is none (Linux has it)."""
    for line in _STATUS.read_text("ascii", "replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024  # the file says kB and means KiB
    raise LookupError(f"{_STATUS} has no {field}")


def threads() -> int:
    """Threads that a run computes with: one for each core, or fewer where OMP_NUM_THREADS says so."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(available_cores(), int(said)) if said.isdecimal() and int(said) else available_cores()


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _revision() -> str | None:
    """Git revision of the harness where it runs from a checkout, '+dirty' if tracked files differ from it."""
    root = Path(bench.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(["git", "-C", root, *ask], capture_output=True, text=True, check=True).stdout.strip()
            for ask in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+dirty" if changes else "")
