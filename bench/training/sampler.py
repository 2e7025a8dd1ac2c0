"""The order in which training rows are shown: by the seed, and beside rows of about their own length.

Where several processes train together, each shows its part of every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, ClassVar

import torch
from torch.utils.data import Sampler

from bench.modeling.causal_lm import IGNORE_INDEX
from bench.training import distributed

POOL_BATCHES = 4  # batches whose rows are sorted by length among themselves
WEIGHT = "weight"  # of a batch: the factor that makes its loss a part of its step's


class LengthGroupedSampler(Sampler[int]):
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
        for start in range(0, whole, POOL_BATCHES * self.batch):
            pool = sorted(order[start : min(start + POOL_BATCHES * self.batch, whole)], key=self.lengths.__getitem__)
            batches = [pool[place : place + self.batch] for place in range(0, len(pool), self.batch)]
            for batch in dice.sample(batches, len(batches)):
                yield from batch
        yield from order[whole:]


class RankShard:
    """What one of several processes shows of every step, a batch at a time: to a trainer, its loader.

    Each step has the rows that it has with one process. They go round the processes, so that none gets all the long
    ones, and all processes show their part in as many batches. One that has no row left for a batch reads one for
    nothing, since the others wait for its gradient: its weight is 0, and none of its tokens is counted or learnt.
    """

    def __init__(
        self,
        order: LengthGroupedSampler,
        rows: Any,
        collate: Callable[[list[Any]], Any],
        *,
        at_once: int,
        by_rows: bool,
        number: int,
        of: int,
    ) -> None:
        """`at_once` rows go into a batch at the most; `by_rows` if a batch's loss is the mean over its rows, otherwise
        it is a part of its step's. This is process `number` (from 0) `of` so many.
        """
        self.order, self.rows, self.collate, self.at_once, self.by_rows = order, rows, collate, at_once, by_rows
        self.number, self.of = number, of

    def set_epoch(self, epoch: int) -> None:
        """The trainer says which pass begins."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        steps, rest = divmod(len(self.order), self.order.batch)
        return steps * self._batches(self.order.batch) + self._batches(rest)

    def __iter__(self) -> Iterator[Any]:
        for places, weight in self.parts():
            batch = self.collate([self.rows[place] for place in places or [0]])
            batch[WEIGHT] = weight
            if not places:
                batch["attention_mask"].zero_()
                if "labels" in batch:
                    batch["labels"].fill_(IGNORE_INDEX)
            yield batch

    def parts(self) -> Iterator[tuple[list[int], float]]:
        """Places and weight of each batch."""
        order = list(self.order)
        for start in range(0, len(order), self.order.batch):
            step = order[start : start + self.order.batch]
            mine, batches = step[self.number :: self.of], self._batches(len(step))
            for batch in range(batches):
                places = mine[batch::batches]
                # The trainer divides by the number of batches, and takes the mean over the processes.
                share = batches * len(places) / len(step) if self.by_rows else float(bool(places))
                yield places, self.of * share

    def _batches(self, rows: int) -> int:
        """In how many a step of so many rows is shown by each process."""
        return ceil(ceil(rows / self.of) / self.at_once)


class SamplerMixin:
    """Makes a trainer show its rows in a given order, and each of several processes its part of them."""

    by_rows: ClassVar[bool] = True
    """Whether the loss of a batch is the mean over its rows; otherwise it is a part of its step's."""

    def __init__(self, *args: Any, order: LengthGroupedSampler, **named: Any) -> None:
        self.order = order
        super().__init__(*args, **named)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        return self.order

    def get_train_dataloader(self) -> Any:
        """The trainer's own, or this process' share."""
        trainer: Any = super()
        if distributed.world_size() == 1:
            return trainer.get_train_dataloader()
        me: Any = self
        me.model_accepts_loss_kwargs &= not self.by_rows
        me.compute_loss = _weighed(me.compute_loss)
        size = me.args.per_device_train_batch_size
        of = {"number": distributed.rank(), "of": distributed.world_size()}
        return RankShard(self.order, me.train_dataset, me.data_collator, at_once=size, by_rows=self.by_rows, **of)


def _weighed(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A trainer's loss of a batch, by the batch's weight."""

    def compute_loss(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        weight = inputs.pop(WEIGHT)
        if not weight:  # read as if it counted: zero times what is not a number would be none
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
            if "labels" in inputs:
                inputs["labels"] = torch.zeros_like(inputs["labels"])
        return loss(model, inputs, *more, **named) * weight

    return compute_loss
