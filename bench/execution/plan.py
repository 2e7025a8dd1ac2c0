"""From what the user typed to a list of specs: everything is checked here, before anything slow starts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AllowInfNan, TypeAdapter, ValidationError

from bench import hub, registry
from bench.data import hub_tasks
from bench.errors import UserError, did_you_mean
from bench.execution import accelerate_launcher, budget
from bench.execution.job import Job
from bench.measurement import device as places
from bench.method import Method
from bench.modeling import checkpoint
from bench.records.record import (
    BaseSpec,
    BudgetLimits,
    Decoding,
    Dtype,
    MethodSpec,
    Record,
    SearchRange,
    Spec,
    TaskSpec,
)
from bench.task_card import TaskCard, read_card

ALL = "all"  # every method that is known by name alone, but for shams, which join when named


def plan_jobs(
    methods: str,
    task_ref: str,
    model_ref: str,
    *,
    seeds: int,
    budget_text: str,
    settings: Sequence[str],
    train_sizes: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    accelerate: str | None = None,
    save_artifacts: bool = False,
    command: Sequence[str] = (),
) -> list[Job]:
    """Every run of a comparison, controls included, seed by seed, for each of the training sizes in `examples`.

    Raises `UserError` at the first thing wrong.
    """
    setup = accelerate_launcher.read_accelerate_config(accelerate, device)
    place = registry.find_task(task_ref)
    classes = _methods(methods, closed=read_card(place / "task.yaml").labels is not None)
    given = _given(classes, settings)
    named = {ref: _method(ref, cls, given[ref]) for ref, cls in classes.items()}
    grant = budget.parse_budget(budget_text)
    setup.divide(grant.batch, budget_text)
    folder, base = _base(model_ref, dtype)
    what = hub_tasks.load_task(place)  # may have to be fetched, so what costs nothing is checked before
    grants = _sized(grant, train_sizes, len(what.splits["train"])) if train_sizes else [grant]
    card, decoding = what.card, _decoding(what.card, grant, checkpoint.context_length(folder))
    exam = TaskSpec(name=card.name, ref=task_ref, version=card.version, sha256=what.sha256, metric=card.metric)
    return [
        Job(
            spec=Spec(task=exam, method=named[ref], base=base, budget=granted, decoding=decoding, seed=seed),
            command=tuple(command),
            save_artifacts=save_artifacts,
            method_sha256=registry.source_sha256(cls),
            device=setup.device,
            **setup.job(cls.supports_ddp),
            ranges=search_ranges(cls, given[ref]),
        )
        for granted in grants
        for seed in range(seeds)
        for ref, cls in classes.items()
    ]


def _method(ref: str, cls: type[Method], given: dict[str, Any]) -> MethodSpec:
    name = registry.method_name(ref)
    params = resolve_params(cls, given, name)
    return MethodSpec(name=name, ref=ref, control=cls.control, negative_control=cls.negative_control, params=params)


def _base(ref: str, dtype: str) -> tuple[Path, BaseSpec]:
    """The base model: its folder, and what it is down to its bytes."""
    if dtype not in get_args(Dtype):
        raise UserError(f"--dtype {dtype}: there is no such precision", hint=did_you_mean(dtype, get_args(Dtype)))
    folder = registry.find_model(ref)
    checkpoint.check_model_folder(folder)
    said: Any = {
        "ref": ref,
        "revision": hub.commit_of(folder),
        "sha256": checkpoint.weights_digest(folder),
        "dtype": dtype,
    }
    return folder, BaseSpec.model_validate(said)


def _decoding(what: TaskCard, grant: BudgetLimits, context: int) -> Decoding:
    """How answers are decoded; refuses answers for which the model's context, in tokens, has no room."""
    tokens = grant.new_tokens or what.new_tokens
    if tokens >= context:
        raise UserError(
            f"an answer to {what.name} may take {tokens} tokens, and the model's whole context has {context}",
            hint=f"a model of a longer context, or shorter answers: --budget standard,new_tokens={context // 4}",
        )
    return Decoding(max_new_tokens=tokens, stop=(what.end,) if what.end else ())


def _sized(grant: BudgetLimits, examples: str, available: int) -> list[BudgetLimits]:
    """The budget with each number of training examples in a text such as `50,100,250`, fewest first."""
    try:
        sizes = sorted({int(part) for part in examples.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1 or sizes[-1] > available:
        raise UserError(
            f"--train-sizes {examples}: not numbers from 1 to {available}, with commas between",
            hint=f"--train-sizes {available // 4},{available // 2},{available}",
        )
    # All of them is no limit, so that runs without one need not be made again.
    return [grant.model_copy(update={"examples": size if size < available else None}) for size in sizes]


def resolve_params(cls: type[Method], given: dict[str, Any], name: str) -> dict[str, Any]:
    """All hyper-parameters of a method, the given ones (texts or values) checked against the types it declares."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    values = {key: field.default for key, field in fields.items()}
    for key, value in given.items():
        where = f"--set {name}.{key}={value}"
        if key not in fields:
            raise UserError(f"{where}: {name} has no '{key}'", hint=did_you_mean(key, fields))
        try:
            words = get_origin(hints[key]) is Literal  # of which pydantic would ask whether they are finite
            finite: Any = hints[key] if words else Annotated[hints[key], AllowInfNan(False)]
            values[key] = TypeAdapter(finite).validate_python(value)
        except ValidationError as error:
            default = json.dumps(fields[key].default)
            raise UserError(
                f"{where}: {error.errors()[0]['msg'].lower()}",
                hint=f"{key} is {fields[key].metadata.get('help', 'a hyper-parameter')}; its default is {default}",
            ) from None
    return values


def search_ranges(cls: type[Method], given: Container[str]) -> dict[str, SearchRange]:
    """Where a method's hyper-parameters may be looked for, but for those that were given."""
    found = {}
    for field in dataclasses.fields(cls):
        search = field.metadata.get("search")
        if search is None or field.name in given:
            continue
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in search)
        if numbers and len(search) == 2:
            whole = all(isinstance(value, int) for value in search)
            found[field.name] = SearchRange(low=search[0], high=search[1], integer=whole, log=field.metadata["log"])
        else:
            found[field.name] = SearchRange(choices=search)
    return found


def find_finished_record(job: Job, out: Path) -> Record | None:
    """The record of this very run if it is ok, and was made where it was asked for by the method's present code.

    Where the job is to keep what it fits, that has to be there too.
    """
    place = out / f"{job.spec.id}.json"
    if not place.is_file() or (job.save_artifacts and not (out / job.spec.id).is_dir()):
        return None
    try:
        record = Record.read(place)
    except ValidationError:
        return None
    if record.status != "ok" or record.env is None or record.env.method_sha256 != job.method_sha256:
        return None
    # What computes without torch is at home on any device.
    there = record.env.threads is None or places.is_same_device(job.device, record.env.device)
    return record if there and record.env.processes == job.processes else None


def _methods(text: str, *, closed: bool) -> dict[str, type[Method]]:
    """The methods asked for, in order, and the controls that a comparison on closed labels or open answers carries."""
    refs = [ref for part in text.split(",") if (ref := part.strip())]
    if not refs:
        raise UserError(
            "--methods names no method", hint=f"Valid: {', '.join(registry.list_entries('methods'))}, {ALL}"
        )
    known = [claim for claim in registry.list_entries("methods").values() if not claim.is_family]
    everything = [claim.name for claim in known if ALL in refs and not claim.warning]
    real = [name for name in everything if not registry.find_method(name).negative_control]
    classes = {name: registry.find_method(name) for ref in refs for name in (real if ref == ALL else [ref])}
    if not all(cls.control for cls in classes.values()):
        names = [claim.name for claim in known if claim.origin == "shipped" and claim.name not in classes]
        classes |= {name: cls for name in names if _joins(cls := registry.find_method(name), closed)}
    for ref, cls in classes.items():
        if missing := registry.missing_modules(cls):
            raise UserError(f"the method '{ref}' needs what is not installed", hint=f"pip install {' '.join(missing)}")
    return classes


def _joins(cls: type[Method], closed: bool) -> bool:
    """Whether a method is a control for a task of closed labels (or of open answers)."""
    return cls.control and not cls.negative_control and (closed or not cls.closed_only)


def _given(classes: dict[str, type[Method]], settings: Sequence[str]) -> dict[str, dict[str, str]]:
    """What was set of each method, still as text."""
    given: dict[str, dict[str, str]] = {ref: {} for ref in classes}
    names = {registry.method_name(ref): ref for ref in classes}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, key = target.rpartition(".")
        if not (equals and dot):
            raise UserError(f"--set {setting}: not of the form METHOD.PARAMETER=VALUE", hint="--set lora.rank=8")
        if name not in names:
            raise UserError(f"--set {setting}: no method '{name}' in this run", hint=did_you_mean(name, names))
        given[names[name]][key] = value
    return given
