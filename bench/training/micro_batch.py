"""How many rows go through the model at once: as many as memory holds; a step stays of the size it was granted."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from bench.measurement import memory_limit
from bench.method import LM
from bench.training import distributed

RESERVE_BYTES = (
    64 * 2**20
)  # bytes kept free for what a rehearsal does not see: libraries that load late, odd ends of memory

RowGroup = Sequence[tuple[list[int], list[int]]]
"""Token ids (read, learnt) of the rows that have to go through the model together."""


def find_micro_batch(lm: LM, groups: Sequence[RowGroup], batch: int) -> int:
    """The largest divisor of `batch` for which the longest groups can be learnt from in the memory at hand.

    Nothing is tried where memory cannot run out; if not even one group fits, the error of that is raised.
    """
    if not memory_limit.can_recover_from_oom(str(lm.model.device)):
        return batch
    longest = sorted(groups, key=lambda group: sum(len(head) + len(tail) for head, tail in group), reverse=True)
    for size in (size for size in range(batch, 0, -1) if batch % size == 0):
        try:
            _rehearse(lm, [row for group in longest[:size] for row in group])
            return size
        except Exception as error:
            if size == 1 or not memory_limit.is_out_of_memory(error):
                raise
        finally:
            lm.model.zero_grad(set_to_none=True)
            lm.model.eval()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    raise AssertionError("1 divides every batch")


def _rehearse(lm: LM, rows: RowGroup) -> None:
    """A step on these rows in full: states, gradients and what AdamW will hold, but nothing is changed."""
    weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
    copies = 2 + (distributed.world_size() > 1)  # the moments of AdamW, and what adds up gradients over processes
    moments = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights for _ in range(copies)]
    reserve = torch.empty(RESERVE_BYTES, dtype=torch.uint8, device=lm.model.device)
    lm.model.train()
    devices = [lm.model.device] if lm.model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout must not move the dice of the run
        lm.loss(rows).backward()
    del moments, reserve
