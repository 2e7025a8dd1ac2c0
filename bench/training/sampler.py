"""Order of training rows, and the part of every step that each rank trains on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any, ClassVar

import torch
from torch.utils.data import Sampler

from bench.modeling.scoring import IGNORE_INDEX
from bench.training import compat, distributed

POOL_BATCHES = 4
"""Batches whose rows are sorted by length among themselves."""
WEIGHT_KEY = "weight"
"""Key in a collated batch: the factor that turns the loss of the batch into its part of the loss of its step."""


class LengthGroupedSampler(Sampler[int]):
    """Sampler of rows in batches of similar length, ordered by seed and epoch.

    Every row comes once per epoch. Rows are shuffled and put into pools of `POOL_BATCHES` batches. The rows of a pool
    are sorted by length and cut into batches, which come in random order. So there is little padding, and every epoch
    has other rows together in a batch.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of an optimizer step.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, called by the trainer at its start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = random.Random(f"{self.seed} {self.epoch}")
        order = generator.sample(range(len(self)), len(self))
        full_batches_end = len(order) - len(order) % self.batch_size
        pool_size = POOL_BATCHES * self.batch_size
        for start in range(0, full_batches_end, pool_size):
            pool = sorted(order[start : min(start + pool_size, full_batches_end)], key=self.lengths.__getitem__)
            batches = [pool[first : first + self.batch_size] for first in range(0, len(pool), self.batch_size)]
            for batch in generator.sample(batches, len(batches)):
                yield from batch
        yield from order[full_batches_end:]


class RankShard:
    """Data loader of one rank: its part of every optimizer step, in micro-batches.

    A step has the rows that it has with one process. They are dealt out to the ranks in turn, so that no rank gets all
    the long ones, and all ranks split their part into the same number of micro-batches. A rank without rows for a
    micro-batch gets one row with weight 0, of which no token is counted or trained on: the other ranks wait for its
    gradient.

    Args:
        sampler: Order of all rows.
        dataset: Rows by index.
        collate_fn: Makes a batch of rows.
        micro_batch_size: Rows of a micro-batch at most.
        loss_is_row_mean: True if the loss of a batch is the mean over its rows; False if it is divided by the tokens
            of the whole step already.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        sampler: LengthGroupedSampler,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any],
        *,
        micro_batch_size: int,
        loss_is_row_mean: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.sampler, self.dataset, self.collate_fn = sampler, dataset, collate_fn
        self.micro_batch_size, self.loss_is_row_mean = micro_batch_size, loss_is_row_mean
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, called by the trainer at its start."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        full_steps, remaining_rows = divmod(len(self.sampler), self.sampler.batch_size)
        return full_steps * self._micro_batches_per_step(self.sampler.batch_size) + self._micro_batches_per_step(
            remaining_rows
        )

    def __iter__(self) -> Iterator[Any]:
        for indices, weight in self.micro_batches():
            batch = self.collate_fn([self.dataset[index] for index in indices or [0]])
            batch[WEIGHT_KEY] = weight
            if not indices:
                batch["attention_mask"].zero_()
                if "labels" in batch:
                    batch["labels"].fill_(IGNORE_INDEX)
            yield batch

    def micro_batches(self) -> Iterator[tuple[list[int], float]]:
        """Yield the row indices and the weight of each micro-batch of this rank."""
        order = list(self.sampler)
        for start in range(0, len(order), self.sampler.batch_size):
            step_rows = order[start : start + self.sampler.batch_size]
            rank_rows, count = step_rows[self.rank :: self.world_size], self._micro_batches_per_step(len(step_rows))
            for number in range(count):
                indices = rank_rows[number::count]
                # The trainer divides by the number of micro-batches, and gradients are averaged over ranks.
                share = count * len(indices) / len(step_rows) if self.loss_is_row_mean else float(bool(indices))
                yield indices, self.world_size * share

    def _micro_batches_per_step(self, rows: int) -> int:
        """Return the number of micro-batches in which each rank trains on a step of so many rows."""
        return ceil(ceil(rows / self.world_size) / self.micro_batch_size)


class SamplerMixin(compat.TrainSamplerMixin):
    """Makes a trainer draw its rows by a sampler, and each rank its part of every step."""

    loss_is_row_mean: ClassVar[bool] = True
    """False if the loss of a batch is divided by the tokens of the whole step already."""

    def __init__(self, *args: Any, train_sampler: LengthGroupedSampler, **kwargs: Any) -> None:
        self.train_sampler: LengthGroupedSampler = train_sampler
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """Return the trainer's own data loader, or a `RankShard` if there are several ranks."""
        base_trainer: Any = super()
        if distributed.world_size() == 1:
            return base_trainer.get_train_dataloader()
        trainer: Any = self
        if self.loss_is_row_mean:
            compat.average_over_micro_batches(trainer)
        compat.wrap_loss(trainer, _weighted_loss)
        return RankShard(
            self.train_sampler,
            trainer.train_dataset,
            trainer.data_collator,
            micro_batch_size=trainer.args.per_device_train_batch_size,
            loss_is_row_mean=self.loss_is_row_mean,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )


def _weighted_loss(loss_function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss function of a trainer that multiplies by the weight in the batch."""

    def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        weight = inputs.pop(WEIGHT_KEY)
        if not weight:
            # A row without any token to see or to learn has a loss of NaN, and 0 * NaN is not 0.
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
            if "labels" in inputs:
                inputs["labels"] = torch.zeros_like(inputs["labels"])
        return loss_function(model, inputs, *args, **kwargs) * weight

    return compute_loss
