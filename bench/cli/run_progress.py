"""Progress of `bench run` on standard error: forecast, bars, and a line per finished run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.options import describe_progress
from bench.escape import clean_line
from bench.units import count, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from bench.cli.console import PlainConsole
    from bench.execution.forecast.job_forecast import JobForecast
    from bench.execution.job import Job
    from bench.method import ProgressState
    from bench.records import Record
    from bench.report.trackers import Tracker

FAILED_STATUSES = ("error", "timeout")
"""Statuses of runs that make the exit code 1."""
MAX_SHARE_OF_RUNNING = 0.95
"""Share of the expected seconds of a run that the bar shows at most before it has finished."""
ROUGH_SECONDS = (5, 10, 20, 30, 45, 60, 90)
"""Forecasts below two minutes are rounded up to one of these."""


def announce(sentence: str) -> None:
    """Print a sentence on standard error at once."""
    print(sentence, file=sys.stderr, flush=True)


def describe_forecast(forecasts: Sequence[JobForecast]) -> list[str]:
    """Return sentences with the number of runs, their expected time and its source."""
    from bench.execution.forecast.job_forecast import total_forecast

    total = total_forecast(forecasts)
    existing = f"; {count(total.existing, 'run')} with an existing record" if total.existing else ""
    if not total.runs:
        return [f"No run to make{existing}."]
    runs = count(total.runs, "run")
    if total.unknown_runs == total.runs:
        return [f"{runs}, time not known{existing}."]
    unknown = f", without {count(total.unknown_runs, 'run')} whose time is not known" if total.unknown_runs else ""
    sentence = (
        f"{runs}, about {rough_time(total.seconds)} (between {rough_time(total.low)} and {rough_time(total.high)})"
        f"{unknown}{existing}."
    )
    return [sentence, *_describe_sources(forecasts)]


def _describe_sources(forecasts: Sequence[JobForecast]) -> list[str]:
    """Return a sentence that says what the expected seconds come from."""
    sources = {forecast.source for forecast in forecasts}
    names = [
        name
        for name, is_used in (
            ("earlier runs in this folder", "earlier run" in sources),
            ("a short rehearsal on this machine", bool(sources & {"rehearsal", "rehearsal of a similar method"})),
        )
        if is_used
    ]
    return [f"Estimated from {' and '.join(names)}."] if names else []


def rough_time(seconds: float) -> str:
    """Return seconds with as few digits as a forecast deserves, e.g. `45 s`, `9 min`, `2.5 h`."""
    if seconds <= ROUGH_SECONDS[-1]:
        return f"{next(value for value in ROUGH_SECONDS if seconds <= value)} s"
    if seconds < 3600:
        minutes = seconds / 60
        return f"{round(minutes) if minutes < 20 else 5 * round(minutes / 5)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"


class RemainingTime:
    """Expected seconds of the runs that are left, corrected by those that have finished.

    Args:
        forecasts: Forecasts of all runs.
        clock: Returns seconds.
    """

    def __init__(self, forecasts: Sequence[JobForecast], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected_s = {
            index: forecast.seconds for index, forecast in enumerate(forecasts) if forecast.seconds is not None
        }
        self._total = len(forecasts)
        self._finished: set[int] = set()
        self._started_at: dict[int, float] = {}
        self._actual_s = self._expected_of_actual_s = 0.0

    @property
    def total_s(self) -> float:
        """Expected seconds of all runs."""
        return sum(self._expected_s.values())

    @property
    def done_s(self) -> float:
        """Expected seconds of the finished runs and of the part of running ones that is done."""
        running = set(self._started_at) - self._finished
        done = sum(self._expected_s.get(index, 0.0) for index in self._finished)
        return done + sum(self._done_of_running(index) for index in running)

    @property
    def remaining_s(self) -> float | None:
        """Seconds that are left; None if those of some run are not known."""
        left = [index for index in range(self._total) if index not in self._finished]
        if any(index not in self._expected_s for index in left):
            return None
        return max(self.total_s - self.done_s, 0.0) * self._correction

    @property
    def _correction(self) -> float:
        """Seconds of finished runs as a multiple of the expected ones; 1 at the beginning."""
        if self._expected_of_actual_s < 30:
            return 1.0
        return min(max(self._actual_s / self._expected_of_actual_s, 0.5), 2.0)

    def start(self, index: int) -> None:
        """Note that a run has started."""
        self._started_at[index] = self._clock()

    def finish(self, index: int, *, is_new: bool) -> float:
        """Note that a run has finished; return its seconds."""
        self._finished.add(index)
        elapsed_s = self._clock() - self._started_at.get(index, self._clock())
        if is_new and index in self._expected_s:
            self._actual_s += elapsed_s
            self._expected_of_actual_s += self._expected_s[index]
        return elapsed_s

    def _done_of_running(self, index: int) -> float:
        elapsed_s = (self._clock() - self._started_at[index]) / self._correction
        return min(elapsed_s, MAX_SHARE_OF_RUNNING * self._expected_s.get(index, 0.0))


class RunProgress:
    """Observer of `run_jobs`: bars of all and of running jobs, lines of finished ones.

    Also sends each record to the trackers, whose failures are warnings.

    Args:
        console: Console of standard error.
        bars: Bars; nothing is drawn if standard error is no terminal.
        jobs: All jobs.
        forecasts: Forecasts of the jobs.
        trackers: Trackers by name.
        out: Folder of the records.
    """

    def __init__(
        self,
        console: PlainConsole,
        bars: Progress,
        jobs: Sequence[Job],
        forecasts: Sequence[JobForecast],
        trackers: dict[str, Tracker],
        out: Path,
    ) -> None:
        self.console, self.bars, self.trackers, self.out = console, bars, trackers, out
        self.job_count, self.finished_count = len(jobs), 0
        self.time = RemainingTime(forecasts)
        self.whole: TaskID = bars.add_task("all runs", total=self.time.total_s or None, state="")
        self.bar_ids: dict[int, TaskID] = {}
        self._show_whole()

    def opened(self, description: str | None) -> None:
        """Print where jobs run, unless it is this machine."""
        if description:
            self.console.print_sentences([description])

    def started(self, index: int, job: Job) -> None:
        """Start the clock of a job; it gets no bar yet, because it may have a record."""
        self.time.start(index)

    def progress(self, index: int, job: Job, state: ProgressState) -> None:
        """Update the bar of a job and that of all runs; the first state creates the former."""
        if index not in self.bar_ids:
            self.bar_ids[index] = self.bars.add_task(self._title(index, job), total=None, state="")
        self.bars.update(
            self.bar_ids[index],
            completed=state.get("step", 0),
            total=state.get("steps"),
            state=describe_progress(state),
        )
        self._show_whole()

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        """Replace the bar of a job by a line with its score and seconds."""
        from bench.execution.result_folder import stored_file
        from bench.report.trackers import log_record

        if index in self.bar_ids:
            self.bars.remove_task(self.bar_ids.pop(index))
        seconds = self.time.finish(index, is_new=is_new)
        self.finished_count += 1
        warnings = log_record(record, self.trackers, self.out)
        self.console.print_sentences([f"{self._title(index, job)}: {self._describe_end(record, seconds, is_new)}"])
        self._show_whole()
        file = stored_file(record, self.out)
        if file.stem != record.id:
            warnings = [*warnings, _describe_kept_record(record, self.out, file)]
        self.console.print_sentences([f"warning: {warning}" for warning in warnings], style="yellow")

    def _describe_end(self, record: Record, seconds: float, is_new: bool) -> str:
        """Return status, main score, seconds and, on plain output, the time that is left."""
        metric = record.spec.task.metric
        score = record.scores.get(metric)
        parts = [record.status if score is None else f"{record.status}, {metric} {100 * score:.1f} %"]
        if not is_new:
            return f"{parts[0]} (existing record)"
        parts.append(format_seconds(seconds))
        remaining_s = self.time.remaining_s
        if not self.console.is_terminal and remaining_s and self.finished_count < self.job_count:
            parts.append(f"about {rough_time(remaining_s)} left")
        return ", ".join(parts)

    def _show_whole(self) -> None:
        """Show the finished runs and the time that is left."""
        remaining_s = self.time.remaining_s
        left = "time left not known" if remaining_s is None else f"about {rough_time(remaining_s)} left"
        self.bars.update(
            self.whole,
            description=f"{self.finished_count} of {count(self.job_count, 'run')}",
            completed=self.time.done_s,
            state=left if self.finished_count < self.job_count else "",
        )

    def _title(self, index: int, job: Job) -> str:
        return f"{clean_line(job.spec.method.name)} seed {job.spec.seed} ({index + 1}/{self.job_count})"


def _describe_kept_record(record: Record, out: Path, failure_file: Path) -> str:
    """Describe where the record of a failed run is if that of an earlier successful run stays."""
    exit_code = 1 if record.status in FAILED_STATUSES else 0
    return (
        f"this run ended with {record.status}, exit code {exit_code}; its record is {failure_file}; "
        f"the record of the earlier successful run stays as it was: {out / record.id}.json"
    )
