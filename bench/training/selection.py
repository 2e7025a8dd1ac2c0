"""Selection of the weights to keep: of the last step, or of the lowest validation loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from bench.measurement.meter import MIB
from bench.records import Keep, KeptWeights
from bench.training import distributed

MIN_CANDIDATES = 3
"""Points of the curve after training has begun, the last one included, that are enough to choose one of them."""
TOO_FEW_POINTS = "the training curve has too few points to choose from"


class WeightSelection:
    """Validation losses so far, and a copy on disk of the weights at the lowest of them.

    Several ranks hold the same weights. The first one sees the losses and has the copy, and all restore its weights.

    Args:
        weights: Trained weights, in float32.
        folder: Empty folder for the copy.
        keep: `best` to keep the weights of the lowest validation loss.
        patience: Points without a lower loss after which training should stop; 0 for never.
    """

    def __init__(self, weights: Sequence[Any], folder: Path, *, keep: Keep = "last", patience: int = 0) -> None:
        self.weights, self.keep, self.patience = weights, keep, patience
        self.best_step, self.best_loss = 0, math.inf
        self._last_step, self._last_loss = 0, math.inf
        self._candidates = self._points_without_gain = 0
        self._file, self._copied_bytes = folder / "best.bin", 0

    @property
    def decides(self) -> bool:
        """True if the losses change what training gives, so that measuring them is a part of it."""
        return self.keep == "best" or self.patience > 0

    @property
    def should_stop(self) -> bool:
        """True if `patience` points in a row had no lower loss than the best one before."""
        return 0 < self.patience <= self._points_without_gain

    def add_point(self, step: int, loss: float, *, is_last: bool = False) -> None:
        """Add a point of the curve; copy the weights if they may have to be restored.

        Args:
            step: Optimizer steps done.
            loss: Validation loss.
            is_last: True if training ends with this point.
        """
        self._last_step, self._last_loss = step, loss
        self._candidates += step > 0
        if loss > self.best_loss:
            self._points_without_gain += 1
            return
        self.best_step, self.best_loss = step, loss
        self._points_without_gain = 0
        if self.keep == "best" and not is_last:
            self._write_copy()

    def finish(self, step: int) -> KeptWeights:
        """Restore the weights to keep, after the last step; return which they are.

        Args:
            step: Optimizer steps done.
        """
        can_choose = self.keep == "best" and (self._candidates >= MIN_CANDIDATES or self.should_stop)
        restores = distributed.broadcast_from_first(lambda: can_choose and self.best_step != step)
        if restores:
            self._restore_copy()
        loss = self.best_loss if restores else self._last_loss if self._last_step == step else math.inf
        return KeptWeights(
            keep=self.keep,
            step=self.best_step if restores else step,
            validation_loss=round(loss, 6) if math.isfinite(loss) else None,
            not_chosen=TOO_FEW_POINTS if self.keep == "best" and not can_choose else None,
            copied_mib=round(self._copied_bytes / MIB, 3) if self._copied_bytes else None,
        )

    def _write_copy(self) -> None:
        """Write the weights one after the other, so that memory holds no copy of all of them."""
        with self._file.open("wb") as file:
            for weight in self.weights:
                weight.detach().cpu().numpy().tofile(file)
            self._copied_bytes = file.tell()

    def _restore_copy(self) -> None:
        """Give all weights their values at the lowest loss."""
        file = self._file.open("rb") if distributed.rank() == 0 else None
        for weight in self.weights:
            if file is not None:
                values = numpy.fromfile(file, numpy.float32, weight.numel())
                weight.data.copy_(torch.from_numpy(values).view(weight.shape))
            distributed.broadcast_tensor(weight.data)
        if file is not None:
            file.close()
