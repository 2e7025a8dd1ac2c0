"""Hard limit on the memory of a run; exceeding it raises an error instead of swapping."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from bench.errors import UserError
from bench.i18n import Message
from bench.measurement.environment import process_memory
from bench.measurement.meter import MIB

NO_LIMIT_HINT = Message("remove 'memory' from --budget")
DEVICE_PHRASES = (
    r"\b((?i:cuda|hip)\w*|MPS|XPU|NCCL|Triton Error)\b[^\n]*\bout of memory\b",
    r"\bFailed to CUDA (host )?[cm]alloc\b",  # NCCL
    r"\b(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT|HIPBLAS|HIPSOLVER|HIPSPARSE|MIOPEN)_(STATUS_)?ALLOC(ATION)?_FAILED\b",
    r"\bCUDNN_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED\b",
    r"\bCURAND_STATUS_ALLOCATION_FAILED\b",
    r"\brocblas_status_memory_error\b",
    r"\b(cudaErrorMemoryAllocation|hipErrorOutOfMemory|CUDA_ERROR_OUT_OF_MEMORY|NVRTC_ERROR_OUT_OF_MEMORY)\b",
    r"^Error out of memory at line \d+ in file",  # bitsandbytes prints this and ends the process
)
"""Words by which libraries say that memory of the device ran out, as regular expressions."""
HOST_PHRASES = (
    r"can't allocate memory",
    r"\bDefaultCPUAllocator: not enough memory\b",
    r"\b[Cc]annot allocate memory\b(?! in static TLS block)",  # the loader of libraries means another memory
    r"\bbad_alloc\b",
    r"\bmemory allocation of \d+ bytes failed\b",  # Rust prints this and ends the process
)
"""Words by which libraries say that memory of the machine ran out, as regular expressions."""
CODE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""Errors of code and values, whose messages may quote any text."""

Row = TypeVar("Row")
Result = TypeVar("Result")


def set_memory_limit(limit_bytes: int, device: str, context_bytes: int = 0) -> None:
    """Limit the memory of this process.

    On CUDA, torch's allocator is limited to what the CUDA context leaves; elsewhere the resident memory of the process
    is limited. Linux can limit the memory that a process maps for writing, but not its resident memory. So the limit is
    set to what is mapped now plus what may still become resident.

    Args:
        limit_bytes: Bytes that this process may hold.
        device: Torch device name.
        context_bytes: Bytes that the CUDA context takes on the device; 0 if not measured.

    Raises:
        MemoryError: If this process already holds that much.
        UserError: If memory cannot be limited on this machine.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        if context_bytes >= limit_bytes:
            raise MemoryError(
                f"the CUDA context takes {context_bytes / MIB:.0f} MiB; the limit is {limit_bytes / MIB:.0f} MiB"
            )
        total_bytes = torch.cuda.get_device_properties(device).total_memory
        fraction = min((limit_bytes - context_bytes) / total_bytes, 1.0)  # torch refuses an int
        torch.cuda.set_per_process_memory_fraction(fraction)
        return
    if sys.platform != "linux":
        raise UserError(Message("a memory budget needs Linux or a CUDA device"), hint=NO_LIMIT_HINT)
    import resource

    try:
        mapped, resident = process_memory("VmData"), process_memory("VmRSS")
    except LookupError as error:
        raise UserError(
            Message("{problem}, so memory cannot be limited", problem=error.args[0]), hint=NO_LIMIT_HINT
        ) from None
    if resident >= limit_bytes:
        raise MemoryError(
            f"{resident / MIB:.0f} MiB are in use before a model is loaded; the limit is {limit_bytes / MIB:.0f} MiB"
        )
    mapped_limit = mapped + limit_bytes - resident
    resource.setrlimit(resource.RLIMIT_DATA, (mapped_limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def lift_memory_limit() -> None:
    """Remove the limit from this process, so that a failure can be recorded."""
    if (cuda := _initialized_cuda()) is not None:
        with suppress(Exception):  # a device that an error has broken raises again
            cuda.set_per_process_memory_fraction(1.0)
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


def free_bytes(device: str) -> int | None:
    """Return the bytes that this process may still take before memory runs out with an error.

    Args:
        device: Torch device name.

    Returns:
        On CUDA the free memory within the limit; on Linux with a limit what may still be mapped. None if memory is not
        limited or cannot be read.
    """
    if device.partition(":")[0] == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        allowed = round(torch.cuda.get_per_process_memory_fraction(device) * total) - allocated
        return min(free + reserved - allocated, allowed)
    if not can_recover_from_oom(device):
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    try:
        return None if limit == resource.RLIM_INFINITY else limit - process_memory("VmData")
    except LookupError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell if an error, or the error that it was raised from, says that memory ran out.

    Memory may be that of the machine or of a device; the error may be of Python, NumPy, torch or a library of CUDA.
    """
    return any(
        isinstance(cause, MemoryError)
        or type(cause).__name__ == "OutOfMemoryError"
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (not isinstance(cause, CODE_ERRORS) and says_out_of_memory(str(cause)))
        for cause in _causes(error)
    )


def says_out_of_memory(text: str) -> bool:
    """Tell if a message or a line of a log says that memory ran out."""
    return _matches(DEVICE_PHRASES, text) or _matches(HOST_PHRASES, text)


def describe_allocation(error: BaseException) -> str:
    """Describe the memory in use and the allocation that failed, as far as they are known.

    Memory in use is that of the device if its memory ran out, or else that of this process.

    Args:
        error: An error for which `is_out_of_memory` is True.
    """
    is_device_error = any(
        type(cause).__name__ == "OutOfMemoryError" or _matches(DEVICE_PHRASES, str(cause)) for cause in _causes(error)
    )
    in_use = _device_memory_in_use() if is_device_error else _host_memory_in_use()
    text = "; ".join(map(str, _causes(error)))
    requested = re.search(
        r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGTPE]iB)|allocation of (\d+) (bytes) failed",
        text,
        re.IGNORECASE,
    )
    if requested is None:
        return in_use
    amount, unit = requested[1] or requested[3], requested[2] or requested[4]
    size = f"{float(amount) / MIB:.0f} MiB" if unit == "bytes" else f"{amount} {unit}"
    return f"{in_use}, {size} more requested" if in_use else f"{size} more requested"


def release_cached_memory() -> None:
    """Return the memory that torch's allocator on CUDA keeps for later tensors to the device.

    Libraries that allocate by themselves, such as cuBLAS, cannot use it otherwise.
    """
    if (cuda := _initialized_cuda()) is not None:
        cuda.empty_cache()


def run_halving_on_oom(work: Callable[[Sequence[Row]], Sequence[Result]], rows: Sequence[Row]) -> list[Result]:
    """Return the result of `work` for each row, halving the batch whenever memory runs out."""
    try:
        return list(work(rows))
    except Exception as error:
        if len(rows) < 2 or not is_out_of_memory(error):
            raise
    # The retry is outside of `except`, because the traceback keeps the tensors of the failed attempt alive.
    release_cached_memory()
    middle = len(rows) // 2
    return run_halving_on_oom(work, rows[:middle]) + run_halving_on_oom(work, rows[middle:])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those that it was raised from, and those of a group."""
    causes, pending = dict[int, BaseException](), [error]  # by identity, since an error may be its own cause
    while pending:
        cause = pending.pop()
        if id(cause) in causes:
            continue
        causes[id(cause)] = cause
        yield cause
        pending += cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        pending += [cause.__cause__] if cause.__cause__ is not None else []


def _matches(phrases: Sequence[str], text: str) -> bool:
    return any(re.search(phrase, text, re.MULTILINE) for phrase in phrases)


def _initialized_cuda() -> Any:
    """Return torch's CUDA module if this process uses CUDA, or else None."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _device_memory_in_use() -> str:
    """Return the memory that torch holds on the current device, in words; empty if unknown."""
    torch: Any = sys.modules.get("torch")
    try:
        if (cuda := _initialized_cuda()) is not None:
            allocated, reserved = cuda.memory_allocated(), cuda.memory_reserved()
            return f"{allocated / MIB:.0f} MiB in use on the device ({reserved / MIB:.0f} MiB reserved)"
        if torch is not None and torch.backends.mps.is_available():
            return f"{torch.mps.current_allocated_memory() / MIB:.0f} MiB in use on the device"
    except Exception:  # a device in an unknown state may raise anything, and the error above matters more
        return ""
    return _host_memory_in_use()


def _host_memory_in_use() -> str:
    """Return the resident memory of this process, in words; empty if it cannot be read."""
    try:
        return f"{process_memory('VmRSS') / MIB:.0f} MiB in use"
    except (LookupError, OSError):
        return ""
