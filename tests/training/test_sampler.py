"""Order of training rows, and the part of every step that each rank trains on."""

from __future__ import annotations

import random
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.training.sampler import LengthGroupedSampler, RankShard

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300)
SIZES = st.integers(1, 12)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_sampler_yields_every_row_once_per_epoch(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))
    assert list(sampler) == list(sampler)
    assert len(sampler) == len(lengths)


def test_sampler_order_depends_on_seed_and_epoch_only() -> None:
    lengths = [random.Random(row).randint(10, 90) for row in range(200)]
    sampler, other_sampler = LengthGroupedSampler(lengths, 16, 0), LengthGroupedSampler(lengths, 16, 1)
    assert list(sampler) != list(other_sampler)
    order = list(sampler)
    random.seed(5)
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order


def test_sampler_groups_rows_by_length_in_random_batch_order() -> None:
    lengths = [random.Random(row).randint(10, 150) for row in range(1000)]

    def padded_tokens(order: list[int]) -> int:
        batches = [[lengths[row] for row in order[start : start + 16]] for start in range(0, len(order), 16)]
        return sum(max(batch) * len(batch) for batch in batches)

    grouped = list(LengthGroupedSampler(lengths, 16, 0))
    shuffled = random.Random(0).sample(range(1000), 1000)
    assert padded_tokens(grouped) < 1.25 * sum(lengths) < 1.5 * sum(lengths) < padded_tokens(shuffled)
    half_tokens = [sum(lengths[row] for row in half) for half in (grouped[:500], grouped[500:])]
    assert 0.9 < half_tokens[0] / half_tokens[1] < 1.1


def test_sampler_next_epoch_has_other_batches() -> None:
    sampler = LengthGroupedSampler([50] * 160, 16, 0)
    first_epoch = {frozenset(list(sampler)[start : start + 16]) for start in range(0, 160, 16)}
    sampler.set_epoch(1)
    assert not first_epoch & {frozenset(list(sampler)[start : start + 16]) for start in range(0, 160, 16)}


@given(st.integers(1, 60), SIZES, st.integers(1, 5), SIZES, st.booleans())
def test_rank_shards_together_show_the_steps_of_one_process(
    rows: int, rows_per_rank: int, world_size: int, micro_batch_size: int, loss_is_row_mean: bool
) -> None:
    sampler = LengthGroupedSampler([row % 7 + 1 for row in range(rows)], rows_per_rank * world_size, 0)
    shards = [
        RankShard(
            sampler,
            None,
            list,
            micro_batch_size=micro_batch_size,
            loss_is_row_mean=loss_is_row_mean,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    by_rank = [list(shard.micro_batches()) for shard in shards]
    assert {len(micro_batches) for micro_batches in by_rank} == {len(shard) for shard in shards}
    order, first_micro_batch = list(sampler), 0
    for start in range(0, rows, sampler.batch_size):
        step_rows = order[start : start + sampler.batch_size]
        count = ceil(ceil(len(step_rows) / world_size) / micro_batch_size)
        step_micro_batches = [
            micro_batch
            for micro_batches in by_rank
            for micro_batch in micro_batches[first_micro_batch : first_micro_batch + count]
        ]
        assert sorted(index for indices, _ in step_micro_batches for index in indices) == sorted(step_rows)
        assert all(len(indices) <= micro_batch_size for indices, _ in step_micro_batches)
        # The trainer averages over the micro-batches of a rank, and gradients are averaged over ranks.
        if loss_is_row_mean:
            row_weights = {
                index: weight / len(indices) / count / world_size
                for indices, weight in step_micro_batches
                for index in indices
            }
            assert all(row_weight == pytest.approx(1 / len(step_rows)) for row_weight in row_weights.values())
        else:
            assert all(weight == (world_size if indices else 0) for indices, weight in step_micro_batches)
        first_micro_batch += count
    assert first_micro_batch == len(shards[0])


def test_rank_shard_without_rows_gets_row_of_weight_zero() -> None:
    dataset = [{"input_ids": [row, row]} for row in range(3)]

    def collate(rows: list[Any]) -> dict[str, Any]:
        ids = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}

    sampler = LengthGroupedSampler([2, 2, 2], 2, 0)
    shard = RankShard(sampler, dataset, collate, micro_batch_size=1, loss_is_row_mean=False, rank=1, world_size=2)
    full_batch, blank_batch = shard
    assert int(full_batch["attention_mask"].sum()) == 2 and full_batch["weight"] == 2
    assert int(blank_batch["attention_mask"].sum()) == 0 and blank_batch["weight"] == 0
    assert blank_batch["labels"].tolist() == [[-100, -100]]
