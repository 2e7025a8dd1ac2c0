"""Forecast of the seconds of each planned run, from earlier runs or a rehearsal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench import registry
from bench.data import hub_tasks
from bench.execution import fork_client, launcher
from bench.execution.forecast import rehearsal
from bench.execution.forecast.earlier_runs import EarlierRuns, planned_steps, train_size
from bench.execution.forecast.rehearsal import Rehearsal
from bench.execution.job import Job
from bench.measurement.meter import MAX_TIMED_QUERIES, MAX_TIMING_SECONDS, MIN_TIMED_QUERIES
from bench.method import Method, ProgressCallback
from bench.records import Cost
from bench.task import SHIFTED, Task

Source = Literal["existing record", "earlier run", "rehearsal", "rehearsal of a similar method", "not known"]

RANGES: dict[Source, tuple[float, float]] = {
    "existing record": (1.0, 1.0),
    "earlier run": (0.8, 1.3),
    "rehearsal": (0.65, 1.5),
    "rehearsal of a similar method": (0.5, 2.0),
}
"""Lowest and highest seconds of a run as multiples of the expected ones, by the source of the forecast."""
OTHER_S = 1.5
"""Seconds of a run outside of its phases: start, reading the task, writing the record, and the rate of the machine."""
MERGE_S = 1.0
"""Seconds of loading and merging an adapter, beside the queries that it answers."""
CURVE_SHARE = 0.05
"""Seconds of the training curve as a share of those of the steps."""
FULL_TRAINING_FACTOR = 1.5
"""Computation of a training step of all weights, as a multiple of that of a step with a frozen base: three passes for
two (https://arxiv.org/abs/2001.08361)."""


@dataclass(frozen=True)
class JobForecast:
    """Expected seconds of one run, with the imports that no earlier run of the command makes."""

    seconds: float | None
    """None if nothing on this machine tells them."""
    low: float | None
    high: float | None
    source: Source

    @property
    def range_s(self) -> tuple[float, float, float] | None:
        """Expected, lowest and highest seconds; None if not known."""
        if self.seconds is None or self.low is None or self.high is None:
            return None
        return self.seconds, self.low, self.high


NOT_KNOWN = JobForecast(None, None, None, "not known")


@dataclass(frozen=True)
class TotalForecast:
    """Expected seconds of all runs of a command."""

    runs: int
    """Runs that have no finished record yet."""
    existing: int
    """Runs that have one, so that nothing is done for them."""
    seconds: float
    """Sum over the runs whose seconds are known."""
    low: float
    high: float
    unknown_runs: int
    """Runs whose seconds are not known."""


def forecast_jobs(
    jobs: Sequence[Job],
    out: Path,
    *,
    force: bool = False,
    runs_follow: bool = False,
    on_progress: ProgressCallback = lambda state: None,
) -> list[JobForecast]:
    """Return the expected seconds of each job on this machine, in the order of the jobs.

    An earlier run of the same method with the same task and model in `out` tells them best. Otherwise a short
    rehearsal does, or that of a method that trains similarly; figures of rehearsals are kept in the user's cache.
    Torch is imported in other processes only.

    Args:
        jobs: Jobs of `plan_jobs`.
        out: Folder of the records, which may be missing.
        force: Count jobs that have a finished record as jobs to run.
        runs_follow: The runs follow in this thread, so imports made for a rehearsal are not made again.
        on_progress: Receives what is being measured.
    """
    forecaster = _Forecaster(jobs, out, on_progress)
    forecasts = [
        JobForecast(0.0, 0.0, 0.0, "existing record")
        if not force and launcher.find_finished_record(job, out) is not None
        else forecaster.forecast(job)
        for job in jobs
    ]
    if runs_follow:
        forecaster.count_imports_as_made()
    return [forecaster.with_imports(job, forecast) for job, forecast in zip(jobs, forecasts, strict=True)]


def total_forecast(forecasts: Iterable[JobForecast]) -> TotalForecast:
    """Return the sum of forecasts."""
    planned = [forecast for forecast in forecasts if forecast.source != "existing record"]
    existing = sum(forecast.source == "existing record" for forecast in forecasts)
    return TotalForecast(
        runs=len(planned),
        existing=existing,
        seconds=sum(forecast.seconds or 0.0 for forecast in planned),
        low=sum(forecast.low or 0.0 for forecast in planned),
        high=sum(forecast.high or 0.0 for forecast in planned),
        unknown_runs=sum(forecast.seconds is None for forecast in planned),
    )


class _Forecaster:
    """Forecasts jobs of one task and model, and remembers what they share."""

    def __init__(self, jobs: Sequence[Job], out: Path, on_progress: ProgressCallback) -> None:
        self._on_progress = on_progress
        self._earlier_runs = EarlierRuns(jobs, out)
        self._task: Task | None = None
        self._rehearsals: dict[str, Rehearsal | None] = {}
        self._similar: dict[bool, tuple[frozenset[str], Rehearsal]] = {}
        """Modules and figures of methods that train; the keys are True for those that change weights of the base."""
        self._read_general_text = False
        self._tuned: set[tuple[str, int | None]] = set()
        self._import_s: dict[frozenset[str], float] = {}
        """Seconds of importing the modules of runs so far."""
        self._rehearsed_import_s: dict[frozenset[str], float] = {}
        """Seconds of importing the modules of the rehearsals that this object has made."""
        self._job_import_s: dict[str, float] = {}

    def forecast(self, job: Job) -> JobForecast:
        """Return the expected seconds of a job, without its imports."""
        run = self._forecast_run(job)
        trials = job.spec.budget.trials
        key = job.spec.method.ref, job.spec.budget.examples
        if not trials or not job.ranges or key in self._tuned or run.seconds is None:
            return run
        self._tuned.add(key)
        return _scaled(run, 1 + trials)

    def count_imports_as_made(self) -> None:
        """Count the imports of the rehearsals as made by earlier runs of the command."""
        self._import_s |= self._rehearsed_import_s

    def with_imports(self, job: Job, forecast: JobForecast) -> JobForecast:
        """Return the forecast with the imports that no earlier run of the command has made."""
        method = registry.find_method(job.spec.method.ref)
        seconds = self._job_import_s.get(job.spec.id)
        if forecast.source == "existing record" or forecast.seconds is None or seconds is None:
            return forecast
        if fork_client.can_fork() and job.accelerate is None:
            modules = frozenset(method.preload_modules)
            # As in `fork_client`, a process that has imported nothing is no parent of others.
            made = [
                import_s
                for other, import_s in self._import_s.items()
                if other == modules or (other and other < modules)
            ]
            self._import_s[modules] = max([seconds, *made])
            seconds = max(seconds - max(made, default=0.0), 0.0)
        return replace(
            forecast,
            seconds=forecast.seconds + seconds,
            low=(forecast.low or 0.0) + seconds * RANGES["earlier run"][0],
            high=(forecast.high or 0.0) + seconds * RANGES["earlier run"][1],
        )

    def _forecast_run(self, job: Job) -> JobForecast:
        """Return the expected seconds of one run of a job."""
        task = self._load_task(job)
        record = self._earlier_runs.closest(job, len(task.splits["train"]))
        if record is not None and record.cost is not None:
            imports = record.cost.phases.get("import")
            self._job_import_s[job.spec.id] = imports.wall_s if imports else 0.0
            return _with_range(_seconds_like(record.cost, job, task), "earlier run")
        method = registry.find_method(job.spec.method.ref)
        own = self._rehearse(job, method)
        similar, factor = own, 1.0
        if similar is None:
            similar, factor = self._find_similar(method)
        if similar is None:
            return NOT_KNOWN
        self._job_import_s[job.spec.id] = similar.import_s
        seconds = _seconds_by(similar, job, task, factor)
        if job.questions is None:
            seconds += self._general_text_seconds(similar)
        return _with_range(seconds, "rehearsal" if own is not None else "rehearsal of a similar method")

    def _rehearse(self, job: Job, method: type[Method]) -> Rehearsal | None:
        """Return the figures of a rehearsal of the method.

        None if it cannot be rehearsed, or trains like one that has been.
        """
        ref = job.spec.method.ref
        if ref not in self._rehearsals:
            figures = rehearsal.find_rehearsal(job)
            if figures is None and self._find_similar(method)[1] != 1.0:
                figures = rehearsal.rehearse(job, self._on_progress)
                if figures is not None:
                    self._rehearsed_import_s[frozenset(method.preload_modules)] = figures.import_s
            self._rehearsals[ref] = figures
            if figures is not None and figures.token_s:
                self._similar.setdefault(method.changes_base_weights, (frozenset(method.preload_modules), figures))
        return self._rehearsals[ref]

    def _find_similar(self, method: type[Method]) -> tuple[Rehearsal | None, float]:
        """Return the figures of a method that trains similarly, and the factor of its step.

        A method that does not import what another one trains with does not train like it.
        """
        trains_all = method.changes_base_weights
        for other, factor in ((trains_all, 1.0), (not trains_all, FULL_TRAINING_FACTOR ** (1 if trains_all else -1))):
            modules, figures = self._similar.get(other, (None, None))
            if modules is not None and method.trains_weights and modules <= set(method.preload_modules):
                return figures, factor
        return None, 0.0

    def _general_text_seconds(self, figures: Rehearsal) -> float:
        """Return the seconds of reading the general text, which the first run reads twice."""
        is_first, self._read_general_text = not self._read_general_text, True
        return figures.general_text_s * (2 if is_first else 1)

    def _load_task(self, job: Job) -> Task:
        if self._task is None:
            self._task = hub_tasks.load_task(registry.find_task(job.spec.task.ref), fetch=False)
        return self._task


def _seconds_like(cost: Cost, job: Job, task: Task) -> float:
    """Return the seconds of a job by an earlier run, with fitting in proportion to the budget.

    Imports are not included.
    """
    usage, train_rows = cost.budget_usage, len(task.splits["train"])
    factor = 1.0
    if usage is not None and usage.steps:
        factor = planned_steps(job, train_rows) / usage.steps
    elif usage is not None and usage.train_size and not usage.validation_s:
        factor = train_size(job, train_rows) / usage.train_size
    seconds = OTHER_S
    for name, phase in cost.phases.items():
        if name == "fit":
            seconds += _limited(phase.wall_s * factor, job)
        elif name == "load" or (name != "import" and job.questions is None):
            seconds += phase.wall_s
    return seconds


def _seconds_by(figures: Rehearsal, job: Job, task: Task, training_factor: float) -> float:
    """Return the seconds of a job by a rehearsal, without imports and general text."""
    if not figures.is_supported:
        return OTHER_S + figures.load_s
    limits, examples = job.spec.budget, train_size(job, len(task.splits["train"]))
    fit_s = figures.setup_s + figures.example_s * examples
    fit_s += figures.question_s * min(len(task.splits["validation"]), figures.max_questions)
    if figures.token_s:
        bounds = [limits.epochs * examples if limits.epochs else math.inf]
        bounds.append(limits.steps * min(limits.batch, examples) if limits.steps else math.inf)
        tokens = min(min(bounds) * figures.row_tokens, limits.tokens or math.inf)
        fit_s += _limited(tokens * figures.token_s * training_factor * (1 + CURVE_SHARE), job)
    queries = len(task.splits[job.spec.split] if job.questions is None else job.questions)
    answered = queries
    if job.questions is None and job.spec.split == "test":
        answered += len(task.splits.get(SHIFTED, ()))
    predict_s = math.ceil(answered / figures.batch_rows) * figures.batch_s + answered * figures.row_s
    seconds = OTHER_S + figures.load_s + fit_s + predict_s
    if job.questions is not None:  # the method is trained again to answer these, and nothing is measured
        return seconds
    timed = min(MAX_TIMED_QUERIES, max(MIN_TIMED_QUERIES, math.ceil(MAX_TIMING_SECONDS / max(figures.query_s, 1e-6))))
    timed = min(timed, queries)
    seconds += (timed + 1) * figures.query_s
    if figures.serves_adapter:
        seconds += MERGE_S + (2 * timed + 1) * figures.query_s
    return seconds


def _limited(fit_s: float, job: Job) -> float:
    """Return seconds of training within the limit of the budget."""
    return min(fit_s, job.spec.budget.seconds or math.inf)


def _with_range(seconds: float, source: Source) -> JobForecast:
    low, high = RANGES[source]
    return JobForecast(seconds, seconds * low, seconds * high, source)


def _scaled(forecast: JobForecast, factor: float) -> JobForecast:
    seconds, low, high = ((value or 0.0) * factor for value in (forecast.seconds, forecast.low, forecast.high))
    return replace(forecast, seconds=seconds, low=low, high=high)
