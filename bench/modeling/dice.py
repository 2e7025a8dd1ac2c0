"""Drawing tokens so that a sample is the same in any batch."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from transformers import LogitsProcessor


class GumbelSampler(LogitsProcessor):
    """Turns the likeliest token into a drawn one by Gumbel noise (https://arxiv.org/abs/1411.0030).

    The noise follows from the tokens so far and the number of the draw, so a sample is the same in any batch.
    """

    def __init__(self, temperature: float, sample_index: int, filler: int) -> None:
        self.temperature, self.draw, self.filler = temperature, sample_index, filler

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) with noise."""
        noise = torch.stack([self._noise(row, scores.shape[1]) for row in input_ids.cpu()])
        return scores / self.temperature + noise.to(scores)

    def _noise(self, row: Any, size: int) -> Any:
        seed = zlib.crc32(row[row != self.filler].numpy().tobytes(), self.draw)
        return -torch.rand(size, generator=torch.Generator().manual_seed(seed)).log().neg().log()
