"""Worker: runs one job in one process and writes its record.

Started as `python -m bench.execution.worker JOB NEW PROGRESS` by `bench.execution.child`, or forked by the fork server.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from bench.execution import phases
from bench.execution.job import Job
from bench.execution.phases import RunState
from bench.execution.progress import ProgressFile
from bench.measurement import environment, memory_limit
from bench.measurement.meter import MIB
from bench.method import Diverged, ProgressCallback, Unsupported
from bench.records import Cost, Env, Failure, Phase, Record, Sample, Samples, Status, artifacts
from bench.records.record import ShiftedAnswers
from bench.user_code import describe_exception, is_interrupt


def main(job_file: str, new: str, progress_file: str, earlier_import: Phase | None = None) -> None:
    """Run the job of a file and write its record into the folder `new`.

    Only a process that dies writes no record.

    Args:
        job_file: File of the job as JSON.
        new: Empty folder for the record and, if the job asks for it, the saved artifact.
        progress_file: File that holds the progress of the run.
        earlier_import: Cost of the imports made before this process was forked; None after a cold start.
    """
    job = Job.model_validate_json(Path(job_file).read_text("utf-8"))
    use_temporary_folder(Path(job_file).parent)
    if job.is_rehearsal:
        from bench.execution.forecast import rehearsal_worker

        rehearsal_worker.rehearse_job(job, Path(new), earlier_import)
        return
    with artifacts.record_writer(Path(new), job.save_artifacts) as (saved, write):
        record = run_job(job, ProgressFile(Path(progress_file)), saved, earlier_import)
        write_or_exit(write, record)


def use_temporary_folder(folder: Path) -> None:
    """Create temporary files in a folder of the launcher, which deletes it.

    This holds for this process and for those that it starts.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)


def write_or_exit(write: Callable[[Record], object], record: Record) -> None:
    """Write a record; if that fails, exit with the reason as the last line of the log."""
    try:
        write(record)
    except OSError as error:
        cause = f" (after {record.error.kind}: {record.error.message})" if record.error else ""
        raise SystemExit(f"the record cannot be written: {error}{cause}") from None


def run_job(
    job: Job, on_progress: ProgressCallback, saved: Path | None = None, earlier_import: Phase | None = None
) -> Record:
    """Run all phases of a job in this process and return the record, also if a phase fails.

    Args:
        job: The job.
        on_progress: Receives the progress of the run.
        saved: Empty folder that keeps the artifact; None for a temporary folder.
        earlier_import: Cost of the imports made before this process was forked; None after a cold start.
    """
    run_phases = partial(_run_phases, saved=saved, earlier_import=earlier_import)
    return record_run(RunState(job, on_progress), run_phases)


def record_run(state: RunState, run_phases: Callable[[RunState], None], *, measure_peak_flops: bool = True) -> Record:
    """Run the phases and return the record of the run.

    An exception of a phase becomes the status and the error of the record, which then has no answers and no scores.
    """
    status: Status = "ok"
    failure = None
    try:
        run_phases(state)
    except BaseException as error:  # `sys.exit` in a method or a task is a failure like any other
        if is_interrupt(error):
            raise
        status, failure = _describe_failure(state, error)
    samples = state.samples if status == "ok" else ()
    metrics = samples[0].scores if samples else ()
    spec = state.job.spec
    return Record(
        id=spec.id,
        status=status,
        spec=spec,
        command=state.job.command,
        scores=_mean_scores(samples),
        corpus_scores=_corpus_scores(state, samples, state.corpus_values) if metrics else None,
        corpus_values=state.corpus_values if metrics else None,
        labels=state.labels if metrics else None,
        rating_reports=state.rating_reports if metrics else None,
        cost=_measured_cost(state),
        env=_describe_environment(state, measure_peak_flops),
        curve=tuple(getattr(state.method, "curve_", ())),
        kept_weights=getattr(state.method, "kept_weights_", None),
        forgetting=state.forgetting,
        tuning=state.job.tuning,
        fit_report=state.fit_report,
        error=failure,
        shifted=_shifted_answers(state) if metrics else None,
        samples=samples,
    )


def _shifted_answers(state: RunState) -> ShiftedAnswers | None:
    """Return the answers to the shifted questions; None if the task has none."""
    samples = state.shifted_samples
    if not samples:
        return None
    return ShiftedAnswers(
        scores=_mean_scores(samples),
        corpus_scores=_corpus_scores(state, samples, state.shifted_corpus_values),
        corpus_values=state.shifted_corpus_values,
        samples=Samples.from_list(samples),
    )


def _mean_scores(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean of each score of single answers; empty without answers."""
    metrics = samples[0].scores if samples else ()
    return {metric: fmean(sample.scores[metric] for sample in samples) for metric in metrics}


def _corpus_scores(
    state: RunState, samples: Sequence[Sample], corpus_values: Mapping[str, Sequence[float]] | None
) -> dict[str, float] | None:
    """Return the metrics of all answers together; None if there are none."""
    own_values = corpus_values or {}
    scores = {name: min(max(fmean(values), 0.0), 1.0) for name, values in own_values.items()}
    if state.labels is not None or state.corpus_text_metrics:
        from bench.records import corpus_metrics

        rules = corpus_metrics.answer_rules(state.labels, state.corpus_text_metrics, state.job.spec.decoding.stop)
        metrics = corpus_metrics.read_metrics(Samples.from_list(samples), rules)
        scores |= {name: float(metric.score()) for name, metric in metrics.items()}
    return scores or None


def _run_phases(state: RunState, saved: Path | None, earlier_import: Phase | None) -> None:
    """Run the phases of a job in order; tuning trials and `bench answer` skip some of them."""
    spec, questions = state.job.spec, state.job.questions
    loaded = phases.load(state, earlier_import)
    probe = None
    if spec.split == "test" and questions is None:
        probe = phases.read_general_text_before(state, loaded.lm)
    phases.fit(state, loaded, spec.budget)
    with TemporaryDirectory() as scratch:
        artifact = saved or Path(scratch)
        phases.save(state, loaded, artifact)
        if questions is not None:
            state.samples = phases.answer_questions(state, loaded, questions)
            return
        phases.predict(state, loaded)
        if spec.split == "test":
            phases.predict_shifted(state, loaded)
            answers = phases.measure_query_latency(state, loaded)
            phases.read_general_text_after(state, loaded.lm, probe)
            phases.measure_adapter_serving(state, loaded, artifact, answers)
    phases.rate_answers(state, loaded)


def _describe_failure(state: RunState, error: BaseException) -> tuple[Status, Failure]:
    """Return the status and the error of a record from the exception being handled."""
    if isinstance(error, Unsupported):
        return "unsupported", Failure(kind="Unsupported", message=str(error), trace=None)
    if isinstance(error, Diverged):
        return "diverged", Failure(kind="Diverged", message=str(error), trace=None)
    status: Status = "error"
    message = describe_exception(error).removeprefix(f"{type(error).__name__}: ")
    if not isinstance(error, Exception):
        message = f"code of the method or the task raised {describe_exception(error)}, which would end the program"
    if memory_limit.is_out_of_memory(error):
        status = "did-not-fit"
        in_use = memory_limit.describe_allocation(error)
        message = f"{_minimum_training_memory(state)}{in_use}: {error}"
        memory_limit.lift_memory_limit()  # building the record needs memory too
    return status, Failure(kind=type(error).__name__, message=message, trace=traceback.format_exc())


def _minimum_training_memory(state: RunState) -> str:
    """Describe the memory that training takes at least; empty if not estimated."""
    fit = _measured_cost(state).phases.get("fit")
    if fit is None or fit.estimated_mib is None:
        return ""
    return f"training takes {fit.estimated_mib:.0f} MiB one row at a time; "


def _measured_cost(state: RunState) -> Cost:
    """Return all costs measured so far."""
    estimated_bytes = dict(state.estimated_bytes)
    if state.budget and state.budget.estimated_bytes:
        estimated_bytes["fit"] = state.budget.estimated_bytes
    return Cost(
        phases={
            name: _with_estimated_peak(phase, estimated_bytes.get(name)) for name, phase in state.meter.phases.items()
        },
        memory_source=state.meter.memory_source,
        host_memory_source=state.meter.host_memory_source,
        context_mib=state.meter.context_mib,
        energy_unmeasured=state.meter.energy_unmeasured,
        parameters=state.parameters,
        budget_usage=state.budget.usage() if state.budget else None,
        answering=state.answering,
        artifact_bytes=state.artifact_bytes,
        adapter_serving=state.adapter_serving,
        adapter_serving_error=state.adapter_serving_error,
    )


def _with_estimated_peak(phase: Phase, added_bytes: int | None) -> Phase:
    """Return the phase with its estimated peak.

    That is the memory held at its start and the bytes that it should add.
    """
    if added_bytes is None or phase.start_mib is None:
        return phase
    return phase.model_copy(update={"estimated_mib": round(phase.start_mib + added_bytes / MIB, 3)})


def _describe_environment(state: RunState, measure_peak_flops: bool) -> Env:
    """Return machine, libraries and code of the run."""
    job = state.job
    matmul_rates = None
    if measure_peak_flops and "torch" in sys.modules and job.spec.split == "test":
        from bench.measurement import flops

        matmul_rates = flops.measure_matmul_rates(state.device, job.spec.base.dtype)
    background_cores = state.background_load.background_cores()
    env = environment.describe_environment(
        state.started, job.method_sha256, state.device_name, background_cores, matmul_rates, job.processes
    )
    if state.determinism is None:
        return env
    operations = tuple(state.determinism.operations)
    return env.model_copy(update={"deterministic": not operations, "nondeterministic_operations": operations})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
