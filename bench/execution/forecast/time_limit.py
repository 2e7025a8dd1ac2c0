"""Choice of the methods, budget and seeds whose runs end within a time limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import UserError
from bench.execution.forecast.job_forecast import JobForecast
from bench.execution.job import Job
from bench.i18n import Message
from bench.units import format_seconds

MIN_METHODS = 2
"""The most wanted methods that a smaller budget is preferred to leaving out."""


@dataclass(frozen=True)
class Effort:
    """Budget and number of seeds of a comparison."""

    budget: str
    seeds: int


EFFORTS = (
    Effort("standard", 3),
    Effort("standard", 1),
    Effort("standard,epochs=1", 1),
    Effort("quick", 1),
)
"""From the surest answer to the fastest."""


@dataclass(frozen=True)
class TimedPlan:
    """Runs that are expected to end within a time limit."""

    methods: tuple[str, ...]
    """Methods in the order of preference, without the controls."""
    effort: Effort
    jobs: tuple[Job, ...]
    forecasts: tuple[JobForecast, ...]
    too_slow: dict[str, float]
    """Expected seconds of each method that was left out."""
    controls_s: float
    """Expected seconds of the controls, which run in every comparison."""


def choose_within(
    limit_s: float,
    methods: Sequence[str],
    plan: Callable[[Sequence[str], Effort], list[Job]],
    forecast: Callable[[list[Job]], list[JobForecast]],
) -> TimedPlan:
    """Return the surest comparison of the most wanted methods that is expected to end in time.

    If these do not fit together with any effort, it is the surest comparison of as many others. A method whose seconds
    are not known is taken to fit.

    Args:
        limit_s: Seconds that all runs may take.
        methods: Methods to compare, the most wanted first.
        plan: Returns the jobs of methods, controls included.
        forecast: Returns the expected seconds of jobs.

    Raises:
        UserError: Not even the first method with the least effort ends in time.
    """
    wanted = set(methods[:MIN_METHODS])
    plans = []
    for effort in EFFORTS:
        chosen = _choose(limit_s, methods, effort, plan, forecast)
        if wanted <= set(chosen.methods):
            return chosen
        plans.append(chosen)
    most = max(min(len(chosen.methods), MIN_METHODS) for chosen in plans)
    if most:
        return next(chosen for chosen in plans if len(chosen.methods) >= most)
    fastest_s = chosen.controls_s + min(chosen.too_slow.values())
    raise UserError(
        Message(
            "--minutes {minutes:g}: too short; the controls and the fastest method are expected to take {time}",
            minutes=limit_s / 60,
            time=format_seconds(fastest_s),
        ),
        hint=Message(
            "--minutes {minutes}, a file with fewer rows, or a smaller model", minutes=int(fastest_s / 60 * 1.5) + 1
        ),
    )


def _choose(
    limit_s: float,
    methods: Sequence[str],
    effort: Effort,
    plan: Callable[[Sequence[str], Effort], list[Job]],
    forecast: Callable[[list[Job]], list[JobForecast]],
) -> TimedPlan:
    """Return the plan of an effort without the methods that do not fit."""
    jobs = plan(methods, effort)
    forecasts = forecast(jobs)
    seconds: dict[str, float] = defaultdict(float)
    for job, job_forecast in zip(jobs, forecasts, strict=True):
        seconds[job.spec.method.ref] += job_forecast.seconds or 0.0
    controls_s = sum(total for ref, total in seconds.items() if ref not in methods)
    left_s = limit_s - controls_s
    chosen: list[str] = []
    for ref in methods:
        if seconds[ref] <= left_s:
            chosen.append(ref)
            left_s -= seconds[ref]
    kept = [
        (job, job_forecast)
        for job, job_forecast in zip(jobs, forecasts, strict=True)
        if job.spec.method.ref in chosen or job.spec.method.ref not in methods
    ]
    return TimedPlan(
        methods=tuple(chosen),
        effort=effort,
        jobs=tuple(job for job, _ in kept),
        forecasts=tuple(job_forecast for _, job_forecast in kept),
        too_slow={ref: seconds[ref] for ref in methods if ref not in chosen},
        controls_s=controls_s,
    )
