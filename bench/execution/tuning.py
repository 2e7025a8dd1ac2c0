"""Tuning: the same number of trials for every method, scored on validation only.

Optuna proposes the hyper-parameters of the trials.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from bench.execution.job import Job
from bench.method import ProgressCallback, ProgressState
from bench.records import Record, SearchRange, Trial, Tuning

TRIAL_SEED = 1_000_000
"""Seed of all trials, which no other run has."""
TRIALS_FOLDER = "trials"

TuningKey = tuple[str, int | None]
"""Reference of a method and its number of training examples."""
Launch = Callable[..., tuple[Record, bool]]
"""Signature of `bench.execution.launcher.launch_run`."""


class Tuner:
    """Tunes each method once per training size, for all its seeds.

    May be used from several threads.
    """

    def __init__(self, out: Path, launch: Launch) -> None:
        """Keep the records of trials in a folder below `out`; `launch` runs them."""
        self._out = out
        self._launch = launch
        self._tunings: dict[TuningKey, Tuning] = {}
        self._locks: defaultdict[TuningKey, Lock] = defaultdict(Lock)

    def with_best_params(self, job: Job, on_progress: ProgressCallback) -> Job:
        """Return the job with the hyper-parameters that scored best on validation.

        The hyper-parameters stay as they are if no trial succeeded; the job stays as it is if its budget has no
        trials.
        """
        if job.spec.budget.trials is None:
            return job
        key = job.spec.method.ref, job.spec.budget.examples
        with self._locks[key]:
            if key not in self._tunings:
                self._tunings[key] = run_trials(job, self._out / TRIALS_FOLDER, self._launch, on_progress)
        tuning = self._tunings[key]
        scored = [trial for trial in tuning.trials if trial.score is not None]
        best = max(scored, key=lambda trial: trial.score or 0.0, default=None)
        tuned_job = _with_params(job, best.params if best else job.spec.method.params)
        return tuned_job.model_copy(update={"tuning": tuning})


def run_trials(job: Job, out: Path, launch: Launch, on_progress: ProgressCallback) -> Tuning:
    """Try the default hyper-parameters, then proposals of Optuna's TPE sampler.

    The budget of the job says how many are tried.

    Each trial runs in a process of its own; one that has a record in `out` is not run again. A trial that fails or
    diverges counts as a trial. A method without search ranges has no trials.
    """
    import optuna

    if not job.ranges:
        return Tuning(ranges={}, trials=())
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    defaults = {name: job.spec.method.params[name] for name in job.ranges}
    # A default such as `auto` may lie outside of the range; the sampler then learns nothing from its trial.
    is_in_ranges = all(_contains(job.ranges[name], value) for name, value in defaults.items())
    if is_in_ranges:
        study.enqueue_trial(defaults)
    trials = []
    for number in range(1, (job.spec.budget.trials or 0) + 1):
        optuna_trial = study.ask() if number > 1 or is_in_ranges else None
        suggested = defaults
        if optuna_trial is not None:
            suggested = {name: _suggest(optuna_trial, name, search_range) for name, search_range in job.ranges.items()}
        params = job.spec.method.params | suggested
        record, _ = launch(_trial_job(job, params), out, on_progress=_with_trial_number(on_progress, number))
        score = _score(record)
        trials.append(Trial(params=params, status=record.status, score=score))
        if optuna_trial is not None:
            study.tell(optuna_trial, score, state=optuna.trial.TrialState.FAIL if score is None else None)
    return Tuning(ranges=job.ranges, trials=tuple(trials))


def _with_trial_number(on_progress: ProgressCallback, number: int) -> ProgressCallback:
    def report(state: ProgressState) -> None:
        on_progress({**state, "trial": number})

    return report


def _trial_job(job: Job, params: dict[str, Any]) -> Job:
    """Return the job of a trial, which answers validation and saves no artifact.

    Its budget does not contain the number of trials, so that a longer search continues a shorter one.
    """
    trial_job = _with_params(job, params)
    limits = job.spec.budget.model_copy(update={"trials": None})
    spec = trial_job.spec.model_copy(update={"seed": TRIAL_SEED, "split": "validation", "budget": limits})
    return trial_job.model_copy(update={"save_artifacts": False, "spec": spec})


def _with_params(job: Job, params: dict[str, Any]) -> Job:
    method = job.spec.method.model_copy(update={"params": params})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"method": method})})


def _contains(search_range: SearchRange, value: Any) -> bool:
    """Tell if tuning may propose a value."""
    if search_range.choices is not None:
        return value in search_range.choices
    return isinstance(value, int | float) and search_range.low <= value <= search_range.high  # type: ignore[operator]


def _suggest(optuna_trial: Any, name: str, search_range: SearchRange) -> Any:
    if search_range.choices is not None:
        return optuna_trial.suggest_categorical(name, search_range.choices)
    if search_range.integer:
        return optuna_trial.suggest_int(name, search_range.low, search_range.high, log=search_range.log)
    return optuna_trial.suggest_float(name, search_range.low, search_range.high, log=search_range.log)


def _score(record: Record) -> float | None:
    """Return the main metric on validation; None if the trial failed or diverged."""
    score = record.all_scores.get(record.spec.task.metric)
    return score if record.status == "ok" and score is not None and math.isfinite(score) else None
