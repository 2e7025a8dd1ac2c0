"""Hard limit on the memory of a run; exceeding it raises an error instead of swapping."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.errors import UserError
from bench.measurement.environment import process_memory
from bench.measurement.meter import MIB

NO_LIMIT_HINT = "remove 'memory' from --budget"

Row = TypeVar("Row")
Result = TypeVar("Result")


def set_memory_limit(limit_bytes: int, device: str) -> None:
    """Limit the memory of this process.

    On CUDA, torch's allocator is limited; elsewhere the resident memory of the process. Linux can limit the memory that
    a process maps for writing, but not its resident memory. So the limit is set to what is mapped now plus what may
    still become resident.

    Args:
        limit_bytes: Bytes that this process may hold.
        device: Torch device name.

    Raises:
        MemoryError: If this process already holds that much.
        UserError: If memory cannot be limited on this machine.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        total_bytes = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit_bytes / total_bytes, 1.0))  # torch refuses an int
        return
    if sys.platform != "linux":
        raise UserError("a memory budget needs Linux or a CUDA device", hint=NO_LIMIT_HINT)
    import resource

    try:
        mapped, resident = process_memory("VmData"), process_memory("VmRSS")
    except LookupError as error:
        raise UserError(f"{error.args[0]}, so memory cannot be limited", hint=NO_LIMIT_HINT) from None
    if resident >= limit_bytes:
        raise MemoryError(
            f"{resident / MIB:.0f} MiB are in use before a model is loaded; the limit is {limit_bytes / MIB:.0f} MiB"
        )
    mapped_limit = mapped + limit_bytes - resident
    resource.setrlimit(resource.RLIMIT_DATA, (mapped_limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def lift_memory_limit() -> None:
    """Remove the limit from this process, so that a failure can be recorded."""
    if sys.platform == "linux":
        import resource

        hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard_limit, hard_limit))


def can_recover_from_oom(device: str) -> bool:
    """Tell if running out of memory raises an error, so that a smaller batch can be tried."""
    if device.partition(":")[0] == "cuda":
        return True
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def is_out_of_memory(error: BaseException) -> bool:
    """Tell if an error of Python, NumPy or torch (CPU or CUDA) says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    phrases = ("can't allocate memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


def describe_allocation(error: BaseException) -> str:
    """Describe the memory in use and the allocation that failed, as far as they are known."""
    requested = re.search(r"tried to allocate ([\d.]+) ?(bytes|[KMG]iB)", str(error), re.IGNORECASE)
    in_use = f"{process_memory('VmRSS') / MIB:.0f} MiB in use" if sys.platform == "linux" else ""
    if requested is None:
        return in_use
    amount, unit = requested[1], requested[2]
    size = f"{float(amount) / MIB:.0f} MiB" if unit == "bytes" else f"{amount} {unit}"
    return f"{in_use}, {size} more requested" if in_use else f"{size} more requested"


def run_halving_on_oom(work: Callable[[Sequence[Row]], Sequence[Result]], rows: Sequence[Row]) -> list[Result]:
    """Return the result of `work` for each row, halving the batch whenever memory runs out."""
    try:
        return list(work(rows))
    except Exception as error:
        if len(rows) < 2 or not is_out_of_memory(error):
            raise
    # The retry is outside of `except`, because the traceback keeps the tensors of the failed attempt alive.
    middle = len(rows) // 2
    return run_halving_on_oom(work, rows[:middle]) + run_halving_on_oom(work, rows[middle:])
