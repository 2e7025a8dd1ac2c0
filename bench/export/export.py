"""From a record to what its user takes home: fitted again where it was not kept, checked before it is handed over."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.errors import UserError
from bench.execution.job import Job
from bench.execution.launcher import launch_run
from bench.export import script_check
from bench.export.bundle import SCRIPT, Bundle
from bench.export.provenance import Provenance
from bench.method import ProgressCallback
from bench.records import Record


@dataclass(frozen=True)
class ExportResult:
    """What is in the folder, and which of the recorded answers it does not give."""

    sentences: list[str]
    differences: list[str]


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something, or cannot be made."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"--to {folder}: is not empty", hint="name a folder that is new")
    try:
        with tempfile.TemporaryFile(dir=next(place for place in folder.absolute().parents if place.exists())):
            pass
    except OSError as error:
        raise UserError(
            f"--to {folder}: cannot be written: {error.strerror}", location=str(folder.absolute())
        ) from None


def export_record(found: Provenance, to: Path, *, merge: bool, check: int, show: ProgressCallback) -> ExportResult:
    """Put the folder `to` in place, whole, with what the run fitted and a script that was asked `check` questions."""
    if merge and found.script != "generate":  # before anything is fitted again
        why = f"{found.record.spec.method.name} changes no weights that a plain model of this architecture has"
        raise UserError(f"--merge: {why}", hint="leave --merge out")
    to, samples, asked = to.absolute(), found.record.samples[:check], recorded_questions(found)[:check]
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
        fresh = Path(scratch) / "folder"
        fresh.mkdir()
        saved, sentences, raws = found.kept, ["What the run kept was taken."], None
        if saved is None:
            again = rerun(found, asked, Path(scratch), show)
            saved, raws = Path(scratch) / again.id, [sample.raw for sample in again.samples]
            sentences = ["The run had kept nothing, so its fit was made again, by the record's settings and seed."]
        show({"phase": "pack"})
        parcel = Bundle(found, saved, merge)
        parcel.pack(fresh)
        unlike = script_check.differences(samples, raws) if raws is not None else []
        if unlike:
            sentences.append(
                f"Made again, the run itself answers {len(unlike)} of {len(asked)} otherwise than recorded."
            )
        if parcel.page is not None:
            show({"phase": "check"})
            raws = [raw for raw, _ in script_check.run_script(fresh / SCRIPT, asked)]
            unlike = script_check.differences(samples, raws)
        sentences += _said(parcel.page, raws, unlike, len(asked))
        if unlike and (changed := _changed(found.record)):
            sentences.append(f"Since the run these have changed: {', '.join(changed)}.")
        parcel.tell(fresh, sentences)
        fresh.rename(to)
    return ExportResult(sentences, unlike)


def answer_questions(found: Provenance, asked: Sequence[str], show: ProgressCallback) -> tuple[list[str], list[str]]:
    """Trimmed answers to questions, and sentences on how they were come by.

    The first recorded question is asked along, to see that it is answered as it was.
    """
    first, every = found.record.samples[:1], [*recorded_questions(found)[:1], *asked]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) / "folder"
        raws: list[str] = []
        if found.kept is not None:
            folder.mkdir()
            parcel = Bundle(found, found.kept)
            parcel.pack(folder)
            if parcel.page is not None:
                told = ["Answered with what the run kept."]
                raws = [raw for raw, _ in script_check.run_script(folder / SCRIPT, every)]
        if not raws:
            told = ["Answered by the run made again, by the record's settings and seed."]
            raws = [sample.raw for sample in rerun(found, every, Path(scratch), show).samples]
    if script_check.differences(first, raws[:1]):
        told.append("The first test question is not answered as it was in the record.")
    return [found.task.trim(raw) for raw in raws[1:]], told


def recorded_questions(found: Provenance) -> list[str]:
    """The recorded questions, in the order of their answers."""
    inputs = {row.id: row.input for row in found.task.splits[found.record.spec.split]}
    return [inputs[sample.id] for sample in found.record.samples]


def rerun(found: Provenance, asked: Sequence[str], out: Path, show: ProgressCallback) -> Record:
    """Fit again as the record says, keep that in `out`, and ask it; raises `UserError` where that fails."""
    spec = found.record.spec
    digest = registry.source_sha256(registry.find_method(spec.method.ref))
    job = Job(spec=spec, command=(), method_sha256=digest, save_artifacts=True, questions=tuple(asked))
    again, _ = launch_run(job, out, show=show)
    if again.status != "ok":
        why = again.error.message if again.error else again.status
        raise UserError(f"the run was made again and is {again.status}: {why}", location=str(found.file))
    return again


def _said(page: str | None, raws: Sequence[str] | None, unlike: Sequence[str], count: int) -> list[str]:
    """What was found out about the answers."""
    if raws is None:
        return ["No script can be written for this method, so no recorded answer was compared."]
    by = "answer.py" if page is not None else "The method itself (no script can be written for it)"
    return [f"{by} gives {count - len(unlike)} of {count} recorded answers byte for byte."]


def _changed(record: Record) -> list[str]:
    """Packages whose versions are others than in the run, and the method's code if it is."""
    from bench.measurement import environment

    then = record.env.packages if record.env else {}
    now = environment.package_versions()
    code = registry.source_sha256(registry.find_method(record.spec.method.ref))
    own = ["the method's code"] if record.env and record.env.method_sha256 != code else []
    return own + [f"{name} {then[name]} → {now.get(name, 'none')}" for name in then if then[name] != now.get(name)]
