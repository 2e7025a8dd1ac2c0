"""Process group of a run with several ranks (torch.distributed).

With one process, every function behaves as for a group of one and does not import torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from bench.measurement import environment

# The other ranks wait in a collective while the first one measures; the launcher ends runs that take too long.
GROUP_TIMEOUT = timedelta(days=7)
FLOAT32_BYTES = 4

Value = TypeVar("Value")


def local_rank(processes: int) -> int | None:
    """Return the rank of this process on its machine; None for a run with one process.

    Args:
        processes: Number of processes that the run was planned with.

    Raises:
        RuntimeError: If accelerate started another number of processes.
    """
    if processes == 1:
        return None
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != processes:
        raise RuntimeError(f"accelerate started {started} processes, but the run was planned with {processes}")
    return int(os.environ["LOCAL_RANK"])


def join_group(processes: int, device: str) -> None:
    """Join the process group of the run: NCCL for tensors on GPUs, Gloo for everything else."""
    if processes == 1:
        return
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if device.partition(":")[0] == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=GROUP_TIMEOUT)


def world_size() -> int:
    """Return the number of processes in the group; 1 without a group."""
    group = _process_group()
    return int(group.get_world_size()) if group else 1


def rank() -> int:
    """Return the rank of this process in the group; 0 without a group."""
    group = _process_group()
    return int(group.get_rank()) if group else 0


def broadcast_from_first(compute: Callable[[], Value]) -> Value:
    """Return the result of `compute` on rank 0; other ranks do not call it."""
    group = _process_group()
    if group is None:
        return compute()
    import torch

    objects: list[Any] = [compute() if rank() == 0 else None]
    group.broadcast_object_list(objects, src=0, device=torch.device("cpu"))
    return objects[0]  # type: ignore[no-any-return]


def broadcast_tensor(tensor: Any) -> None:
    """Give a tensor the values that it has on rank 0."""
    if (group := _process_group()) is not None:
        group.broadcast(tensor, src=0)


def all_reduce_min(value: int) -> int:
    """Return the smallest value of all ranks."""
    return int(min(_all_gather(value)))


def barrier() -> None:
    """Wait until all ranks have called this."""
    _all_gather(0)


def leave_group() -> float:
    """Leave the process group once all ranks have called this.

    Afterwards this process computes with the threads of all ranks.

    Returns:
        The CPU seconds that the other ranks have used so far.
    """
    if _process_group() is None:
        return 0.0
    import torch

    cpu_seconds = _all_gather(time.process_time())
    del cpu_seconds[rank()]
    torch.distributed.destroy_process_group()
    all_threads = os.environ.get(environment.RUN_THREADS_VARIABLE)
    torch.set_num_threads(int(all_threads or torch.get_num_threads()))
    return sum(cpu_seconds)


def gradient_bucket_bytes(model: Any) -> int:
    """Return the bytes of the buckets that add up gradients over ranks: one copy of all."""
    if _process_group() is None:
        return 0
    trained = sum(int(weight.numel()) for weight in model.parameters() if weight.requires_grad)
    return FLOAT32_BYTES * trained


def _all_gather(value: float) -> list[float]:
    """Return the values of all ranks, by rank."""
    group = _process_group()
    if group is None:
        return [value]
    import torch

    # A CPU tensor, because gathering objects would go through the GPUs.
    gathered = [torch.zeros(1, dtype=torch.float64) for _ in range(world_size())]
    group.all_gather(gathered, torch.tensor([value], dtype=torch.float64))
    return [float(tensor) for tensor in gathered]


def _process_group() -> Any:
    """Return `torch.distributed` if a process group exists, else None; torch is not imported."""
    torch = sys.modules.get("torch")
    module = torch.distributed if torch else None
    return module if module and module.is_available() and module.is_initialized() else None
