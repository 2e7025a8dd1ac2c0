"""Size of a micro-batch: as many rows as fit into memory at once.

The rows of an optimizer step stay the same.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from bench.measurement import determinism, memory_limit
from bench.method import LM
from bench.training import distributed, optimizer
from bench.training.optimizer import OptimizerName

RESERVE_BYTES = 64 * 2**20
"""Bytes kept free for memory that the dry run does not see: libraries loaded later, and fragmentation."""

ESTIMATE_FACTOR = 1.5
"""Factor by which free memory must exceed the estimate of training for no step to be tried. Measured peaks were up to
1.17 times the estimate."""

RowGroup = Sequence[tuple[list[int], list[int]]]
"""Token ids (prompt, completion) of the rows that must go through the model together."""


def leaves_room(lm: LM, estimated_bytes: int) -> bool:
    """Tell if there is so much free memory that no step needs to be tried.

    Several ranks always try: one that ran out of memory later would leave the others waiting.

    Args:
        lm: Model to train.
        estimated_bytes: Memory that training adds, by the estimate.
    """
    device = lm.model.device
    free_bytes = memory_limit.free_bytes(str(device))
    if free_bytes is None or distributed.world_size() > 1:
        return False
    weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
    needed_bytes = estimated_bytes + optimizer.temporary_bytes(weights, device.type)
    return ESTIMATE_FACTOR * needed_bytes + RESERVE_BYTES <= free_bytes


def shortest_row(groups: Sequence[RowGroup]) -> tuple[list[int], list[int]]:
    """Return the row with the fewest tokens."""
    return min((row for group in groups for row in group), key=lambda row: len(row[0]) + len(row[1]))


def find_micro_batch(
    lm: LM,
    groups: Sequence[RowGroup],
    max_groups: int,
    optimizer_name: OptimizerName = "adamw",
    *,
    must_fit: bool = True,
) -> int:
    """Return the largest divisor of `max_groups` for which the longest groups fit into memory.

    Each size is tried with a dry run of one step.

    Args:
        lm: Model to train.
        groups: Groups of rows in the training data.
        max_groups: Groups of one optimizer step on this rank.
        optimizer_name: Optimizer, whose state takes memory too.
        must_fit: Raise an error if not even one group fits; or else return 0.

    Raises:
        MemoryError: If not even one group fits on this rank; torch raises its own types of errors.
    """
    longest_groups = sorted(
        groups, key=lambda group: sum(len(prompt) + len(completion) for prompt, completion in group), reverse=True
    )
    for size in (size for size in range(max_groups, 0, -1) if max_groups % size == 0):
        try:
            _dry_run_step(lm, [row for group in longest_groups[:size] for row in group], optimizer_name)
            return size
        except Exception as error:
            if (size == 1 and must_fit) or not memory_limit.is_out_of_memory(error):
                raise
        finally:
            lm.model.zero_grad(set_to_none=True)
            lm.model.eval()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return 0


def _dry_run_step(lm: LM, rows: RowGroup, optimizer_name: OptimizerName) -> None:
    """Hold the memory of a training step, the optimizer's included, without changing weights."""
    device = lm.model.device
    weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
    sizes = optimizer.state_bytes_by_weight(lm.model, optimizer_name)
    if distributed.world_size() > 1:
        # The buckets that add up gradients over ranks.
        sizes += [weight.numel() * torch.float32.itemsize for weight in weights]
    held = [torch.zeros(size, dtype=torch.uint8, device=device) for size in sizes]
    reserve = torch.empty(RESERVE_BYTES, dtype=torch.uint8, device=device)
    lm.model.train()
    cuda_devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda_devices):  # dropout must not advance the random state of the run
        determinism.run_strictly(lambda: lm.loss(rows).backward(), lambda: lm.model.zero_grad(set_to_none=True))
    # The optimizer steps after the backward pass has freed the activations.
    temporaries = torch.empty(optimizer.temporary_bytes(weights, device.type), dtype=torch.uint8, device=device)
    del held, reserve, temporaries
