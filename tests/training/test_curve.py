"""Training curves: their points and rows follow from the computation that they take, a small share of training."""

from __future__ import annotations

import pytest

from bench.training import curve
from bench.training.curve import CurveSchedule

ROW_TOKENS = 40


def rows(count: int, completion: int = 4) -> list[tuple[list[int], list[int]]]:
    return [([1] * (ROW_TOKENS - completion), [2] * completion) for _ in range(count)]


def take_curve(schedule: CurveSchedule, steps: int, step_tokens: int) -> list[tuple[int, int]]:
    """Take all points of a training as the trainer does; steps and numbers of rows."""
    points = [(0, len(schedule.take_rows(0)))] if schedule.has_start else []
    for step in range(1, steps + 1):
        if schedule.is_due(step) or step == steps:
            points.append((step, len(schedule.take_rows(step * step_tokens))))
    return [point for point in points if point[1]]


def plan(steps: int, batch: int = 16, share: float = curve.CURVE_SHARE, **kwargs: bool) -> CurveSchedule:
    training_tokens = steps * batch * ROW_TOKENS
    return CurveSchedule(rows(128), training_tokens=training_tokens, steps=steps, share=share, **kwargs)


def test_curve_of_long_training_has_all_points_and_rows() -> None:
    points = take_curve(plan(steps=1000), 1000, 16 * ROW_TOKENS)
    assert points == [(100 * index, 128) for index in range(11)]


@pytest.mark.parametrize("steps", [1, 6, 12, 25, 50, 80, 187, 243, 1000])
@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("may_end_early", [False, True])
@pytest.mark.parametrize("share", [curve.CURVE_SHARE, curve.DECISION_SHARE])
def test_curve_takes_its_share_of_training_at_most(steps: int, batch: int, may_end_early: bool, share: float) -> None:
    points = take_curve(plan(steps, batch, share, may_end_early=may_end_early), steps, batch * ROW_TOKENS)
    assert sum(count for _, count in points) <= share * curve.FORWARDS_PER_STEP * steps * batch
    assert len({count for _, count in points}) <= 1, "points of one curve must be comparable"
    assert not points or points[-1][0] == steps


def test_curve_of_short_training_has_fewer_rows_then_fewer_points_then_none() -> None:
    counts = {steps: take_curve(plan(steps), steps, 16 * ROW_TOKENS) for steps in (100, 24, 12, 6)}
    assert counts[100] == [(0, 32), (25, 32), (50, 32), (75, 32), (100, 32)]
    assert counts[24] == [(0, 16), (24, 16)]
    assert counts[12] == [(12, 16)]
    assert counts[6] == []


def test_curve_that_takes_no_time_is_never_cut() -> None:
    schedule = CurveSchedule(rows(4), training_tokens=120, steps=3, share=0.05, free_tokens=11 * 4 * ROW_TOKENS)
    assert take_curve(schedule, 3, 40) == [(step, 4) for step in range(4)]


def test_curve_with_time_limit_pays_for_points_with_training_done() -> None:
    schedule = plan(steps=10_000, may_end_early=True)
    assert not schedule.has_start
    assert schedule.take_rows(0) == []
    assert len(schedule.take_rows(16 * 40 * ROW_TOKENS)) == 64  # 40 of 10,000 steps were done when time was over


def test_curve_without_validation_rows_has_no_points() -> None:
    schedule = CurveSchedule([], training_tokens=1e6, steps=9, share=0.1)
    assert (schedule.has_start, schedule.is_due(9), schedule.take_rows(9)) == (False, False, [])


def test_enough_rows_stops_at_enough_tokens() -> None:
    short, long = ([1], [2, 3]), ([1], list(range(700)))
    assert curve.enough_rows([short] * 128) == 128
    assert curve.enough_rows([short, long, long, long, long]) == 4
    assert curve.enough_rows([]) == 0
