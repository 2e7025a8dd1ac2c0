"""Floating-point operations: those of training, counted by torch in one pass, and the most this machine does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measurement.meter import synchronize

PEAK_SIDE = 1024
PEAK_TRIES = 8


class FlopCounter:
    """Counts the matrix products of the first pass through a model, forward and back, and scales them to all passes.

    Fused attention kernels of the CPU are not counted; all other products of matrices and convolutions are.
    """

    def __init__(self) -> None:
        self.flops: int = 0
        self.tokens: int = 0

    @contextmanager
    def count_once(self, tokens: int) -> Iterator[None]:
        """Count in the body, which works on so many tokens, if nothing has been counted before."""
        if self.tokens:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops, self.tokens = counter.get_total_flops(), tokens

    def scaled_to(self, tokens: int) -> float:
        """Operations on so many tokens."""
        return self.flops / self.tokens * tokens if self.tokens else 0.0


def measure_peak_flops(device: str) -> float:
    """Floating-point operations per second of a large float32 matrix product on `device`: the best of a few."""
    matrix = torch.rand(PEAK_SIDE, PEAK_SIDE, device=device)
    best = float("inf")
    for _ in range(PEAK_TRIES):
        synchronize(device)
        began = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return float(2 * PEAK_SIDE**3 / best)
