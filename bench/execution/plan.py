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
from bench.errors import Refused, did_you_mean
from bench.execution import accelerate_launcher, budget
from bench.execution.job import Job
from bench.measurement import device as places
from bench.method import Method
from bench.modeling import checkpoint
from bench.records.record import BaseSpec, Decoding, Dtype, Grant, MethodSpec, Range, Record, Spec, TaskSpec
from bench.task_card import Card, read

ALL = "all"  # every method that is known by name alone, but for shams, which join when named


def plan(
    methods: str,
    task_ref: str,
    model_ref: str,
    *,
    seeds: int,
    budget_text: str,
    settings: Sequence[str],
    examples: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    accelerate: str | None = None,
    keep: bool = False,
    asked: Sequence[str] = (),
) -> list[Job]:
    """Every run of a comparison, controls included, seed by seed, for each of the training sizes in `examples`.

    Raises `Refused` at the first thing wrong.
    """
    setup = accelerate_launcher.read(accelerate, device)
    place = registry.task(task_ref)
    classes = _methods(methods, closed=read(place / "task.yaml").labels is not None)
    given = _given(classes, settings)
    named = {ref: _method(ref, cls, given[ref]) for ref, cls in classes.items()}
    grant = budget.parse(budget_text)
    setup.divide(grant.batch, budget_text)
    folder, base = _base(model_ref, dtype)
    what = hub_tasks.load(place)  # may have to be fetched, so what costs nothing is checked before
    grants = _sized(grant, examples, len(what.splits["train"])) if examples else [grant]
    card, decoding = what.card, _decoding(what.card, grant, checkpoint.context(folder))
    exam = TaskSpec(name=card.name, ref=task_ref, version=card.version, sha256=what.sha256, metric=card.metric)
    return [
        Job(
            spec=Spec(task=exam, method=named[ref], base=base, budget=granted, decoding=decoding, seed=seed),
            asked=tuple(asked),
            keep=keep,
            method_sha256=registry.source_sha256(cls),
            device=setup.device,
            **setup.job(cls.spreads),
            ranges=ranges(cls, given[ref]),
        )
        for granted in grants
        for seed in range(seeds)
        for ref, cls in classes.items()
    ]


def _method(ref: str, cls: type[Method], given: dict[str, Any]) -> MethodSpec:
    name = registry.method_name(ref)
    params = resolve(cls, given, name)
    return MethodSpec(name=name, ref=ref, control=cls.control, sham=cls.sham, params=params)


def _base(ref: str, dtype: str) -> tuple[Path, BaseSpec]:
    """The base model: its folder, and what it is down to its bytes."""
    if dtype not in get_args(Dtype):
        raise Refused(f"--dtype {dtype}: there is no such precision", mend=did_you_mean(dtype, get_args(Dtype)))
    folder = registry.model(ref)
    checkpoint.check_folder(folder)
    said: Any = {"ref": ref, "revision": hub.commit(folder), "sha256": checkpoint.digest(folder), "dtype": dtype}
    return folder, BaseSpec.model_validate(said)


def _decoding(what: Card, grant: Grant, context: int) -> Decoding:
    """How answers are decoded; refuses answers for which the model's context, in tokens, has no room."""
    tokens = grant.new_tokens or what.new_tokens
    if tokens >= context:
        raise Refused(
            f"an answer to {what.name} may take {tokens} tokens, and the model's whole context has {context}",
            mend=f"a model of a longer context, or shorter answers: --budget standard,new_tokens={context // 4}",
        )
    return Decoding(max_new_tokens=tokens, stop=(what.end,) if what.end else ())


def _sized(grant: Grant, examples: str, available: int) -> list[Grant]:
    """The budget with each number of training examples in a text such as `50,100,250`, fewest first."""
    try:
        sizes = sorted({int(part) for part in examples.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1 or sizes[-1] > available:
        raise Refused(
            f"--examples {examples}: not numbers from 1 to {available}, with commas between",
            mend=f"--examples {available // 4},{available // 2},{available}",
        )
    # All of them is no limit, so that runs without one need not be made again.
    return [grant.model_copy(update={"examples": size if size < available else None}) for size in sizes]


def resolve(cls: type[Method], given: dict[str, Any], name: str) -> dict[str, Any]:
    """All hyper-parameters of a method, the given ones (texts or values) checked against the types it declares."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    values = {key: field.default for key, field in fields.items()}
    for key, value in given.items():
        where = f"--set {name}.{key}={value}"
        if key not in fields:
            raise Refused(f"{where}: {name} has no '{key}'", mend=did_you_mean(key, fields))
        try:
            words = get_origin(hints[key]) is Literal  # of which pydantic would ask whether they are finite
            finite: Any = hints[key] if words else Annotated[hints[key], AllowInfNan(False)]
            values[key] = TypeAdapter(finite).validate_python(value)
        except ValidationError as error:
            default = json.dumps(fields[key].default)
            raise Refused(
                f"{where}: {error.errors()[0]['msg'].lower()}",
                mend=f"{key} is {fields[key].metadata.get('help', 'a hyper-parameter')}; its default is {default}",
            ) from None
    return values


def ranges(cls: type[Method], given: Container[str]) -> dict[str, Range]:
    """Where a method's hyper-parameters may be looked for, but for those that were given."""
    found = {}
    for field in dataclasses.fields(cls):
        search = field.metadata.get("search")
        if search is None or field.name in given:
            continue
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in search)
        if numbers and len(search) == 2:
            whole = all(isinstance(value, int) for value in search)
            found[field.name] = Range(low=search[0], high=search[1], whole=whole, log=field.metadata["log"])
        else:
            found[field.name] = Range(choices=search)
    return found


def done(job: Job, out: Path) -> Record | None:
    """The record of this very run if it is ok, and was made where it was asked for by the method's present code.

    Where the job is to keep what it fits, that has to be there too.
    """
    place = out / f"{job.spec.id}.json"
    if not place.is_file() or (job.keep and not (out / job.spec.id).is_dir()):
        return None
    try:
        record = Record.read(place)
    except ValidationError:
        return None
    if record.status != "ok" or record.env is None or record.env.method_sha256 != job.method_sha256:
        return None
    # What computes without torch is at home on any device.
    there = record.env.threads is None or places.same(job.device, record.env.device)
    return record if there and record.env.processes == job.processes else None


def _methods(text: str, *, closed: bool) -> dict[str, type[Method]]:
    """The methods asked for, in order, and the controls that a comparison on closed labels or open answers carries."""
    refs = [ref for part in text.split(",") if (ref := part.strip())]
    if not refs:
        raise Refused("--methods names no method", mend=f"Valid: {', '.join(registry.claims('methods'))}, {ALL}")
    known = [claim for claim in registry.claims("methods").values() if not claim.kinds]
    everything = [claim.name for claim in known if ALL in refs and not claim.warning]
    real = [name for name in everything if not registry.method(name).sham]
    classes = {name: registry.method(name) for ref in refs for name in (real if ref == ALL else [ref])}
    if not all(cls.control for cls in classes.values()):
        names = [claim.name for claim in known if claim.origin == "shipped" and claim.name not in classes]
        classes |= {name: cls for name in names if _joins(cls := registry.method(name), closed)}
    for ref, cls in classes.items():
        if missing := registry.missing(cls):
            raise Refused(f"the method '{ref}' needs what is not installed", mend=f"pip install {' '.join(missing)}")
    return classes


def _joins(cls: type[Method], closed: bool) -> bool:
    """Whether a method is a control for a task of closed labels (or of open answers)."""
    return cls.control and not cls.sham and (closed or not cls.closed_only)


def _given(classes: dict[str, type[Method]], settings: Sequence[str]) -> dict[str, dict[str, str]]:
    """What was set of each method, still as text."""
    given: dict[str, dict[str, str]] = {ref: {} for ref in classes}
    names = {registry.method_name(ref): ref for ref in classes}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, key = target.rpartition(".")
        if not (equals and dot):
            raise Refused(f"--set {setting}: not of the form METHOD.PARAMETER=VALUE", mend="--set lora.rank=8")
        if name not in names:
            raise Refused(f"--set {setting}: no method '{name}' in this run", mend=did_you_mean(name, names))
        given[names[name]][key] = value
    return given
