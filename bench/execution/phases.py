"""Phases of one run as functions over its state: load, fit, save, predict, measure."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from bench import registry
from bench.data import hub_tasks
from bench.execution.budget import BudgetTracker
from bench.execution.job import Job
from bench.measurement import adapter_serving, determinism, device, environment, memory_limit
from bench.measurement.determinism import DeterminismWatch, seed_all
from bench.measurement.forgetting import ForgettingProbe
from bench.measurement.general_text import GeneralText
from bench.measurement.meter import MIB, Meter, measure_latency, synchronize
from bench.method import LM, Diverged, Method, ProgressCallback, TrainingData, Unsupported
from bench.modeling import checkpoint, file_digest, loaded_model
from bench.records import (
    AdapterServing,
    Answering,
    BudgetLimits,
    FitReport,
    Forgetting,
    Parameters,
    Phase,
    Sample,
    artifacts,
)
from bench.records.base import describe_error
from bench.records.labels import AnswerLabels
from bench.task import SHIFTED, Task, TaskRow
from bench.training import distributed
from bench.user_code import is_interrupt

if TYPE_CHECKING:
    from bench.model_metrics.rating import Rating


@dataclass
class RunState:
    """Job, instruments and results of one run.

    Each phase adds its results, so the record of a failed run holds what the phases before the failure have measured.
    """

    job: Job
    on_progress: ProgressCallback
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    background_load: environment.BackgroundLoad = field(default_factory=environment.BackgroundLoad)
    meter: Meter = field(default_factory=Meter)
    device: str = "cpu"
    """Torch's name of the device; `cpu` for a method that needs no torch."""
    device_name: str = "cpu"
    """Name of the GPU, or torch's name of another device.

    It is read when the run begins, because a device that an error has broken no longer tells it.
    """
    determinism: DeterminismWatch | None = None
    """Operations without a deterministic algorithm; None on devices where torch does not tell them."""
    method: Method | None = None
    """None until the import phase has made it."""
    budget: BudgetTracker | None = None
    """None until the fit phase begins."""
    parameters: Parameters | None = None
    artifact_bytes: int | None = None
    answering: Answering | None = None
    adapter_serving: AdapterServing | None = None
    adapter_serving_error: str | None = None
    forgetting: Forgetting | None = None
    fit_report: dict[str, Any] | None = None
    """What the method reports about its fit; None if nothing."""
    estimated_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes that a phase is expected to add to the memory held at its start, by phase."""
    samples: tuple[Sample, ...] = ()
    rating_reports: dict[str, dict[str, float]] | None = None
    """Seconds of each metric by a model, and how far it can be trusted; None without such metrics."""
    labels: AnswerLabels | None = None
    """Closed labels of the task; None for open answers, and until the answers are scored."""
    corpus_values: dict[str, tuple[float, ...]] | None = None
    """Jackknife values of metrics of all answers of which only a function is known; None without such metrics."""
    corpus_text_metrics: tuple[str, ...] = ()
    """Metrics of all answers that compare texts and are computed from the samples."""
    shifted_samples: tuple[Sample, ...] = ()
    """Answers to the questions of another time or source; empty if the task has none."""
    shifted_corpus_values: dict[str, tuple[float, ...]] | None = None
    """The same as `corpus_values` for these."""


@dataclass
class LoadedRun:
    """Method, model and data of a run after its load phase."""

    method: Method
    lm: LM | None
    """None for a method that needs no model."""
    task: Task
    data: TrainingData
    base: checkpoint.Checkpoint


def load(state: RunState, earlier_import: Phase | None = None) -> LoadedRun:
    """Run the phases `import` and `load`.

    Args:
        state: State of the run, without any results.
        earlier_import: Cost of the imports made before this process was forked; None after a cold start.
    """
    spec = state.job.spec
    state.on_progress({"phase": "import"})
    with state.meter.phase("import", since_process_start=True):
        method, task, model_folder = _import_and_check(state)
    import_phase = state.meter.phases["import"].continued_from(earlier_import)
    state.meter = Meter(state.device, state.job.processes)
    state.meter.add_host_phase("import", import_phase)
    if "torch" in sys.modules:
        # After the meter, which measures the context of CUDA: asking for the name would create it.
        state.device_name = device.device_name(state.device)
    base = checkpoint.Checkpoint(model_folder, spec.base.dtype, state.device, spec.decoding, spec.prompt)
    if spec.budget.memory is not None:
        context_bytes = round((state.meter.context_mib or 0) * MIB)
        memory_limit.set_memory_limit(spec.budget.memory, state.device, context_bytes)
    state.on_progress({"phase": "load"})
    seed_all(spec.seed)
    if base.quantization and method.changes_base_weights:
        raise Unsupported(
            f"it trains weights of the base model, which are quantized ({base.quantization}); "
            "use qlora, or the model that this one was made from"
        )
    with state.meter.phase("load"):
        lm = _load_model(method, base)
    if lm is not None:
        from bench.measurement import memory_estimate

        state.estimated_bytes["load"] = memory_estimate.model_bytes(lm.model)
    chat = lm.chat if isinstance(lm, loaded_model.LoadedModel) else None
    return LoadedRun(method, lm, task, task.training_data(spec.seed, spec.budget.examples, chat), base)


def _load_model(method: Method, base: checkpoint.Checkpoint) -> LM | None:
    """Return the model as the method loads it, once it is known that methods can read it."""
    lm = method.load(base)
    if isinstance(lm, loaded_model.LoadedModel):
        lm.check_reading()
    return lm


def _import_and_check(state: RunState) -> tuple[Method, Task, Path]:
    """Import the method and its modules; return method, task and model folder.

    Raises:
        RuntimeError: If task or model differ from those that the run was planned with.
    """
    job, spec = state.job, state.job.spec
    method_class = registry.find_method(spec.method.ref)
    for module in method_class.preload_modules:
        importlib.import_module(module)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(environment.compute_threads())
        state.device = device.torch_device(job.device, distributed.local_rank(job.processes))
        state.device_name = state.device  # until the meter has measured the context, in `load`
        state.determinism = determinism.use_deterministic_algorithms(state.device)
        distributed.join_group(job.processes, state.device)
    task = hub_tasks.load_task(registry.find_task(spec.task.ref), fetch=False)
    model_folder = registry.find_model(spec.base.ref)
    file_digest.add_known_digests(job.file_digests)
    if (task.sha256, checkpoint.weights_digest(model_folder)) != (spec.task.sha256, spec.base.sha256):
        raise RuntimeError("the task or the model was changed after the run was planned; run the command again")
    state.method = method_class(**spec.method.params)
    return state.method, task, model_folder


def fit(state: RunState, loaded: LoadedRun, limits: BudgetLimits) -> None:
    """Run the phase `fit` within the limits.

    At its end the process leaves the group of ranks that train together.
    """
    distributed.barrier()
    state.on_progress({"phase": "fit"})
    seed_all(state.job.spec.seed)
    with state.meter.phase("fit"):
        state.budget = BudgetTracker(limits, len(loaded.data.train), state.on_progress)
        _fit_method(state, loaded)
        synchronize(state.device)
        state.budget.stop()
    _free_training_memory(loaded.lm)
    state.fit_report = read_fit_report(loaded.method)
    check_training(loaded.method, loaded.lm, state.budget.steps)
    # The processor time of the other ranks belongs to this run and is no background load.
    state.background_load.exclude(distributed.leave_group())


def _fit_method(state: RunState, loaded: LoadedRun) -> None:
    """Fit the method; if memory runs out after no step was tried, fit again from the start.

    The second time, steps are tried in smaller and smaller micro-batches until one fits.
    """
    budget = state.budget
    assert budget is not None
    try:
        loaded.method.fit(cast(LM, loaded.lm), loaded.data, budget)  # a method that loads no model ignores it
        return
    except Exception as error:
        if budget.tried_memory is not False or not memory_limit.is_out_of_memory(error):
            raise
    # The second time is outside of `except`, because the traceback keeps the tensors of the first alive.
    loaded.method = state.method = type(loaded.method)(**state.job.spec.method.params)
    loaded.lm = None
    gc.collect()
    memory_limit.release_cached_memory()
    seed_all(state.job.spec.seed)
    loaded.lm = _load_model(loaded.method, loaded.base)
    seed_all(state.job.spec.seed)
    state.budget = budget.restarted()
    loaded.method.fit(cast(LM, loaded.lm), loaded.data, state.budget)


def read_fit_report(method: Method) -> dict[str, Any] | None:
    """Return what a fitted method reports about its fit, for the record; None if nothing.

    Raises:
        TypeError: The report is no dict of texts, numbers and truth values on one line.
    """
    try:
        return TypeAdapter(FitReport | None).validate_python(getattr(method, "fit_report_", None))
    except ValidationError as error:
        raise TypeError(
            f"fit_report_ must be a dict of texts, numbers and truth values: {describe_error(error)}"
        ) from None


def _free_training_memory(lm: LM | None) -> None:
    """Free gradients, and objects of training that only refer to each other.

    Optimizers and schedulers do, and what they hold would count as memory of answering.
    """
    for weight in lm.model.parameters() if lm else ():
        weight.grad = None
    gc.collect()


def check_training(method: Method, lm: LM | None, steps: int) -> None:
    """Check that training has not diverged, whichever loop trained.

    Args:
        method: The fitted method.
        lm: Its model.
        steps: Optimizer steps done.

    Raises:
        Diverged: A validation loss of the training curve or a trained weight is not finite.
    """
    for point in getattr(method, "curve_", ()):
        if point.validation_loss is None:  # a point of the curve holds no number that is not finite
            raise Diverged(point.step, "the validation loss")
    trained = [weight for weight in lm.model.parameters() if weight.requires_grad] if lm else []
    if not all(bool(weight.isfinite().all()) for weight in trained):
        raise Diverged(steps, "a trained weight")


def save(state: RunState, loaded: LoadedRun, folder: Path) -> None:
    """Save the artifact into an empty folder; count its bytes and the parameters."""
    loaded.method.save(folder)
    state.artifact_bytes, saved_parameters = artifacts.folder_bytes(folder)
    if loaded.lm is not None:
        total, trainable = loaded.lm.count_parameters()
        state.parameters = Parameters(total=total, trainable=trainable, saved=saved_parameters)


def predict(state: RunState, loaded: LoadedRun) -> None:
    """Run the phase `predict`: answer all questions of the split and score the answers."""
    lm = loaded.lm
    rows = _split_rows(state, loaded)
    if lm is not None:
        lm.token_usage = type(lm.token_usage)()  # tokens that the method generated while fitting do not count
    state.samples, state.corpus_values = _answer_rows(state, loaded, rows, "predict")
    usage = vars(lm.token_usage) | loaded_model.describe_context(lm) if lm is not None else {}
    state.labels = AnswerLabels.from_card(loaded.task.card)
    state.corpus_text_metrics = loaded.task.corpus_text_metrics
    state.answering = Answering(queries=len(rows), latency_ms=(), **usage)
    if lm is not None and state.answering.longest_prompt_tokens:
        state.estimated_bytes["predict"] = _estimate_predict_bytes(lm, state.answering)


def predict_shifted(state: RunState, loaded: LoadedRun) -> None:
    """Run the phase `shifted`: answer the shifted questions, if the task has any."""
    rows = loaded.task.splits.get(SHIFTED)
    if rows:
        state.shifted_samples, state.shifted_corpus_values = _answer_rows(state, loaded, rows, SHIFTED)


def _answer_rows(
    state: RunState, loaded: LoadedRun, rows: Sequence[TaskRow], phase: str
) -> tuple[tuple[Sample, ...], dict[str, tuple[float, ...]] | None]:
    """Answer rows in a phase and score the answers.

    Returns:
        The answers, and the jackknife values of the task's own metrics of all answers; None without such metrics.
    """
    state.on_progress({"phase": phase})
    with state.meter.phase(phase):
        answers = loaded.method.predict([row.input for row in rows])
    if len(answers) != len(rows):
        raise RuntimeError(f"predict gave {len(answers)} answers to {len(rows)} questions")
    stop_texts = state.job.spec.decoding.stop
    samples = tuple(_score(loaded.task, row, answer, stop_texts) for row, answer in zip(rows, answers, strict=True))
    if not loaded.task.has_corpus_values:
        return samples, None
    texts = [loaded.task.trim(answer, stop_texts) for answer in answers]
    return samples, _own_corpus_values(loaded.task, texts, rows)


def _own_corpus_values(task: Task, texts: Sequence[str], rows: Sequence[TaskRow]) -> dict[str, tuple[float, ...]]:
    """Return the jackknife values of `task.py` and of `evaluate`, of all answers together."""
    from bench.records import corpus_metrics

    def compute(positions: list[int]) -> dict[str, float]:
        return task.corpus_scores(
            [texts[index] for index in positions], [rows[index].references for index in positions]
        )

    values = corpus_metrics.jackknife_values_of(compute, len(rows))
    return {name: tuple(column.tolist()) for name, column in values.items()}


def _estimate_predict_bytes(lm: LM, answering: Answering) -> int:
    """Estimate the bytes that generating the answers adds, from the longest prompt."""
    from bench.measurement import memory_estimate

    assert answering.longest_prompt_tokens is not None
    prefix_tokens = answering.shared_prefix_tokens or 0
    row_tokens = answering.longest_prompt_tokens - prefix_tokens + lm.max_new_tokens
    max_rows = memory_estimate.max_batch_rows(lm.model, row_tokens, prefix_tokens=prefix_tokens)
    rows = min(max_rows, answering.queries)
    return memory_estimate.generation_bytes(lm.model, rows, row_tokens, prefix_tokens=prefix_tokens)


def _score(task: Task, row: TaskRow, raw: str, stop_texts: Sequence[str]) -> Sample:
    """Trim, parse and score one answer, in the same way for every method."""
    text = task.trim(raw, stop_texts)
    scores = task.score(text, row.references)
    return Sample(
        id=row.id, references=row.references, raw=raw, answer=task.parse(text), scores=scores, group=row.group
    )


def rate_answers(state: RunState, loaded: LoadedRun) -> None:
    """Score the answers by the models of metrics that the task names.

    It comes last and is no phase of the run's cost: its memory and its seconds are those of other models.
    """
    models = state.job.spec.task.metric_models
    if not models:
        return
    from bench.model_metrics import rating

    state.on_progress({"phase": "rate"})
    memory_limit.lift_memory_limit()
    splits = [(_split_rows(state, loaded), state.samples)]
    if state.shifted_samples:
        splits.append((loaded.task.splits[SHIFTED], state.shifted_samples))
    answered = [([row.input for row in rows], samples) for rows, samples in splits]
    ratings, *shifted_ratings = rating.rate_answers(models, state.device, answered)
    state.samples = _add_scores(state.samples, ratings)
    state.rating_reports = {metric: rated.report for metric, rated in ratings.items()}
    for rated in shifted_ratings:
        state.shifted_samples = _add_scores(state.shifted_samples, rated)


def _add_scores(samples: Sequence[Sample], ratings: Mapping[str, Rating]) -> tuple[Sample, ...]:
    """Return samples with the scores of ratings by metric."""
    rows = zip(*(rating.scores for rating in ratings.values()), strict=True)
    return tuple(
        sample.model_copy(update={"scores": sample.scores | dict(zip(ratings, row, strict=True))})
        for sample, row in zip(samples, rows, strict=True)
    )


def answer_questions(state: RunState, loaded: LoadedRun, questions: Sequence[str]) -> tuple[Sample, ...]:
    """Answer ad-hoc questions; nothing is scored or measured."""
    answers = loaded.method.predict(questions) if questions else []
    task, stop_texts = loaded.task, state.job.spec.decoding.stop
    return tuple(
        Sample(id=str(index), references=(), raw=raw, answer=task.parse(task.trim(raw, stop_texts)), scores={})
        for index, raw in enumerate(answers)
    )


def measure_query_latency(state: RunState, loaded: LoadedRun) -> list[str]:
    """Run the phase `latency`: answer some questions one at a time; return the answers."""
    assert state.answering is not None
    questions = [row.input for row in _split_rows(state, loaded)]
    state.on_progress({"phase": "latency"})
    with state.meter.phase("latency"):
        answers, latency_ms = measure_latency(loaded.method.predict, questions)
    state.answering = state.answering.model_copy(update={"latency_ms": latency_ms})
    return answers


def read_general_text_before(state: RunState, lm: LM | None) -> ForgettingProbe | None:
    """Run the phase `general_text_before`: the loss on general text before training.

    An earlier run with the same model may have measured it. Models of methods that train nothing are not measured.

    Returns:
        What `read_general_text_after` compares with; None without a decoder or without general text.
    """
    trains_weights = state.method is not None and state.method.trains_weights
    if lm is None or not lm.can_generate or not trains_weights:
        return None
    if (text := state.job.general_text or GeneralText.shipped()) is None:
        return None
    state.on_progress({"phase": "general_text_before"})
    with state.meter.phase("general_text_before"):
        probe = ForgettingProbe.measure_before(lm, text)
    if probe is not None:
        probe.keep(state.started, state.meter.phases["general_text_before"])
    return probe


def read_general_text_after(state: RunState, lm: LM | None, probe: ForgettingProbe | None) -> None:
    """Run the phase `general_text_after`: the loss on general text after training.

    Models that were not trained are not measured again.
    """
    if lm is None or probe is None or lm.count_parameters()[1] == 0:
        return
    state.on_progress({"phase": "general_text_after"})
    with state.meter.phase("general_text_after"):
        state.forgetting = probe.measure_after(lm)


def measure_adapter_serving(state: RunState, loaded: LoadedRun, saved: Path, answers: Sequence[str]) -> None:
    """Run the phase `adapter_serving`: load, switch and merge the saved adapter.

    This is the last phase, since it leaves the model changed.

    Args:
        state: State of the run.
        loaded: Method, model and data.
        saved: Folder of the saved artifact.
        answers: Answers of the latency phase, which the adapter should give again.
    """
    lm = loaded.lm
    if lm is None or not adapter_serving.can_serve(lm.model, saved):
        return
    questions = [row.input for row in _split_rows(state, loaded)][: len(answers)]
    state.on_progress({"phase": "adapter_serving"})
    try:
        # A device reports some errors only when the phase waits for it at its end, so the phase is inside of `try`.
        with state.meter.phase("adapter_serving"):
            measured = adapter_serving.measure_serving(lm.model, saved, questions, answers, loaded.method.predict)
        state.adapter_serving = measured
    except BaseException as error:  # all other results are complete by now; this failure must not discard them
        if is_interrupt(error):
            raise
        state.adapter_serving_error = f"{type(error).__name__}: {error}"


def _split_rows(state: RunState, loaded: LoadedRun) -> Sequence[TaskRow]:
    """Return the rows of the split that the run answers."""
    return loaded.task.splits[state.job.spec.split]
