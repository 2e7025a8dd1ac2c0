"""Tuning: the same number of trials for every method, judged on validation only; Optuna says what to try next."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from bench.execution.job import Job
from bench.method import ProgressCallback
from bench.records.record import Record, SearchRange, Trial, Tuning

SEED = 1_000_000  # of all trials: no run that counts has it
FOLDER = "trials"

Wanted = tuple[str, int | None]
"""A method, and the training examples it is granted."""
Launch = Callable[..., tuple[Record, bool]]
"""As `bench.launch.launch`."""


class Tuner:
    """Finds each method's hyper-parameters once per training size, for all seeds, whichever thread asks first."""

    def __init__(self, out: Path, launch: Launch) -> None:
        self.out, self.launch = out, launch
        self.found: dict[Wanted, Tuning] = {}
        self.searching: defaultdict[Wanted, Lock] = defaultdict(Lock)

    def with_best_params(self, job: Job, show: ProgressCallback) -> Job:
        """The job with what did best on validation; as it is where nothing is to be tuned or no trial succeeded."""
        if job.spec.budget.trials is None:
            return job
        wanted = job.spec.method.ref, job.spec.budget.examples
        with self.searching[wanted]:
            if wanted not in self.found:
                self.found[wanted] = run_trials(job, self.out / FOLDER, self.launch, show)
        tuning = self.found[wanted]
        scored = [attempt for attempt in tuning.trials if attempt.score is not None]
        best = max(scored, key=lambda attempt: attempt.score or 0.0, default=None)
        return _changed(job, {"tuning": tuning}, best.params if best else job.spec.method.params)


def run_trials(job: Job, out: Path, launch: Launch, show: ProgressCallback) -> Tuning:
    """Try the method's defaults, then what Optuna's TPE proposes, each in a process of its own, within the budget.

    Trials that have a record in `out` are not run again. What fails or diverges counts as a trial. A method with
    nothing to look for is not tried at all.
    """
    import optuna

    if not job.ranges:
        return Tuning(ranges={}, trials=())
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({name: job.spec.method.params[name] for name in job.ranges})
    alone = job.spec.budget.model_copy(update={"trials": None})  # so that a longer search begins with a shorter one's
    attempts = []
    for number in range(job.spec.budget.trials or 0):
        trial = study.ask()
        params = job.spec.method.params | {name: _draw(trial, name, place) for name, place in job.ranges.items()}
        told = _telling(show, number + 1)
        spec = {"seed": SEED, "split": "validation", "budget": alone}
        record, _ = launch(_changed(job, {"save_artifacts": False}, params, spec), out, show=told)
        attempts.append(Trial(params=params, status=record.status, score=_score(record)))
        failed = None if attempts[-1].score is not None else optuna.trial.TrialState.FAIL
        study.tell(trial, attempts[-1].score, state=failed)
    return Tuning(ranges=job.ranges, trials=tuple(attempts))


def _telling(show: ProgressCallback, number: int) -> ProgressCallback:
    return lambda state: show(state | {"trial": number})


def _changed(job: Job, changes: dict[str, Any], params: dict[str, Any], spec: dict[str, Any] | None = None) -> Job:
    method = job.spec.method.model_copy(update={"params": params})
    return job.model_copy(update=changes | {"spec": job.spec.model_copy(update={"method": method} | (spec or {}))})


def _draw(trial: Any, name: str, place: SearchRange) -> Any:
    if place.choices is not None:
        return trial.suggest_categorical(name, place.choices)
    if place.integer:
        return trial.suggest_int(name, place.low, place.high, log=place.log)
    return trial.suggest_float(name, place.low, place.high, log=place.log)


def _score(record: Record) -> float | None:
    score = record.scores.get(record.spec.task.metric)
    return score if record.status == "ok" and score is not None and math.isfinite(score) else None
