"""The text of a budget is parsed and checked, and no work beyond its limits is ever allowed."""

from __future__ import annotations

import time

import pytest
from conftest import Clock
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.execution.budget import RECENT_STEPS, BudgetTracker, parse_budget
from bench.method import BudgetExhausted, ProgressState
from bench.records import BudgetLimits
from bench.records.budget_text import PRESETS, format_budget

LIMIT = st.none() | st.integers(1, 40)
# Every valid budget limits steps or epochs.
LIMITS = st.builds(
    BudgetLimits, steps=LIMIT, epochs=st.none() | st.integers(1, 4), tokens=LIMIT, batch=st.integers(1, 8)
).filter(lambda limits: limits.steps or limits.epochs)
SPENDINGS = st.lists(
    st.fixed_dictionaries({"steps": st.integers(0, 3), "examples": st.integers(0, 9), "tokens": st.integers(0, 9)})
)


def used(budget: BudgetTracker) -> tuple[int, int, int]:
    return budget.steps, budget.examples, budget.tokens


@pytest.mark.parametrize(
    "text",
    [*PRESETS, "standard,epochs=5", "quick,batch=8", "standard,examples=300", "standard,seconds=90", "tuned,steps=7"],
)
def test_format_budget_gives_the_text_that_is_parsed(text: str) -> None:
    assert format_budget(parse_budget(text)) == text


@pytest.mark.parametrize("name", PRESETS)
def test_parse_budget_preset_name_gives_preset(name: str) -> None:
    assert parse_budget(name) == PRESETS[name]


def test_parse_budget_preset_with_pairs_changes_the_preset() -> None:
    assert parse_budget("quick,epochs=2") == PRESETS["quick"].model_copy(update={"epochs": 2})
    assert parse_budget("quick, examples=none") == BudgetLimits(epochs=1)


def test_parse_budget_pairs_alone_make_a_budget() -> None:
    assert parse_budget("steps=50,seconds=1.5,batch=4") == BudgetLimits(steps=50, seconds=1.5, batch=4)


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("epochs=-1", "epochs=-1", "positive"),
        ("epochs=0", "epochs=0", "positive"),
        ("epochs=1.5", "epochs=1.5", "positive"),
        ("seconds=nan,steps=1", "seconds=nan", "positive"),
        ("seconds=inf,steps=1", "seconds=inf", "none"),
        ("batch=none,steps=1", "batch", "positive"),
        ("epoch=2", "'epoch'", "did you mean 'epochs'"),
        ("quik", "'quik'", "did you mean 'quick'"),
        ("epochs=2,quick", "'quick'", "quick"),
        ("seconds=60", "neither epochs nor steps", "epochs=3"),
        ("quick,epochs=none", "neither epochs nor steps", "epochs=3"),
        ("", "''", "quick, standard"),
    ],
)
def test_parse_budget_invalid_text_is_an_error_with_hint(text: str, problem: str, hint: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_budget(text)
    assert f"--budget {text}" in raised.value.message
    assert problem in raised.value.message
    assert hint in (raised.value.hint or "")


@given(LIMITS, st.integers(1, 20), SPENDINGS)
def test_spend_any_sequence_stays_within_all_limits(
    limits: BudgetLimits, examples: int, spendings: list[dict[str, int]]
) -> None:
    budget = BudgetTracker(limits, examples)
    for work in spendings:
        before, can_afford = used(budget), budget.can_afford(**work)
        try:
            budget.spend(**work)
        except BudgetExhausted:
            assert used(budget) == before
            assert not can_afford
            assert budget.stopped_by in ("steps", "epochs", "tokens")
        else:
            added = (work["steps"], work["examples"], work["tokens"])
            assert used(budget) == tuple(old + new for old, new in zip(before, added, strict=True))
            assert can_afford
        assert budget.steps <= (limits.steps or budget.steps)
        assert budget.tokens <= (limits.tokens or budget.tokens)
        assert budget.examples <= (limits.epochs * examples if limits.epochs else budget.examples)


@given(LIMITS, st.integers(1, 20), SPENDINGS)
def test_spend_reports_progress_of_all_work_within_limits(
    limits: BudgetLimits, examples: int, spendings: list[dict[str, int]]
) -> None:
    states: list[ProgressState] = []
    budget = BudgetTracker(limits, examples, states.append)
    spent_count = 0
    for work in spendings:
        if budget.can_afford(**work):
            budget.spend(**work)
            spent_count += 1
            assert states[-1]["step"] == budget.steps
            assert states[-1]["tokens"] == budget.tokens
    assert len(states) == spent_count


@given(LIMITS, st.integers(1, 20))
def test_planned_steps_equals_steps_possible_with_full_batches(limits: BudgetLimits, examples: int) -> None:
    untimed = limits.model_copy(update={"tokens": None})
    budget = BudgetTracker(untimed, examples)
    position = 0  # in the current epoch
    while True:
        size = min(untimed.batch, examples - position)
        if not budget.can_afford(steps=1, examples=size):
            break
        budget.spend(steps=1, examples=size)
        position = (position + size) % examples
    assert budget.steps == budget.planned_steps


def test_stopped_by_several_limits_hit_names_the_first() -> None:
    budget = BudgetTracker(BudgetLimits(steps=2, epochs=1, tokens=5), 8)
    assert budget.stopped_by is None
    assert not budget.can_afford(tokens=6)
    with pytest.raises(BudgetExhausted, match="tokens"):
        budget.spend(steps=3)
    assert budget.usage().stopped_by == "tokens"


def test_usage_reports_all_work_and_seconds(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(epochs=3), 8)
    clock.now += 2.5
    budget.spend(steps=2, examples=12, tokens=30)
    budget.stop()
    clock.now += 60
    usage = budget.usage()
    assert (usage.steps, usage.examples, usage.epochs, usage.tokens) == (2, 12, 1.5, 30)
    assert usage.seconds == 2.5
    assert usage.stopped_by is None


def test_spend_step_that_would_end_too_late_is_rejected(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    for _ in range(3):
        budget.spend(steps=1)
        clock.now += 3  # the fourth step of 3 s would end at 12 s
    with pytest.raises(BudgetExhausted, match="seconds"):
        budget.spend(steps=1)
    assert budget.steps == 3
    assert budget.stopped_by == "seconds"


def test_can_afford_assumes_the_slowest_recent_step(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    for step_s in (1, 4, 1):
        budget.spend(steps=1)
        clock.now += step_s  # after 6 s one more step of 4 s fits
    budget.spend(steps=1)
    clock.now += 1
    assert not budget.can_afford(steps=1)


def test_can_afford_slow_first_step_is_no_recent_step(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=26), 8)
    for step_s in (9, *[1] * RECENT_STEPS, 1):
        budget.spend(steps=1)
        clock.now += step_s
    assert budget.can_afford(steps=1)


def test_spend_tokens_after_the_last_step_is_allowed(clock: Clock) -> None:
    """Tokens are known only after a step, so counting them late must not end a run with an error."""
    budget = BudgetTracker(BudgetLimits(steps=99, seconds=10), 8)
    budget.spend(steps=1)
    clock.now += 11
    budget.spend(tokens=7)
    assert budget.tokens == 7


def test_off_clock_seconds_do_not_count(clock: Clock) -> None:
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


@pytest.mark.parametrize(("on_clock", "seconds"), [(False, 4.0), (True, 6.0)])
def test_validation_seconds_are_recorded_and_count_only_if_they_decide(
    clock: Clock, on_clock: bool, seconds: float
) -> None:
    budget = BudgetTracker(BudgetLimits(steps=9, seconds=9), 8)
    budget.spend(steps=1)
    clock.now += 4
    with budget.validation(on_clock=on_clock):
        clock.now += 2
    assert (budget.seconds, budget.usage().validation_s) == (seconds, 2.0)
    assert budget.can_afford(steps=1) == (not on_clock), "a step is expected to take 4 s, without validation"
    assert budget.limits.seconds is not None and budget.has_time_limit


def test_restarted_budget_has_all_steps_and_the_clock_of_the_first(clock: Clock) -> None:
    budget = BudgetTracker(BudgetLimits(steps=9, tokens=50), 8)
    budget.spend(steps=3)
    clock.now += 4
    restarted = budget.restarted()
    assert (restarted.steps, restarted.seconds, restarted.must_try_memory) == (0, 4.0, True)
    assert (budget.limit_tokens(49.5), budget.limit_tokens(51), budget.has_time_limit) == (49.5, 50, False)


def test_seconds_grow_until_stop() -> None:
    budget = BudgetTracker(BudgetLimits(steps=1), 1)
    time.sleep(0.02)
    budget.stop()
    seconds = budget.seconds
    assert seconds >= 0.02
    time.sleep(0.01)
    assert budget.seconds == seconds
