"""A record, and all that it was made of, as it was then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.data import hub_tasks
from bench.errors import UserError
from bench.modeling import checkpoint
from bench.records import Record
from bench.task import Task


@dataclass(frozen=True)
class Provenance:
    """A record, and all that it was made of, as it was then."""

    record: Record
    file: Path
    task: Task
    base: Path
    script: str | None
    """The page of `bench/export/templates` that the method names."""

    @property
    def kept(self) -> Path | None:
        """The folder in which the run has kept what it fitted, if it has."""
        folder = self.file.parent / self.record.id
        return folder if folder.is_dir() else None


def find_provenance(record: Record, file: Path) -> Provenance:
    """The task, model and method of a record; raises `UserError` where one is gone, or is not what it was."""
    spec = record.spec
    if record.status != "ok":
        why = record.error.message.partition("\n")[0] if record.error else "no reason is recorded"
        raise UserError(f"the run is {record.status}, so there is nothing to take home: {why}", location=str(file))
    what, base = hub_tasks.load_task(registry.find_task(spec.task.ref), fetch=False), registry.find_model(spec.base.ref)
    checkpoint.check_model_folder(base)
    for name, ref, place, then, now in (
        ("task", spec.task.ref, what.folder, spec.task.sha256, what.sha256),
        ("model", spec.base.ref, base, spec.base.sha256, checkpoint.weights_digest(base)),
    ):
        if then != now:
            problem = f"the {name} '{ref}' is not what it was in the run: sha256 {now[:12]}…, recorded {then[:12]}…"
            mend = f"bring the {name} of then back, or run again with that of now"
            raise UserError(problem, location=str(place), hint=mend)
    cls = registry.find_method(spec.method.ref)
    if missing := registry.missing_modules(cls):
        mend = f"pip install {' '.join(missing)}"
        raise UserError(f"the method '{spec.method.ref}' needs what is not installed", hint=mend)
    try:
        script = cls(**spec.method.params).export_template
    except (TypeError, ValueError) as error:
        problem = f"the method '{spec.method.ref}' does not take the settings of the record: {error}"
        raise UserError(problem, location=str(file), hint="bring the method of then back, or run again") from None
    return Provenance(record, file, what, base, script)
