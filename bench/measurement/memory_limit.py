"""A hard cap on memory: set once, before anything is loaded; what does not fit says so and is never swapped."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.errors import UserError
from bench.measurement.environment import process_memory

MIB = 2**20

Row = TypeVar("Row")
Result = TypeVar("Result")


def set_memory_limit(size: int, device: str) -> None:
    """Hold this process to `size` bytes from now on: resident memory on a CPU, torch's allocator on a CUDA device.

    Linux bounds what a process may map for writing, not what is resident; so it is granted what it has mapped by now
    and the room that is left. Raises `MemoryError` where nothing is left, `UserError` where a cap cannot be set.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        torch.cuda.set_per_process_memory_fraction(min(size / torch.cuda.get_device_properties(device).total_memory, 1))
        return
    if sys.platform != "linux":
        raise UserError("a memory budget needs Linux or a CUDA device", hint="leave 'memory' out of --budget")
    import resource

    try:
        mapped, resident = process_memory("VmData"), process_memory("VmRSS")
    except LookupError as error:
        raise UserError(f"{error.args[0]}, so memory cannot be capped", hint="leave 'memory' out of --budget") from None
    if resident >= size:
        raise MemoryError(f"{resident / MIB:.0f} MiB are held before a model is loaded, of {size / MIB:.0f} granted")
    most = mapped + size - resident
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def lift_memory_limit() -> None:
    """Take the cap off this process, so that what happened can be written down."""
    if sys.platform == "linux":
        import resource

        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def can_recover_from_oom(device: str) -> bool:
    """Whether memory can run out here and the process live on to do with less."""
    if device.partition(":")[0] == "cuda":
        return True
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in the words of Python, NumPy, torch's CPU and its CUDA allocator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "bad_alloc")
    )


def describe_allocation(error: BaseException) -> str:
    """What was asked for when memory ran out, and what was held, as far as either is known."""
    asked = re.search(r"tried to allocate ([\d.]+) ?(bytes|[KMG]iB)", str(error), re.IGNORECASE)
    held = f"{process_memory('VmRSS') / MIB:.0f} MiB were held" if sys.platform == "linux" else ""
    if asked is None:
        return held
    more = f"{float(asked[1]) / MIB:.0f} MiB" if asked[2] == "bytes" else f"{asked[1]} {asked[2]}"
    return f"{held} and {more} more wanted" if held else f"{more} more wanted"


def run_halving_on_oom(work: Callable[[Sequence[Row]], Sequence[Result]], rows: Sequence[Row]) -> list[Result]:
    """What `work` makes of each row; in halves where memory runs out, as often as it takes."""
    try:
        return list(work(rows))
    except Exception as error:
        if len(rows) < 2 or not is_out_of_memory(error):
            raise
    middle = len(rows) // 2  # outside of `except`, whose traceback would hold what did not fit
    return run_halving_on_oom(work, rows[:middle]) + run_halving_on_oom(work, rows[middle:])
