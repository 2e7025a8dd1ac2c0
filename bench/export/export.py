"""From a record to what its user takes home: fitted again where it was not kept, checked before it is handed over."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.errors import Refused
from bench.execution.job import Job
from bench.execution.launcher import launch
from bench.export import script_check
from bench.export.bundle import SCRIPT, Parcel
from bench.export.provenance import Found
from bench.method import Watch
from bench.records.record import Record


@dataclass(frozen=True)
class Exported:
    """What is in the folder, and which of the recorded answers it does not give."""

    sentences: list[str]
    differences: list[str]


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something, or cannot be made."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise Refused(f"--to {folder}: is not empty", mend="name a folder that is new")
    try:
        with tempfile.TemporaryFile(dir=next(place for place in folder.absolute().parents if place.exists())):
            pass
    except OSError as error:
        raise Refused(f"--to {folder}: cannot be written: {error.strerror}", where=str(folder.absolute())) from None


def export(found: Found, to: Path, *, merge: bool, check: int, show: Watch) -> Exported:
    """Put the folder `to` in place, whole, with what the run fitted and a script that was asked `check` questions."""
    if merge and found.script != "generate":  # before anything is fitted again
        why = f"{found.record.spec.method.name} changes no weights that a plain model of this architecture has"
        raise Refused(f"--merge: {why}", mend="leave --merge out")
    to, samples, asked = to.absolute(), found.record.samples[:check], questions(found)[:check]
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
        fresh = Path(scratch) / "folder"
        fresh.mkdir()
        saved, sentences, raws = found.kept, ["What the run kept was taken."], None
        if saved is None:
            again = remake(found, asked, Path(scratch), show)
            saved, raws = Path(scratch) / again.id, [sample.raw for sample in again.samples]
            sentences = ["The run had kept nothing, so its fit was made again, by the record's settings and seed."]
        show({"phase": "pack"})
        parcel = Parcel(found, saved, merge)
        parcel.pack(fresh)
        unlike = script_check.differences(samples, raws) if raws is not None else []
        if unlike:
            sentences.append(
                f"Made again, the run itself answers {len(unlike)} of {len(asked)} otherwise than recorded."
            )
        if parcel.page is not None:
            show({"phase": "check"})
            raws = [raw for raw, _ in script_check.ask(fresh / SCRIPT, asked)]
            unlike = script_check.differences(samples, raws)
        sentences += _said(parcel.page, raws, unlike, len(asked))
        if unlike and (changed := _changed(found.record)):
            sentences.append(f"Since the run these have changed: {', '.join(changed)}.")
        parcel.tell(fresh, sentences)
        fresh.rename(to)
    return Exported(sentences, unlike)


def answers(found: Found, asked: Sequence[str], show: Watch) -> tuple[list[str], list[str]]:
    """Trimmed answers to questions, and sentences on how they were come by.

    The first recorded question is asked along, to see that it is answered as it was.
    """
    first, every = found.record.samples[:1], [*questions(found)[:1], *asked]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch) / "folder"
        raws: list[str] = []
        if found.kept is not None:
            folder.mkdir()
            parcel = Parcel(found, found.kept)
            parcel.pack(folder)
            if parcel.page is not None:
                told = ["Answered with what the run kept."]
                raws = [raw for raw, _ in script_check.ask(folder / SCRIPT, every)]
        if not raws:
            told = ["Answered by the run made again, by the record's settings and seed."]
            raws = [sample.raw for sample in remake(found, every, Path(scratch), show).samples]
    if script_check.differences(first, raws[:1]):
        told.append("The first test question is not answered as it was in the record.")
    return [found.task.trim(raw) for raw in raws[1:]], told


def questions(found: Found) -> list[str]:
    """The recorded questions, in the order of their answers."""
    inputs = {row.id: row.input for row in found.task.splits[found.record.spec.exam]}
    return [inputs[sample.id] for sample in found.record.samples]


def remake(found: Found, asked: Sequence[str], out: Path, show: Watch) -> Record:
    """Fit again as the record says, keep that in `out`, and ask it; raises `Refused` where that fails."""
    spec = found.record.spec
    digest = registry.source_sha256(registry.method(spec.method.ref))
    job = Job(spec=spec, asked=(), method_sha256=digest, keep=True, questions=tuple(asked))
    again, _ = launch(job, out, show=show)
    if again.status != "ok":
        why = again.error.message if again.error else again.status
        raise Refused(f"the run was made again and is {again.status}: {why}", where=str(found.file))
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
    now = environment.packages()
    code = registry.source_sha256(registry.method(record.spec.method.ref))
    own = ["the method's code"] if record.env and record.env.method_sha256 != code else []
    return own + [f"{name} {then[name]} → {now.get(name, 'none')}" for name in then if then[name] != now.get(name)]
