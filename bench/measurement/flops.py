"""Floating-point operations (FLOPs) of training, and the peak rate of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measurement.meter import synchronize

MATRIX_SIDE = 1024
REPEATS = 8


class FlopCounter:
    """Counter of the operations of the first training step.

    Those of all steps are estimated by their tokens. Matrix products and convolutions are counted, forward and
    backward. Fused attention kernels of the CPU are not.
    """

    def __init__(self) -> None:
        self.flops: int = 0
        self.tokens: int = 0

    @contextmanager
    def count_once(self, tokens: int) -> Iterator[None]:
        """Count the operations of the body, which processes `tokens` tokens, on the first call."""
        if self.tokens:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops, self.tokens = counter.get_total_flops(), tokens

    def scaled_to(self, tokens: int) -> float:
        """Return the operations of `tokens` tokens by proportion; 0 if none were counted."""
        return self.flops / self.tokens * tokens if self.tokens else 0.0


def measure_peak_flops(device: str) -> float:
    """Return the operations per second of a float32 matrix product, the best of a few."""
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device)
    best_seconds = float("inf")
    for _ in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best_seconds = min(best_seconds, time.perf_counter() - start)
    return float(2 * MATRIX_SIDE**3 / best_seconds)
