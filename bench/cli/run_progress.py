"""Progress of `bench run` on standard error: forecast, bars, and a line per finished run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import units
from bench.cli.options import describe_progress, localize, translator
from bench.escape import clean_line
from bench.i18n import Message, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from bench.cli.console import PlainConsole
    from bench.execution.forecast.job_forecast import JobForecast
    from bench.execution.forecast.seed_choice import SeedChoice
    from bench.execution.job import Job
    from bench.method import ProgressCallback, ProgressState
    from bench.records import Record
    from bench.report.trackers import Tracker

FAILED_STATUSES = ("error", "timeout")
"""Statuses of runs that make the exit code 1."""
MAX_SHARE_OF_RUNNING = 0.95
"""Share of the expected seconds of a run that the bar shows at most before it has finished."""


def exit_code(records: Sequence[Record]) -> int:
    """Return the exit code of a command that made runs: 1 if one failed or timed out, else 0."""
    return 1 if any(record.status in FAILED_STATUSES for record in records) else 0


def announce(sentence: str) -> None:
    """Print a sentence on standard error at once."""
    print(localize(sentence), file=sys.stderr, flush=True)


def describe_forecast(forecasts: Sequence[JobForecast]) -> list[str]:
    """Return sentences with the number of runs, their expected time and its source."""
    from bench.execution.forecast.job_forecast import total_forecast

    total = total_forecast(forecasts)
    existing = unknown = ""
    if total.existing:
        existing = Message("; {runs} with an existing record", runs=count_runs(total.existing))
    if not total.runs:
        return [Message("No run to make{existing}.", existing=existing)]
    runs = count_runs(total.runs)
    if total.unknown_runs == total.runs:
        return [Message("{runs}, time not known{existing}.", runs=runs, existing=existing)]
    if total.unknown_runs:
        unknown = Message(", without {runs} whose time is not known", runs=count_runs(total.unknown_runs))
    sentence = Message(
        "{runs}, about {time} (between {low} and {high}){unknown}{existing}.",
        runs=runs,
        time=rough_time(total.seconds),
        low=rough_time(total.low),
        high=rough_time(total.high),
        unknown=unknown,
        existing=existing,
    )
    return [sentence, *_describe_sources(forecasts)]


def describe_seed_choice(choice: SeedChoice) -> Message:
    """Say how many seeds `--seeds auto` runs, and why."""
    from bench.execution.forecast.seed_choice import AUTO_MAX_MINUTES, AUTO_SEEDS

    facts: dict[str, object] = {
        "seeds": AUTO_SEEDS,
        "time": rough_time(choice.seconds),
        "limit": rough_time(60 * AUTO_MAX_MINUTES),
    }
    match choice.reason:
        case "short":
            return Message("--seeds auto: {seeds} seeds, which take about {time} (at most {limit}).", **facts)
        case "long":
            return Message(
                "--seeds auto: one seed, because {seeds} would take about {time} (at most {limit}). For {seeds}: "
                "--seeds {seeds}.",
                **facts,
            )
        case "not known":
            return Message(
                "--seeds auto: one seed, because the time of the runs is not known. For {seeds}: --seeds {seeds}.",
                **facts,
            )


def _describe_sources(forecasts: Sequence[JobForecast]) -> list[str]:
    """Return a sentence that says what the expected seconds come from."""
    sources = {forecast.source for forecast in forecasts}
    has_earlier_runs = "earlier run" in sources
    if sources & {"rehearsal", "rehearsal of a similar method"}:
        if has_earlier_runs:
            return [Message("Estimated from earlier runs in this folder and a short rehearsal on this machine.")]
        return [Message("Estimated from a short rehearsal on this machine.")]
    return [Message("Estimated from earlier runs in this folder.")] if has_earlier_runs else []


def count_runs(number: int) -> Message:
    """Return a number with its noun: `1 run`, `1,200 runs`."""
    return Message("1 run") if number == 1 else Message("{number:,} runs", number=number)


def rough_time(seconds: float) -> Message:
    """Return seconds with as few digits as a forecast deserves, e.g. `45 s`, `9 min`, `2.5 h`."""
    if seconds < 97.5:
        return Message("{number} s", number=max(5 * round(seconds / 5), 5))
    minutes = seconds / 60
    if minutes < 4.75:
        return Message("{number} min", number=f"{round(2 * minutes) / 2:g}")
    if minutes < 60:
        return Message("{number} min", number=round(minutes) if minutes < 20 else 5 * round(minutes / 5))
    return Message("{number} h", number=f"{seconds / 3600:.{1 if seconds < 36000 else 0}f}")


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
        self.translate = translator()
        self.job_count, self.finished_count = len(jobs), 0
        self.time = RemainingTime(forecasts)
        self.whole: TaskID = bars.add_task(self.translate("all runs"), total=self.time.total_s or None, state="")
        self.bar_ids: dict[int, TaskID] = {}
        self._show_whole()

    def opened(self, description: str | None) -> None:
        """Print where jobs run, unless it is this machine."""
        if description:
            self.console.print_sentences([localize(description)])

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
            state=describe_progress(state, self.translate),
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
        with self._without_bars():
            self.console.print_sentences([f"{self._title(index, job)}: {self._describe_end(record, seconds, is_new)}"])
        self._show_whole()
        file = stored_file(record, self.out)
        if file.stem != record.id:
            warnings = [*warnings, _describe_kept_record(record, self.out, file)]
        lines = [self.translate("warning: {warning}", warning=localize(warning)) for warning in warnings]
        if lines:
            with self._without_bars():
                self.console.print_sentences(lines, style="yellow")

    @contextmanager
    def _without_bars(self) -> Iterator[None]:
        """Take the bars away while lines are printed.

        Otherwise the thread that draws the bars may draw them in between, and then rich erases a line too many or too
        few.
        """
        if not self.console.is_interactive:
            yield
            return
        self.bars.stop()
        try:
            yield
        finally:
            self.bars.start()

    def _describe_end(self, record: Record, seconds: float, is_new: bool) -> str:
        """Return status, main score, seconds and, on plain output, the time that is left."""
        metric = record.spec.task.metric
        score = record.all_scores.get(metric)
        parts: list[str] = [record.status]
        if score is not None:
            parts = [f"{record.status}, {metric} {units.format_score(score, metric)}"]
        if not is_new:
            return parts[0] + self.translate(" (existing record)")
        parts.append(format_duration(seconds, self.translate))
        remaining_s = self.time.remaining_s
        if not self.console.is_terminal and remaining_s and self.finished_count < self.job_count:
            parts.append(localize(_time_left(remaining_s)))
        return ", ".join(parts)

    def _show_whole(self) -> None:
        """Show the finished runs and the time that is left."""
        remaining_s = self.time.remaining_s
        runs = localize(count_runs(self.job_count))
        self.bars.update(
            self.whole,
            description=self.translate("{finished} of {runs}", finished=self.finished_count, runs=runs),
            completed=self.time.done_s,
            state=localize(_time_left(remaining_s)) if self.finished_count < self.job_count else "",
        )

    def _title(self, index: int, job: Job) -> str:
        name = clean_line(job.spec.method.name)
        title = self.translate("{name} seed {seed}", name=name, seed=job.spec.seed)
        return f"{title} ({index + 1}/{self.job_count})"


def _time_left(seconds: float | None) -> Message:
    if seconds is None:
        return Message("time left not known")
    return Message("about {time} left", time=rough_time(seconds))


@contextmanager
def training_bar() -> Iterator[ProgressCallback]:
    """Show how long a run that is repeated takes, and its bar; yields its progress callback."""
    from bench.cli.console import PlainConsole

    console, translate = PlainConsole(stderr=True), translator()
    with run_bars(console) as bars:
        bar = bars.add_task(translate("starting"), total=None, state="")
        expected_s: float | None = None
        start = time.monotonic()

        def show(state: ProgressState) -> None:
            nonlocal expected_s, start
            if "expected_s" in state:
                expected_s, start = _announce_training(state["expected_s"]), time.monotonic()
            elapsed_s = time.monotonic() - start
            left = "" if expected_s is None else localize(_time_left(max(expected_s - elapsed_s, 1.0)))
            done_s = elapsed_s if expected_s is None else min(elapsed_s, MAX_SHARE_OF_RUNNING * expected_s)
            description = describe_progress(state, translate)
            bars.update(bar, description=description, completed=done_s, total=expected_s, state=left)

        yield show


def _announce_training(expected_s: tuple[float, float, float] | None) -> float | None:
    """Print that a run is trained again and about how long that takes; return the seconds."""
    if expected_s is None:
        announce(Message("Training again with the recorded settings; the time is not known."))
        return None
    seconds, low, high = map(rough_time, expected_s)
    announce(
        Message(
            "Training again with the recorded settings: about {time} (between {low} and {high}).",
            time=seconds,
            low=low,
            high=high,
        )
    )
    return expected_s[0]


def run_bars(console: PlainConsole) -> Progress:
    """Return bars with a title, a state and the elapsed time, which vanish at the end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    title, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
    columns = (title, BarColumn(), state, TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, refresh_per_second=4)


def _describe_kept_record(record: Record, out: Path, failure_file: Path) -> str:
    """Describe where the record of a failed run is if that of an earlier successful run stays."""
    return Message(
        "this run ended with {status}, exit code {code}; its record is {file}; the record of the earlier successful "
        "run stays as it was: {earlier}",
        status=record.status,
        code=exit_code([record]),
        file=failure_file,
        earlier=f"{out / record.id}.json",
    )
