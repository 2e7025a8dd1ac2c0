"""Number of seeds that the expected time of a command allows, for `--seeds auto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.errors import UserError
from bench.execution.forecast.job_forecast import JobForecast
from bench.execution.job import Job
from bench.i18n import Message

AUTO = "auto"
AUTO_SEEDS = 3
"""Seeds of `auto` where there is time: from three on, the spread between seeds is measured."""
AUTO_MAX_MINUTES = 30
"""Expected minutes of all runs up to which `auto` makes them with three seeds."""


@dataclass(frozen=True)
class SeedChoice:
    """Runs that `--seeds auto` makes, and the reason for their number."""

    seeds: int
    jobs: list[Job]
    forecasts: list[JobForecast]
    """Forecast of each job."""
    reason: Literal["short", "long", "not known"]
    seconds: float
    """Expected seconds of all runs with three seeds; runs of unknown time count like the longest."""


def parse_seeds(text: str) -> int | None:
    """Parse the value of `--seeds`; None for `auto`.

    Raises:
        UserError: It is neither a number of seeds nor `auto`.
    """
    if text.strip().lower() == AUTO:
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise UserError(
            Message("--seeds {text}: invalid number of seeds", text=text),
            hint=Message("--seeds 3 for the seeds 0, 1 and 2, or --seeds {auto}", auto=AUTO),
        )
    return int(text)


def choose_seeds(jobs: Sequence[Job], forecasts: Sequence[JobForecast]) -> SeedChoice:
    """Choose three seeds if all runs end in `AUTO_MAX_MINUTES`, otherwise one.

    Args:
        jobs: Jobs with `AUTO_SEEDS` seeds.
        forecasts: Forecast of each job.
    """
    known = [forecast.seconds for forecast in forecasts if forecast.seconds is not None]
    seconds = sum(known) + (len(forecasts) - len(known)) * max(known, default=0.0)
    if known and seconds <= 60 * AUTO_MAX_MINUTES:
        return SeedChoice(AUTO_SEEDS, list(jobs), list(forecasts), "short", seconds)
    first_seed = [pair for pair in zip(jobs, forecasts, strict=True) if pair[0].spec.seed == 0]
    reason: Literal["long", "not known"] = "long" if known else "not known"
    return SeedChoice(1, [job for job, _ in first_seed], [forecast for _, forecast in first_seed], reason, seconds)
