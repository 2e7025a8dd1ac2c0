"""Export a run into a folder, or answer questions with its method."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.errors import UserError
from bench.execution.forecast.job_forecast import forecast_jobs
from bench.execution.job import Job
from bench.execution.launcher import launch_run
from bench.export.artifact_files import without_links
from bench.export.bundle import SCRIPT, Bundle
from bench.export.merge import NO_MERGE_HINT
from bench.export.provenance import Provenance
from bench.export.script_check import describe_differences, run_script
from bench.i18n import Message
from bench.method import ProgressCallback
from bench.modeling import file_digest
from bench.records import Record
from bench.scratch import scratch_folder


@dataclass(frozen=True)
class ExportResult:
    """Outcome of an export."""

    notes: list[str]
    """Sentences on where the artifacts come from and which answers were compared."""
    differences: list[str]
    """A line for each compared answer that differs from the record."""


def check_target(folder: Path) -> None:
    """Raise `UserError` if the folder of `--to` is not empty or cannot be written."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(
            Message("--to {folder}: is not empty", folder=folder), hint=Message("give the name of a new folder")
        )
    try:
        with tempfile.TemporaryFile(dir=next(parent for parent in folder.absolute().parents if parent.exists())):
            pass
    except OSError as error:
        raise UserError(
            Message("--to {folder}: cannot be written: {reason}", folder=folder, reason=error.strerror),
            location=str(folder.absolute()),
            hint=Message("--to FOLDER, in a folder that you may write to"),
        ) from None


def export_record(
    provenance: Provenance, to: Path, *, merge: bool, check: int, on_progress: ProgressCallback
) -> ExportResult:
    """Write the exported folder of a run, whole or not at all.

    A run without saved artifacts is trained again first.

    Args:
        provenance: The run, of `find_provenance`.
        to: The new folder.
        merge: True to merge the trained weights into one full model.
        check: Number of recorded questions that are answered again and compared.
        on_progress: Receives the phases.

    Raises:
        UserError: `merge` is impossible, training again failed, or the script failed.
    """
    if merge and provenance.record.spec.decoding.constraint is not None:
        raise UserError(
            Message("--merge: the answers of this run are constrained, which a model of its own would not be"),
            hint=Message("leave out --merge"),
        )
    if merge and provenance.export_template != "generate":  # checked before anything is trained again
        method = provenance.record.spec.method.name
        raise UserError(
            Message("--merge: {method} changes no weights of the plain model", method=method), hint=NO_MERGE_HINT
        )
    to = to.absolute()
    samples, questions = provenance.record.samples[:check], recorded_questions(provenance)[:check]
    to.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(to.parent) as scratch:
        folder = scratch / "folder"
        folder.mkdir()
        artifacts, raw_answers, notes = _artifacts_without_links(provenance, questions, scratch, on_progress)
        bundle = Bundle(provenance, artifacts, merge)
        bundle.write(folder)
        differences = describe_differences(samples, raw_answers) if raw_answers is not None else []
        if differences:
            notes.append(
                Message(
                    "Trained again, the method itself answers {number} of {all} questions differently than recorded.",
                    number=len(differences),
                    all=len(questions),
                )
            )
        if bundle.template is not None:
            on_progress({"phase": "check"})
            raw_answers = [raw for raw, _ in run_script(folder / SCRIPT, questions)]
            differences = describe_differences(samples, raw_answers)
        notes.append(_describe_check(bundle.template, raw_answers, differences, len(questions)))
        changes = _environment_changes(provenance) if differences else []
        if changes:
            notes.append(Message("Changed since the run: {changes}.", changes=", ".join(changes)))
        bundle.write_readme(folder, notes)
        folder.rename(to)
    return ExportResult(notes, differences)


def _artifacts_without_links(
    provenance: Provenance, questions: Sequence[str], scratch: Path, on_progress: ProgressCallback
) -> tuple[Path, list[str] | None, list[str]]:
    """Return the artifacts to export, training again if the run saved none.

    Returns:
        The folder of the artifacts; the answers of the run that was trained again, None if none was; and notes.
    """
    artifacts, raw_answers = provenance.saved_artifacts, None
    notes: list[str] = [Message("The saved artifacts of the run were used.")]
    if artifacts is None:
        repeated = rerun(provenance, questions, scratch, on_progress)
        artifacts, raw_answers = scratch / repeated.id, [sample.raw for sample in repeated.samples]
        notes = [
            Message("The run had saved no artifacts, so it was trained again with the recorded settings and seed.")
        ]
    on_progress({"phase": "pack"})
    artifacts, left_out = without_links(artifacts, scratch)
    if left_out:
        notes.append(Message("Left out, because links are not followed: {files}.", files=", ".join(left_out)))
    return artifacts, raw_answers, notes


def answer_questions(
    provenance: Provenance, questions: Sequence[str], on_progress: ProgressCallback
) -> tuple[list[str], list[str]]:
    """Answer questions with a run's method; without saved artifacts it is trained again.

    The first recorded question is answered too, and compared with the record.

    Returns:
        The trimmed answers; notes on how they were produced.
    """
    first_sample = provenance.record.samples[:1]
    all_questions = [*recorded_questions(provenance)[:1], *questions]
    with scratch_folder() as scratch:
        folder = scratch / "folder"
        raw_answers: list[str] = []
        notes: list[str] = []
        if provenance.saved_artifacts is not None:
            folder.mkdir()
            artifacts, _ = without_links(provenance.saved_artifacts, Path(scratch))
            bundle = Bundle(provenance, artifacts)
            bundle.write(folder)
            if bundle.template is not None:
                notes.append(Message("Answered with the saved artifacts of the run."))
                raw_answers = [raw for raw, _ in run_script(folder / SCRIPT, all_questions)]
        if not raw_answers:
            notes = [Message("Answered after training again with the recorded settings and seed.")]
            raw_answers = [sample.raw for sample in rerun(provenance, all_questions, scratch, on_progress).samples]
    if describe_differences(first_sample, raw_answers[:1]):
        notes.append(Message("Warning: the first test question is answered differently than in the record."))
    stop_texts = provenance.spec.decoding.stop
    return [provenance.task.trim(raw, stop_texts) for raw in raw_answers[1:]], notes


def recorded_questions(provenance: Provenance) -> list[str]:
    """Return the questions of the record, in the order of its answers."""
    inputs = {row.id: row.input for row in provenance.task.splits[provenance.record.spec.split]}
    return [inputs[sample.id] for sample in provenance.record.samples]


def rerun(provenance: Provenance, questions: Sequence[str], out: Path, on_progress: ProgressCallback) -> Record:
    """Train again with the settings of a record, and answer questions.

    Args:
        provenance: The run to repeat.
        questions: Questions to answer instead of the test questions.
        out: Folder for the record and the artifacts.
        on_progress: Receives the progress.

    Raises:
        UserError: The repeated run failed.
    """
    spec = provenance.spec
    digest = registry.source_sha256(registry.find_method(spec.method.ref))
    job = Job(
        spec=spec,
        command=(),
        method_sha256=digest,
        file_digests=file_digest.known_digests(),
        save_artifacts=True,
        questions=tuple(questions),
    )
    (forecast,) = forecast_jobs([job], provenance.file.parent, force=True, on_progress=on_progress)
    on_progress({"phase": "starting", "expected_s": forecast.range_s})
    record, _ = launch_run(job, out, on_progress=on_progress)
    if record.status != "ok":
        reason = record.error.message if record.error else record.status
        message = Message("training again ended with status {status}: {reason}", status=record.status, reason=reason)
        raise UserError(message, location=str(provenance.file))
    return record


def _describe_check(
    template: str | None, raw_answers: Sequence[str] | None, differences: Sequence[str], count: int
) -> str:
    """Say how many compared answers equal the recorded ones."""
    if raw_answers is None:
        return Message("No script can be written for this method, so no recorded answer was compared.")
    equal = count - len(differences)
    if template is not None:
        return Message("answer.py gives {equal} of {all} recorded answers byte for byte.", equal=equal, all=count)
    return Message(
        "The method itself (no script can be written for it) gives {equal} of {all} recorded answers byte for byte.",
        equal=equal,
        all=count,
    )


def _environment_changes(provenance: Provenance) -> list[str]:
    """List differences from the run's environment: package versions, the method's code."""
    from bench.measurement import environment

    record = provenance.record
    recorded = record.env.packages if record.env else {}
    current = environment.package_versions()
    digest = registry.source_sha256(registry.find_method(provenance.spec.method.ref))
    changes = ["the method's code"] if record.env and record.env.method_sha256 != digest else []
    for name, version in recorded.items():
        if current.get(name) != version:
            changes.append(f"{name} {version} → {current.get(name, 'none')}")
    return changes
