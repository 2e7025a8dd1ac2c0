"""The order in which training rows are shown: by the seed, and beside rows of about their own length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

POOL = 4  # batches whose rows are sorted by length among themselves


class ByLength(Sampler[int]):
    """Every row once a pass; pools of rows drawn by the seed are cut into batches by length, which come in any order.

    Little is padded then, and which rows stand together in a batch is still decided anew in every pass.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The trainer says which pass begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        dice = random.Random(f"{self.seed} {self.epoch}")
        order = dice.sample(range(len(self)), len(self))
        whole = len(order) - len(order) % self.batch
        for start in range(0, whole, POOL * self.batch):
            pool = sorted(order[start : min(start + POOL * self.batch, whole)], key=self.lengths.__getitem__)
            batches = [pool[place : place + self.batch] for place in range(0, len(pool), self.batch)]
            for batch in dice.sample(batches, len(batches)):
                yield from batch
        yield from order[whole:]


class Ordered:
    """Makes a trainer show its rows in a given order."""

    def __init__(self, *args: Any, order: ByLength, **named: Any) -> None:
        self.order = order
        super().__init__(*args, **named)

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return self.order
