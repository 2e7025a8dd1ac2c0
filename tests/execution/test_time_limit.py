"""Choice of methods, budget and seeds for a time limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from conftest import MakeRecord

from bench.errors import UserError
from bench.execution.forecast.job_forecast import NOT_KNOWN, JobForecast
from bench.execution.forecast.time_limit import Effort, TimedPlan, choose_within
from bench.execution.job import Job

METHODS = ("few-shot", "lora", "full")
SECONDS = {"few-shot": 10.0, "lora": 40.0, "full": 100.0, "features": 5.0, "majority": 1.0}
"""Seconds of a run of one epoch on all rows."""
EPOCHS = {"standard": 3, "standard,epochs=1": 1, "quick": 0.1}


@pytest.fixture
def choose(make_record: MakeRecord) -> Any:
    def plan(methods: Sequence[str], effort: Effort) -> list[Job]:
        specs = [make_record(name, seed=seed).spec for seed in range(effort.seeds) for name in [*methods, "majority"]]
        return [Job(spec=spec, command=(effort.budget,), method_sha256="0" * 64) for spec in specs]

    def forecast(jobs: list[Job]) -> list[JobForecast]:
        names = [job.spec.method.name for job in jobs]
        seconds = [SECONDS[name] * EPOCHS[job.command[0]] for name, job in zip(names, jobs, strict=True)]
        return [JobForecast(value, value, value, "rehearsal") for value in seconds]

    return lambda limit_s, methods=METHODS: cast(TimedPlan, choose_within(limit_s, methods, plan, forecast))


@pytest.mark.parametrize(
    ("limit_s", "methods", "budget", "seeds"),
    [
        (2000, METHODS, "standard", 3),
        (600, ("few-shot", "lora"), "standard", 3),
        (200, ("few-shot", "lora"), "standard", 1),
        (60, ("few-shot", "lora"), "standard,epochs=1", 1),
        (20, METHODS, "quick", 1),
        (5.5, ("few-shot", "lora"), "quick", 1),
        (1.5, ("few-shot",), "quick", 1),
    ],
)
def test_choose_within_takes_the_surest_comparison_that_fits(
    choose: Any, limit_s: float, methods: tuple[str, ...], budget: str, seeds: int
) -> None:
    chosen = choose(limit_s)
    assert (chosen.methods, chosen.effort) == (methods, Effort(budget, seeds))
    assert sum(forecast.seconds for forecast in chosen.forecasts) <= limit_s
    assert {job.spec.method.name for job in chosen.jobs} == {*methods, "majority"}
    assert set(chosen.too_slow) == set(METHODS) - set(methods)


@pytest.mark.parametrize(
    ("lora_s", "methods", "budget", "seeds"),
    [(40.0, ("few-shot", "lora", "features"), "standard", 1), (4000.0, ("few-shot", "features"), "standard", 3)],
)
def test_choose_within_prefers_fewer_seeds_to_leaving_out_training(
    choose: Any, monkeypatch: pytest.MonkeyPatch, lora_s: float, methods: tuple[str, ...], budget: str, seeds: int
) -> None:
    monkeypatch.setitem(SECONDS, "lora", lora_s)
    chosen = choose(200, ("few-shot", "lora", "features"))
    assert (chosen.methods, chosen.effort) == (methods, Effort(budget, seeds))


def test_choose_within_too_short_time_is_refused_with_a_longer_one(choose: Any) -> None:
    with pytest.raises(UserError, match="too short") as error:
        choose(0.5)
    assert error.value.hint is not None and error.value.hint.startswith("--minutes 1")


def test_choose_within_slow_controls_count_in_the_time_that_is_named(
    choose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "majority", 6000.0)
    with pytest.raises(UserError, match="controls and the fastest method are expected to take 10 min") as error:
        choose(300)
    assert error.value.hint is not None and error.value.hint.startswith("--minutes 16")


def test_choose_within_unknown_seconds_count_as_fitting(make_record: MakeRecord) -> None:
    job = Job(spec=make_record("lora").spec, command=(), method_sha256="0" * 64)
    chosen = choose_within(1, ("lora",), lambda methods, effort: [job], lambda jobs: [NOT_KNOWN])
    assert chosen.methods == ("lora",)
