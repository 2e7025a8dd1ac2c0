"""Process of a rehearsal: a few steps and a few answers of a job, timed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench.execution import phases
from bench.execution.budget import BudgetTracker
from bench.execution.forecast.rehearsal import RESULT_FILE, Rehearsal
from bench.execution.job import Job
from bench.execution.phases import LoadedRun, RunState
from bench.measurement.determinism import seed_all
from bench.measurement.general_text import GeneralText
from bench.measurement.meter import MAX_TIMING_SECONDS, synchronize
from bench.method import ProgressState, Unsupported
from bench.modeling.loaded_model import LoadedModel
from bench.records import BudgetLimits, Phase

T = TypeVar("T")
STEPS = 4
TRAIN_ROWS = 64
VALIDATION_ROWS = 8
STEP_OPERATIONS = 1e11
"""Floating-point operations of a step on a processor at most; the step has fewer rows instead."""
OPERATIONS_PER_TOKEN = 6
"""Floating-point operations of training per weight and token (https://arxiv.org/abs/2001.08361)."""
GENERAL_TEXT_TOKENS = 512
"""Tokens of general text that are read; the whole text takes in proportion."""
MAX_QUERIES = 32
FEWER_QUERIES = 16
FAST_QUERY_S = 0.5
"""Seconds of one query up to which a batch of `MAX_QUERIES` is timed, and of `FEWER_QUERIES` otherwise."""
SLOW_QUERY_S = 15.0
"""Seconds of one query from which only two are timed together."""
MAX_VALIDATION_QUESTIONS = 100
MAX_QUESTIONS_PER_DRAW = 50
"""Validation questions that prompting asks of one prompt, and of each of several."""


class Fit(NamedTuple):
    """Seconds of fitting by part; `validation_s` are those of `VALIDATION_ROWS`."""

    setup_s: float
    token_s: float = 0.0
    example_s: float = 0.0
    validation_s: float = 0.0
    max_questions: int = 0


def rehearse_job(job: Job, new: Path, earlier_import: Phase | None = None) -> None:
    """Time parts of a job and write the figures into the folder `new`.

    Args:
        job: The job.
        new: Empty folder for the figures.
        earlier_import: Cost of the imports made before this process was forked; None after a cold start.
    """
    state = RunState(job, lambda progress: None)
    start = time.perf_counter()
    try:
        rehearsal = _measure(state, phases.load(state, earlier_import))
    except Unsupported:
        rehearsal = _unsupported(state, time.perf_counter() - start)
    (new / RESULT_FILE).write_text(rehearsal.model_dump_json(), "utf-8")


def _measure(state: RunState, loaded: LoadedRun) -> Rehearsal:
    """Return the figures of a loaded run."""
    job = state.job
    seed_all(job.spec.seed)
    few: Any = loaded.data
    validation = _typical(few.validation, [row.input for row in few.validation])[:VALIDATION_ROWS]
    data = dataclasses.replace(few, train=few.train[:TRAIN_ROWS], validation=validation)
    general_text_s = _general_text_seconds(job, loaded)
    row_tokens = _mean_row_tokens(loaded, data)
    trains = type(loaded.method).trains_weights and loaded.lm is not None
    fit = _fit(state, loaded, data, row_tokens) if trains else _fit_without_steps(state, loaded, data)
    _limit_answers(loaded, data, trains=trains)
    query_s, batch_s, row_s = _time_queries(state, loaded)
    return Rehearsal(
        import_s=state.meter.phases["import"].wall_s,
        load_s=state.meter.phases["load"].wall_s,
        general_text_s=general_text_s,
        row_tokens=row_tokens,
        query_s=query_s,
        batch_s=batch_s,
        row_s=row_s,
        batch_rows=_batch_rows(loaded, data),
        serves_adapter=hasattr(getattr(loaded.lm, "model", None), "peft_config"),
        setup_s=fit.setup_s,
        token_s=fit.token_s,
        example_s=fit.example_s,
        question_s=_question_seconds(fit, len(validation), batch_s, row_s),
        max_questions=fit.max_questions,
    )


def _question_seconds(fit: Fit, rows: int, batch_s: float, row_s: float) -> float:
    """Return the seconds of each validation question that the run asks.

    The run asks more of them at once than the rehearsal, so they take as much less as other queries do in a batch.
    """
    if not fit.validation_s:
        return 0.0
    larger_batch = (batch_s + fit.max_questions * row_s) / max(batch_s + rows * row_s, 1e-9)
    return fit.validation_s * larger_batch / fit.max_questions


def _typical(rows: Sequence[T], texts: Sequence[str]) -> list[T]:
    """Return the rows, those first whose texts are closest to the mean length.

    A run sorts its questions by length, so that a batch has little padding. Rows of equal length have little, too, and
    rows of the mean length take as long as others on average.
    """
    mean = sum(map(len, texts)) / max(len(texts), 1)
    order = sorted(range(len(rows)), key=lambda index: abs(len(texts[index]) - mean))
    return [rows[index] for index in order]


def _unsupported(state: RunState, seconds: float) -> Rehearsal:
    """Return the figures of a run that ends as unsupported after some seconds."""
    return Rehearsal(
        is_supported=False,
        import_s=state.meter.phases["import"].wall_s,
        load_s=seconds,
        general_text_s=0.0,
        row_tokens=0.0,
        query_s=0.0,
        batch_s=0.0,
        row_s=0.0,
        batch_rows=1,
        serves_adapter=False,
        setup_s=0.0,
        token_s=0.0,
        example_s=0.0,
        question_s=0.0,
        max_questions=0,
    )


def _fit(state: RunState, loaded: LoadedRun, data: Any, row_tokens: float) -> Fit:
    """Take a few training steps and time all but the first, which counts operations."""
    lm: Any = loaded.lm
    limits = state.job.spec.budget
    batch = limits.batch
    if not state.device.startswith("cuda"):
        row_operations = OPERATIONS_PER_TOKEN * lm.count_parameters()[0] * max(row_tokens, 1.0)
        batch = max(1, min(batch, int(STEP_OPERATIONS // row_operations)))
    events: list[ProgressState] = []
    budget = BudgetTracker(BudgetLimits(steps=STEPS, batch=batch), len(data.train), events.append)
    start = time.perf_counter()
    loaded.method.fit(lm, data, budget)
    synchronize(state.device)
    fit_s = time.perf_counter() - start - budget.validation_s
    ends = [event for event, before in zip(events[1:], events, strict=False) if event["tokens"] > before["tokens"]]
    token_s = 0.0
    if len(ends) > 1:
        first, last = ends[0], ends[-1]
        token_s = (last["spent_s"] - first["spent_s"]) / (last["tokens"] - first["tokens"])
    elif budget.tokens:
        token_s = fit_s / budget.tokens
    return Fit(max(fit_s - token_s * budget.tokens, 0.0), token_s=token_s)


def _fit_without_steps(state: RunState, loaded: LoadedRun, data: Any) -> Fit:
    """Fit a method that takes no training steps on a few rows."""
    lm: Any = loaded.lm
    budget = BudgetTracker(BudgetLimits(epochs=1000), len(data.train))
    start = time.perf_counter()
    loaded.method.fit(lm, data, budget)
    synchronize(state.device)
    fit_s = time.perf_counter() - start
    if budget.validation_s:
        has_draws = "draws" in (getattr(loaded.method, "fit_report_", None) or {})
        max_questions = MAX_QUESTIONS_PER_DRAW if has_draws else MAX_VALIDATION_QUESTIONS
        setup_s = max(fit_s - budget.validation_s, 0.0)
        return Fit(setup_s, validation_s=budget.validation_s, max_questions=max_questions)
    return Fit(0.0, example_s=fit_s / max(len(data.train), 1))


def _mean_row_tokens(loaded: LoadedRun, data: Any) -> float:
    """Return the mean tokens of a training row; 0 without a model."""
    lm = loaded.lm
    if lm is None:
        return 0.0
    lengths = [sum(map(len, lm.encode(data.prompt(row.input), data.completion(row)))) for row in data.train]
    return sum(lengths) / len(lengths)


def _general_text_seconds(job: Job, loaded: LoadedRun) -> float:
    """Estimate the seconds of reading the general text once; 0 if the run does not read it."""
    from bench.measurement import forgetting

    lm, text = loaded.lm, job.general_text or GeneralText.shipped()
    if lm is None or text is None or not (lm.can_generate and type(loaded.method).trains_weights):
        return 0.0
    windows = forgetting.cut_windows(lm, text.texts)
    total = sum(len(targets) for _, targets in windows)
    few, tokens = [], 0
    for window in windows:
        few.append(window)
        tokens += len(window[1])
        if tokens >= GENERAL_TEXT_TOKENS:
            break
    if not tokens:
        return 0.0
    lm.evaluate_loss(few[:1])
    start = time.perf_counter()
    lm.evaluate_loss(few)
    return (time.perf_counter() - start) / tokens * total


def _limit_answers(loaded: LoadedRun, data: Any, *, trains: bool) -> None:
    """Limit generation to the length of correct answers.

    A few training steps do not teach the model to end its answers.
    """
    lm: Any = loaded.lm
    config = getattr(lm, "generation_config", None)
    if not trains or config is None:
        return
    lengths = [len(lm.encode(data.prompt(row.input), data.completion(row))[1]) for row in data.train]
    typical = math.ceil((max(lengths) + sum(lengths) / len(lengths)) / 2)
    config.max_new_tokens = min(config.max_new_tokens, typical)


def _time_queries(state: RunState, loaded: LoadedRun) -> tuple[float, float, float]:
    """Return the seconds of one query, of a batch beside its rows, and of a row of a batch."""
    texts = [row.input for row in loaded.task.splits[state.job.spec.split]]
    questions = _typical(texts, texts)

    def seconds(part: Sequence[str]) -> float:
        start = time.perf_counter()
        loaded.method.predict(part)
        return time.perf_counter() - start

    first_s = seconds(questions[:1])
    query_s = seconds(questions[1:2]) if first_s < MAX_TIMING_SECONDS and len(questions) > 1 else first_s
    most = MAX_QUERIES if query_s <= FAST_QUERY_S else FEWER_QUERIES if query_s < SLOW_QUERY_S else 2
    count = min(most, len(questions))
    if count < 2:
        return query_s, 0.0, query_s
    fewer = max(count // 4, 1)  # more than one, because a batch goes on until its longest answer ends
    fewer_s = seconds(questions[:fewer]) if fewer > 1 else query_s
    row_s = max(seconds(questions[:count]) - fewer_s, 0.0) / (count - fewer)
    return query_s, max(fewer_s - fewer * row_s, 0.0), row_s


def _batch_rows(loaded: LoadedRun, data: Any) -> int:
    """Return the rows that the run answers at once."""
    from bench.measurement import memory_estimate

    lm = loaded.lm
    if not isinstance(lm, LoadedModel):
        return max(len(loaded.task.splits["test"]), 1)
    longest = max(len(lm.tokens(data.prompt(row.input))) for row in data.train) if hasattr(lm, "tokens") else 1
    return memory_estimate.max_batch_rows(lm.model, longest + int(getattr(lm, "max_new_tokens", 0)))
