"""The budget: how it is asked for, and that nothing is ever drawn beyond it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import Clock
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.execution import budget as rooms
from bench.execution.budget import BudgetTracker, parse_budget
from bench.method import BudgetExhausted
from bench.records.record import BudgetLimits

LIMIT = st.none() | st.integers(1, 40)
# Every budget that can be asked for limits one of these two.
GRANTS = st.builds(
    BudgetLimits, steps=LIMIT, epochs=st.none() | st.integers(1, 4), tokens=LIMIT, batch=st.integers(1, 8)
).filter(lambda grant: grant.steps or grant.epochs)
DRAWS = st.lists(
    st.fixed_dictionaries({"steps": st.integers(0, 3), "examples": st.integers(0, 9), "tokens": st.integers(0, 9)})
)


def drawn(budget: BudgetTracker) -> tuple[int, int, int]:
    return budget.steps, budget.examples, budget.tokens


@pytest.mark.parametrize("name", rooms.PRESETS)
def test_a_preset_is_asked_for_by_its_name(name: str) -> None:
    assert parse_budget(name) == rooms.PRESETS[name]


def test_a_preset_takes_changes() -> None:
    assert parse_budget("quick,epochs=2") == rooms.PRESETS["quick"].model_copy(update={"passes": 2})
    assert parse_budget("quick, examples=none") == BudgetLimits(epochs=1)


def test_pairs_alone_make_a_budget() -> None:
    assert parse_budget("steps=50,seconds=1.5,batch=4") == BudgetLimits(steps=50, seconds=1.5, batch=4)


@pytest.mark.parametrize(
    ("text", "named", "mend"),
    [
        ("epochs=-1", "epochs=-1", "positive"),
        ("epochs=0", "epochs=0", "positive"),
        ("epochs=1.5", "epochs=1.5", "positive"),
        ("seconds=nan,steps=1", "seconds=nan", "positive"),
        ("seconds=inf,steps=1", "seconds=inf", "none"),
        ("batch=none,steps=1", "batch", "positive"),
        ("pases=2", "'pases'", "did you mean 'passes'"),
        ("quik", "'quik'", "did you mean 'quick'"),
        ("epochs=2,quick", "'quick'", "quick"),
        ("seconds=60", "neither passes nor steps", "epochs=3"),
        ("quick,epochs=none", "neither passes nor steps", "epochs=3"),
        ("", "''", "quick, standard"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_with_its_place_and_mend(text: str, named: str, mend: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_budget(text)
    assert f"--budget {text}" in refusal.value.what
    assert named in refusal.value.what
    assert mend in (refusal.value.mend or "")


@given(GRANTS, st.integers(1, 20), DRAWS)
def test_no_sequence_of_draws_exceeds_any_limit(
    grant: BudgetLimits, examples: int, draws: list[dict[str, int]]
) -> None:
    budget = BudgetTracker(grant, examples)
    for draw in draws:
        before, afforded = drawn(budget), budget.can_afford(**draw)
        try:
            budget.spend(**draw)
        except BudgetExhausted:
            assert drawn(budget) == before
            assert not afforded
            assert budget.stopped_by in ("steps", "passes", "tokens")
        else:
            taken = (draw["steps"], draw["examples"], draw["tokens"])
            assert drawn(budget) == tuple(old + new for old, new in zip(before, taken, strict=True))
            assert afforded
        assert budget.steps <= (grant.steps or budget.steps)
        assert budget.tokens <= (grant.tokens or budget.tokens)
        assert budget.examples <= (grant.epochs * examples if grant.epochs else budget.examples)


@given(GRANTS, st.integers(1, 20), DRAWS)
def test_the_watch_hears_of_every_draw_that_was_granted(
    grant: BudgetLimits, examples: int, draws: list[dict[str, int]]
) -> None:
    heard: list[dict[str, Any]] = []
    budget = BudgetTracker(grant, examples, heard.append)
    granted = 0
    for draw in draws:
        if budget.can_afford(**draw):
            budget.spend(**draw)
            granted += 1
            assert heard[-1]["step"] == budget.steps
            assert heard[-1]["tokens"] == budget.tokens
    assert len(heard) == granted


@given(GRANTS, st.integers(1, 20))
def test_planned_steps_are_all_the_steps_that_whole_batches_allow(grant: BudgetLimits, examples: int) -> None:
    untimed = grant.model_copy(update={"tokens": None})
    budget = BudgetTracker(untimed, examples)
    place = 0
    while True:
        size = min(untimed.batch, examples - place)
        if not budget.can_afford(steps=1, examples=size):
            break
        budget.spend(steps=1, examples=size)
        place = (place + size) % examples
    assert budget.steps == budget.planned_steps


def test_the_first_limit_that_says_no_is_the_one_that_is_named() -> None:
    budget = BudgetTracker(BudgetLimits(steps=2, epochs=1, tokens=5), 8)
    assert budget.stopped_by is None
    assert not budget.can_afford(tokens=6)
    with pytest.raises(BudgetExhausted, match="tokens"):
        budget.spend(steps=3)
    assert budget.usage().stopped_by == "tokens"


def test_spent_is_what_was_drawn(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(epochs=3), 8)
    clock.now += 2.5
    budget.spend(steps=2, examples=12, tokens=30)
    budget.stop()
    clock.now += 60
    spent = budget.usage()
    assert (spent.steps, spent.examples, spent.epochs, spent.tokens) == (2, 12, 1.5, 30)
    assert spent.seconds == 2.5
    assert spent.stopped_by is None


def test_a_step_that_would_end_too_late_is_not_begun(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    for _ in range(3):
        budget.spend(steps=1)
        clock.now += 3  # the fourth step of 3 s would end at 12 s
    with pytest.raises(BudgetExhausted, match="seconds"):
        budget.spend(steps=1)
    assert budget.steps == 3
    assert budget.stopped_by == "seconds"


def test_the_slowest_step_of_late_decides_whether_another_fits(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    for length in (1, 4, 1):
        budget.spend(steps=1)
        clock.now += length  # 6 s are gone: one more of 4 s fits
    budget.spend(steps=1)
    clock.now += 1
    assert not budget.can_afford(steps=1)


def test_a_slow_first_step_is_forgotten(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=26), 8)
    for length in (9, *[1] * rooms.LATELY, 1):
        budget.spend(steps=1)
        clock.now += length
    assert budget.can_afford(steps=1)


def test_work_done_may_always_be_counted_in_time(clock: Clock) -> None:
    """Tokens are known only after a step; that they are counted late must not end a run in an error."""
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    budget.spend(steps=1)
    clock.now += 11
    budget.spend(tokens=7)
    assert budget.tokens == 7


def test_time_off_the_clock_is_not_charged(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=9, seconds=10), 8)
    clock.now += 4
    with budget.off_clock():
        clock.now += 100
    assert budget.seconds == 4
    with pytest.raises(ZeroDivisionError), budget.off_clock():
        clock.now += 100
        raise ZeroDivisionError
    assert budget.seconds == 4
    assert budget.can_afford(steps=1)


def test_the_clock_runs_by_itself() -> None:
    budget = BudgetTracker(BudgetLimits(steps=1), 1)
    time.sleep(0.02)
    budget.stop()
    stopped = budget.seconds
    assert stopped >= 0.02
    time.sleep(0.01)
    assert budget.seconds == stopped
