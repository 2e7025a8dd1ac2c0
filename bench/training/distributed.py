"""Several processes that train one run together: which of them this is, and what they agree on.

Where there is one process all of this is nothing: it is the first, decides alone and waits for nobody.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from bench.measurement import environment

JOIN_TIMEOUT = timedelta(days=7)  # the others wait while the first measures; the launcher ends what takes too long
FLOAT = 4  # bytes

Told = TypeVar("Told")


def local_rank(processes: int) -> int | None:
    """The number of this process on its machine, where a run has so many; None where it is alone.

    Raises `RuntimeError` where accelerate started another number of them.
    """
    if processes == 1:
        return None
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != processes:
        raise RuntimeError(f"accelerate started {started} processes where {processes} were to train together")
    return int(os.environ["LOCAL_RANK"])


def join_group(processes: int, device: str) -> None:
    """Meet the other processes of the run: tensors go from GPU to GPU by NCCL, all else by Gloo."""
    if processes == 1:
        return
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if device.partition(":")[0] == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=JOIN_TIMEOUT)


def world_size() -> int:
    """Processes that train together now."""
    group = _group()
    return int(group.get_world_size()) if group else 1


def rank() -> int:
    """Which of them this is, from 0."""
    group = _group()
    return int(group.get_rank()) if group else 0


def broadcast_from_first(make: Callable[[], Told]) -> Told:
    """What the first process makes; the others make nothing and are told."""
    group = _group()
    if group is None:
        return make()
    import torch

    said: list[Any] = [make() if rank() == 0 else None]
    group.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    return said[0]  # type: ignore[no-any-return]


def all_reduce_min(amount: int) -> int:
    """The smallest of what the processes name."""
    return int(min(_gathered(amount)))


def barrier() -> None:
    """Wait until all are here."""
    _gathered(0)


def leave_group() -> float:
    """Part for good, once all are here; the processor seconds that the others have used by now.

    This process then has the cores of all.
    """
    if _group() is None:
        return 0.0
    import torch

    spent = _gathered(time.process_time())
    del spent[rank()]
    torch.distributed.destroy_process_group()
    torch.set_num_threads(int(os.environ.get(environment.RUN_THREADS_VARIABLE) or torch.get_num_threads()))
    return sum(spent)


def gradient_bucket_bytes(model: Any) -> int:
    """Bytes that each process holds to add up gradients with the others: a second copy of its own."""
    return FLOAT * sum(weight.numel() for weight in model.parameters() if weight.requires_grad) if _group() else 0


def _gathered(mine: float) -> list[float]:
    """What each process names, in their order."""
    group = _group()
    if group is None:
        return [mine]
    import torch

    # In a tensor of the CPU: objects would be gathered by way of the GPUs.
    named = [torch.zeros(1, dtype=torch.float64) for _ in range(world_size())]
    group.all_gather(named, torch.tensor([mine], dtype=torch.float64))
    return [float(amount) for amount in named]


def _group() -> Any:
    """Torch's module for processes that work together, where they do."""
    torch = sys.modules.get("torch")
    found = torch.distributed if torch else None
    return found if found and found.is_available() and found.is_initialized() else None
