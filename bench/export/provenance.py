"""Find task, model and method of a record; digests are compared before code runs."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bench import registry
from bench.data import hub_tasks
from bench.errors import UserError
from bench.i18n import Message, literal
from bench.metrics.evaluate_module import local_scripts
from bench.modeling import checkpoint
from bench.records import Record, Spec
from bench.task import Task
from bench.task_card import read_card
from bench.user_code import report_user_code

TEMPLATES = Path(__file__).parent / "templates"
PROMPTED = "prompted"
"""Stands for one of two templates, see `Method.export_template`."""


@dataclass(frozen=True)
class Provenance:
    """A record with the task and model of its run."""

    record: Record
    file: Path
    """File of the record."""
    spec: Spec
    """Settings of the record, with the places where task, model and method were found."""
    task: Task
    base: Path
    """Folder of the base model."""
    export_template: str | None
    """Script template that the method names, None if it names none; see `choose_template`."""

    @property
    def saved_artifacts(self) -> Path | None:
        """Folder of the artifacts that the run saved, or None if it saved none."""
        folder = self.file.parent / self.spec.id
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Replacements:
    """Values of `--task`, `--model` and `--method`; None for what the record names."""

    task: str | None = None
    model: str | None = None
    method: str | None = None


@dataclass(frozen=True)
class _Part:
    """Task, model or method of a run, and how it is found.

    Attributes:
        kind: Also the name of the option that replaces it.
        recorded: Name or path in the record.
        replacement: Value of the option that replaces it; None without one.
        sha256: Digest in the record.
        find: Returns the folder or file of a name or path.
        digests: Returns the digests that a folder or file has; no code of it is run.
    """

    kind: Literal["task", "model", "method"]
    recorded: str
    replacement: str | None
    sha256: str
    find: Callable[[str], Path]
    digests: Callable[[Path], Iterable[str]]

    def may_be_newer(self, file: Path) -> bool:
        """Return True for a shipped method, whose code changes with the version of adaptbench."""
        return self.kind == "method" and not self.replacement and registry.is_shipped_method(file)


def find_provenance(
    record: Record,
    file: Path,
    replacements: Replacements | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Provenance:
    """Find the task, model and method of a record.

    A relative path is looked for in the working folder, in the folder of the record, and in the folders above that.

    Args:
        record: Record of a run that succeeded.
        file: File of the record; saved artifacts lie beside it.
        replacements: Names or paths in place of those in the record; the digests must be the same.
        announce: Receives a line for each file of the user whose code is about to run.

    Raises:
        UserError: The run failed; or its task, model or method is missing, or differs from that of the run.
    """
    _check_record(record, file)
    spec, replacements = record.spec, replacements or Replacements()
    task_part = _Part(
        "task", spec.task.ref, replacements.task, spec.task.sha256,
        registry.find_task, lambda folder: [hub_tasks.digest_task(folder)],
    )  # fmt: skip
    model_part = _Part(
        "model", spec.base.ref, replacements.model, spec.base.sha256, registry.find_model, _model_digests
    )
    method_part = _Part(
        "method", spec.method.ref, replacements.method, record.env.method_sha256 if record.env else "",
        registry.find_method_file, _method_digests,
    )  # fmt: skip
    task_ref, task_folder = _find_part(task_part, file)
    base_ref, base = _find_part(model_part, file)
    method_ref, method_file = _find_part(method_part, file)
    _announce_user_code(task_folder, method_file, announce)
    found_spec = spec.model_copy(
        update={
            "task": spec.task.model_copy(update={"ref": task_ref}),
            "base": spec.base.model_copy(update={"ref": base_ref}),
            "method": spec.method.model_copy(update={"ref": method_ref}),
        }
    )
    task = hub_tasks.load_task(task_folder, fetch=False)
    return Provenance(record, file, found_spec, task, base, _export_template(found_spec, method_part, file))


def _announce_user_code(task_folder: Path, method_file: Path, announce: Callable[[str], None]) -> None:
    """Announce the files that are about to run and do not ship with adaptbench."""
    scorer_file = task_folder / "task.py"
    scripts = local_scripts(read_card(task_folder / "task.yaml").named_metrics, task_folder)
    if not registry.is_shipped_method(method_file):
        announce(Message("Runs the method {file}, which has the digest in the record.", file=method_file))
    if registry.is_shipped_task(task_folder):
        return
    for file in [*([scorer_file] if scorer_file.exists() else []), *scripts]:
        announce(Message("Runs the metric {file}, which has the digest in the record.", file=file))


def _check_record(record: Record, file: Path) -> None:
    """Raise `UserError` for the record of a failed run, and for artifacts that lie elsewhere."""
    if record.status != "ok":
        reason = record.error.message.partition("\n")[0] if record.error else Message("no reason is recorded")
        raise UserError(
            Message(
                "the run is {status}, so there is nothing to export: {reason}", status=record.status, reason=reason
            ),
            location=str(file),
        )
    folder = file.parent / record.spec.id
    if folder.is_symlink():
        raise UserError(
            Message("the folder of the saved artifacts is a link, and links are not followed"),
            location=str(folder),
            hint=Message("copy the folder itself beside the record, or remove the link to train again"),
        )


def _find_part(part: _Part, file: Path) -> tuple[str, Path]:
    """Return the name or path of a part, and its folder or file, that has the recorded digest.

    Raises:
        UserError: It is missing, or its digest differs.
    """
    ref = part.replacement or part.recorded
    name = ref.partition(":")[0] if part.kind == "method" else ref
    is_registered = name in registry.list_entries(cast(registry.Kind, f"{part.kind}s"))
    refs = [ref] if part.replacement or is_registered else _existing_paths(ref, file)
    problems = []
    for candidate in refs or [ref]:
        try:
            path = part.find(candidate)
            digests = list(part.digests(path))
        except UserError as error:
            problems.append(error)
            continue
        if part.sha256 in digests or part.may_be_newer(path):
            return candidate, path
        problems.append(_difference(part, path, digests[0]))
    problem = problems[0]
    if not refs:
        problem.hint = Message("{hint}; if it is elsewhere now: --{kind} PATH", hint=problem.hint, kind=part.kind)
    raise problem


def _existing_paths(ref: str, file: Path) -> list[str]:
    """Return the places where a path of a record exists, the working folder first.

    For `./mine.py:Mine` the class stays at the end of each.
    """
    target, colon, name = ref.partition(":")
    target = target if target.endswith(".py") else ref
    suffix = colon + name if target != ref else ""
    roots = [Path.cwd(), *Path(os.path.abspath(file)).parents]
    places = [os.path.abspath(root / Path(target).expanduser()) for root in roots]  # an absolute path stays as it is
    return [f"{place}{suffix}" for place in dict.fromkeys(places) if os.path.exists(place)]


def _difference(part: _Part, path: Path, current: str) -> UserError:
    """Return the error for a part whose digest is not the recorded one."""
    digests = Message(
        "sha256 {current}…, recorded {recorded}…", current=current[:12], recorded=part.sha256[:12] or Message("nothing")
    )
    if part.replacement:
        return UserError(
            Message(
                "--{kind} {replacement}: differs from the {part} '{recorded}' of the run: {digests}",
                kind=part.kind,
                part=literal(part.kind),
                replacement=part.replacement,
                recorded=part.recorded,
                digests=digests,
            ),
            location=str(path),
            hint=Message(
                "--{kind} PATH, with the {part} as it was in the run", kind=part.kind, part=literal(part.kind)
            ),
        )
    return UserError(
        Message(
            "the {part} '{recorded}' has changed since the run: {digests}",
            part=literal(part.kind),
            recorded=part.recorded,
            digests=digests,
        ),
        location=str(path),
        hint=Message(
            "restore the {part} of the run, name it with --{kind} PATH, or run again with the current one",
            kind=part.kind,
            part=literal(part.kind),
        ),
    )


def _model_digests(folder: Path) -> list[str]:
    checkpoint.check_model_folder(folder)
    return [checkpoint.weights_digest(folder)]


def _method_digests(file: Path) -> list[str]:
    """Return the digests of the files that may define a method: its file, and its package."""
    files = [file, *(sorted(file.parent.rglob("*.py")) if (file.parent / "__init__.py").is_file() else [])]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _export_template(spec: Spec, part: _Part, file: Path) -> str | None:
    """Import the method and return the template of its script; None if it names none.

    Raises:
        UserError: The method cannot be used, or is not the code of the run.
    """
    ref = spec.method.ref
    method_class = registry.find_method(ref)
    source, digest = registry.source_file(method_class), registry.source_sha256(method_class)
    if digest != part.sha256 and not part.may_be_newer(source):
        raise _difference(part, source, digest)
    if missing := registry.missing_modules(method_class):
        raise UserError(
            Message("the method '{name}' needs packages that are not installed", name=ref),
            hint=f"pip install {shlex.join(missing)}",
        )
    hint = Message("restore the version of the method that the run of {name} used, or repeat the run", name=file.name)
    with report_user_code(
        source, Message("the method '{name}' does not accept the hyper-parameters in the record", name=ref), hint=hint
    ):
        template = method_class(**spec.method.params).export_template
    names = {path.stem for path in TEMPLATES.glob("*.txt")} | {PROMPTED}
    if template is not None and template not in names:
        raise UserError(
            Message(
                "the method '{name}' names the template '{template}', which does not exist", name=ref, template=template
            ),
            location=str(source),
            hint=Message("export_template: one of {names}, or None", names=", ".join(sorted(names))),
        )
    return template
