"""Find the task, model and method of a record, and check that they have not changed."""

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
    """A record with the task and model of its run."""

    record: Record
    file: Path
    """File of the record."""
    task: Task
    base: Path
    """Folder of the base model."""
    export_template: str | None
    """Script template that the method names, None if it names none; see `choose_template`."""

    @property
    def saved_artifacts(self) -> Path | None:
        """Folder of the artifacts that the run saved, or None if it saved none."""
        folder = self.file.parent / self.record.id
        return folder if folder.is_dir() else None


def find_provenance(record: Record, file: Path) -> Provenance:
    """Find the task, model and method of a record.

    Args:
        record: Record of a run that succeeded.
        file: File of the record; saved artifacts lie beside it.

    Raises:
        UserError: The run failed; or its task, model or method is missing, or differs from that of the run.
    """
    spec = record.spec
    if record.status != "ok":
        reason = record.error.message.partition("\n")[0] if record.error else "no reason is recorded"
        raise UserError(f"the run is {record.status}, so there is nothing to export: {reason}", location=str(file))
    task = hub_tasks.load_task(registry.find_task(spec.task.ref), fetch=False)
    base = registry.find_model(spec.base.ref)
    checkpoint.check_model_folder(base)
    for kind, ref, folder, recorded, current in (
        ("task", spec.task.ref, task.folder, spec.task.sha256, task.sha256),
        ("model", spec.base.ref, base, spec.base.sha256, checkpoint.weights_digest(base)),
    ):
        if recorded != current:
            raise UserError(
                f"the {kind} '{ref}' has changed since the run: sha256 {current[:12]}…, recorded {recorded[:12]}…",
                location=str(folder),
                hint=f"restore the {kind} of the run, or run again with the current one",
            )
    method_class = registry.find_method(spec.method.ref)
    if missing := registry.missing_modules(method_class):
        message = f"the method '{spec.method.ref}' needs packages that are not installed"
        raise UserError(message, hint=f"pip install {' '.join(missing)}")
    try:
        export_template = method_class(**spec.method.params).export_template
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the method '{spec.method.ref}' does not accept the hyper-parameters in the record: {error}",
            location=str(file),
            hint="restore the version of the method that the run used, or repeat the run",
        ) from None
    return Provenance(record, file, task, base, export_template)
