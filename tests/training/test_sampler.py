"""The order of training rows: every row once a pass, by the seed alone, and with little padding."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from bench.training.sampler import LengthGroupedSampler

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_every_row_comes_once_a_pass(lengths: list[int], batch: int, seed: int, epoch: int) -> None:
    order = LengthGroupedSampler(lengths, batch, seed)
    order.set_epoch(epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert list(order) == list(order)
    assert len(order) == len(lengths)


def test_seed_and_pass_decide_the_order_and_nothing_else() -> None:
    lengths = [random.Random(place).randint(10, 90) for place in range(200)]
    first, second = LengthGroupedSampler(lengths, 16, 0), LengthGroupedSampler(lengths, 16, 1)
    assert list(first) != list(second)
    before = list(first)
    random.seed(5)
    assert list(first) == before
    first.set_epoch(1)
    assert list(first) != before


def test_batches_hold_rows_of_a_length_and_long_ones_come_no_sooner() -> None:
    lengths = [random.Random(place).randint(10, 150) for place in range(1000)]

    def padded(places: list[int]) -> int:
        batches = [[lengths[place] for place in places[at : at + 16]] for at in range(0, len(places), 16)]
        return sum(max(batch) * len(batch) for batch in batches)

    sorted_ones = list(LengthGroupedSampler(lengths, 16, 0))
    shuffled = random.Random(0).sample(range(1000), 1000)
    assert padded(sorted_ones) < 1.25 * sum(lengths) < 1.5 * sum(lengths) < padded(shuffled)
    half = [sum(lengths[place] for place in part) for part in (sorted_ones[:500], sorted_ones[500:])]
    assert 0.9 < half[0] / half[1] < 1.1


def test_who_stands_beside_whom_is_decided_anew_in_every_pass() -> None:
    order = LengthGroupedSampler([50] * 160, 16, 0)
    first = {frozenset(list(order)[at : at + 16]) for at in range(0, 160, 16)}
    order.set_epoch(1)
    assert not first & {frozenset(list(order)[at : at + 16]) for at in range(0, 160, 16)}
