"""Plan of a command: from its options to a list of jobs.

All input is checked here, before any slow work starts.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench import hub, registry
from bench.data import hub_tasks
from bench.errors import UserError, did_you_mean
from bench.execution import accelerate_launcher, budget
from bench.execution.job import Job
from bench.i18n import Message, literal
from bench.measurement.device import AUTO_DTYPE, fast_dtype
from bench.measurement.general_text import GeneralText
from bench.method import Method
from bench.metrics import score_name
from bench.model_metrics.rating import find_metric_models
from bench.modeling import checkpoint, file_digest
from bench.modeling import prompt_format as prompts
from bench.modeling.constraint import choice
from bench.records import (
    BaseSpec,
    BudgetLimits,
    Decoding,
    Dtype,
    MethodSpec,
    PromptSpec,
    SearchRange,
    Spec,
    TaskSpec,
)
from bench.records.base import describe_error
from bench.task import Task
from bench.task_card import TaskCard, read_card
from bench.user_code import report_user_code

FINITE_NUMBERS = ConfigDict(allow_inf_nan=False)
ALL_METHODS = "all"
"""Stands for every method that is registered under a name of its own, without negative controls."""
PARAM_ALIASES = {
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "learning_rate": "lr",
}
"""Names of PEFT and transformers, and those of the methods here."""
BUDGET_ALIASES = {
    "epochs": "epochs",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "steps": "steps",
    "batch_size": "batch",
    "per_device_train_batch_size": "batch",
    "train_batch_size": "batch",
    "max_new_tokens": "new_tokens",
}
"""Names of settings that belong to the budget, and its limits, which all methods share."""


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
    prompt_format: str = "auto",
    decoding: str = "free",
    general_text: Path | None = None,
    save_artifacts: bool | None = False,
    command: Sequence[str] = (),
    announce: Callable[[str], None] = lambda note: None,
) -> list[Job]:
    """Plan every run of a comparison, controls included.

    Args:
        methods: Methods, separated by commas.
        task_ref: Name or folder of the task.
        model_ref: Name, folder or hub name of the base model.
        seeds: Runs per method.
        budget_text: Budget as `parse_budget` reads it.
        settings: Hyper-parameters as `METHOD.PARAMETER=VALUE`.
        train_sizes: Numbers of training examples, separated by commas, for a learning curve.
        dtype: Data type of weights and computation; `auto` for the faster of float32 and bfloat16.
        device: Device as in `--device`.
        accelerate: File of an accelerate configuration.
        prompt_format: `auto`, `chat` or `plain`.
        decoding: `free`, or `constrained` to the JSON schema or the format of the task.
        general_text: The user's text for measuring forgetting; None for the shipped one.
        save_artifacts: Keep the artifact of each run; None keeps those that are small.
        command: The command line, for the records.
        announce: Receives a note for each hyper-parameter that was named in the words of another library.

    Returns:
        Jobs by training size, then seed, then method.

    Raises:
        UserError: For the first invalid input.
    """
    accelerate_setup = accelerate_launcher.read_accelerate_config(accelerate, device)
    text = GeneralText.read(general_text) if general_text else None
    task_folder = registry.find_task(task_ref)
    card = read_card(task_folder / "task.yaml")
    classes = _select_methods(methods, closed=card.labels is not None)
    params = _parse_settings(classes, settings, announce)
    method_specs = {ref: _method_spec(ref, cls, params[ref]) for ref, cls in classes.items()}
    limits = budget.parse_budget(budget_text)
    if dtype == AUTO_DTYPE:
        dtype = fast_dtype(accelerate_setup.device)
    accelerate_setup.check_batch(limits.batch, budget_text)
    model_folder, base = _base_spec(model_ref, dtype)
    constraint = choice.read_constraint(decoding, task_folder, card, model_folder)
    chat = prompts.choose_chat_template(prompt_format, model_folder)
    task = hub_tasks.load_task(task_folder)  # comes last because it may have to fetch the rows from the hub
    limits_by_size = [limits]
    if train_sizes:
        limits_by_size = _limits_by_train_size(limits, train_sizes, len(task.splits["train"]))
    decoding_spec = _decoding(task.card, limits, model_folder, is_chat=chat is not None)
    if constraint is not None:
        constraint = choice.complete_constraint(constraint, task, decoding_spec, chat)
        decoding_spec = decoding_spec.model_copy(update={"constraint": constraint})
    file_digests = file_digest.known_digests()
    prompt = prompts.prompt_spec(chat, task)
    specs = _plan_specs(task_ref, task, list(method_specs.values()), base, limits_by_size, decoding_spec, prompt, seeds)
    return [
        Job(
            spec=spec,
            command=tuple(command),
            general_text=text,
            save_artifacts=save_artifacts,
            method_sha256=registry.source_sha256(classes[spec.method.ref]),
            device=accelerate_setup.device,
            **accelerate_setup.job_fields(classes[spec.method.ref].supports_ddp),
            file_digests=file_digests,
            ranges=search_ranges(classes[spec.method.ref], params[spec.method.ref]),
        )
        for spec in specs
    ]


def _plan_specs(
    task_ref: str,
    task: Task,
    methods: Sequence[MethodSpec],
    base: BaseSpec,
    limits_by_size: Sequence[BudgetLimits],
    decoding: Decoding,
    prompt: PromptSpec,
    seeds: int,
) -> list[Spec]:
    """Return the specs of all runs, by training size, then seed, then method."""
    card = task.card
    with _names_checked():
        task_spec = TaskSpec(
            name=card.name,
            ref=task_ref,
            version=card.version,
            sha256=task.sha256,
            metric=score_name(card.metric),
            metric_models=find_metric_models(card, task.folder),
        )
        return [
            Spec(task=task_spec, method=method, base=base, budget=limits, decoding=decoding, prompt=prompt, seed=seed)
            for limits in limits_by_size
            for seed in range(seeds)
            for method in methods
        ]


@contextmanager
def _names_checked() -> Iterator[None]:
    """Raise `UserError` for a name that cannot be part of the name of a record file."""
    try:
        yield
    except ValidationError as error:
        raise UserError(
            describe_error(error),
            hint=Message("rename the task, or the file, the class or the entry point of the method"),
        ) from None


def _method_spec(ref: str, cls: type[Method], params: dict[str, Any]) -> MethodSpec:
    name = registry.method_name(ref)
    values = resolve_params(cls, params, name)
    with _names_checked():
        return MethodSpec(name=name, ref=ref, control=cls.control, negative_control=cls.negative_control, params=values)


def _base_spec(ref: str, dtype: str) -> tuple[Path, BaseSpec]:
    """Return the folder of the base model and its spec with the digest of its files."""
    if dtype not in get_args(Dtype):
        raise UserError(
            Message("--dtype {dtype}: data type not found", dtype=dtype),
            hint=did_you_mean(dtype, [AUTO_DTYPE, *get_args(Dtype)]),
        )
    folder = registry.find_model(ref)
    checkpoint.check_model_folder(folder)
    fields: Any = {
        "ref": ref,
        "revision": hub.commit_of(folder),
        "sha256": checkpoint.weights_digest(folder),
        "dtype": dtype,
    }
    return folder, BaseSpec.model_validate(fields)


def _decoding(card: TaskCard, limits: BudgetLimits, model_folder: Path, *, is_chat: bool) -> Decoding:
    """Return the decoding settings of the task.

    Raises:
        UserError: The longest answer leaves no room for a prompt in the context of a model that generates.
    """
    new_tokens = limits.new_tokens or card.new_tokens
    is_decoder = checkpoint.is_decoder(model_folder)
    if is_decoder and new_tokens >= (context := checkpoint.context_length(model_folder)):
        raise UserError(
            Message(
                "answers to {name} may take {tokens} tokens, and the model has a context of {context} tokens",
                name=card.name,
                tokens=new_tokens,
                context=context,
            ),
            hint=Message(
                "a model with a longer context, or shorter answers: --budget standard,new_tokens={shorter}",
                shorter=context // 4,
            ),
        )
    return Decoding(max_new_tokens=new_tokens, stop=card.stop_texts(chat=is_chat))


def _limits_by_train_size(limits: BudgetLimits, text: str, available: int) -> list[BudgetLimits]:
    """Return the limits with each number of training examples, smallest first.

    The numbers are in a text such as `50,100,250`.
    """
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1 or sizes[-1] > available:
        raise UserError(
            Message(
                "--train-sizes {text}: not a comma-separated list of numbers from 1 to {available}",
                text=text,
                available=available,
            ),
            hint=f"--train-sizes {available // 4},{available // 2},{available}",
        )
    # All examples count as no limit, so that existing runs without a limit are used.
    return [limits.model_copy(update={"examples": size if size < available else None}) for size in sizes]


def resolve_params(cls: type[Method], params: dict[str, Any], name: str) -> dict[str, Any]:
    """Return all hyper-parameters of a method, with defaults for those that are not set.

    Args:
        cls: Class of the method.
        params: Values or texts by hyper-parameter; they are checked against the declared types.
        name: Name of the method, for messages.

    Raises:
        UserError: A name is unknown or a value is invalid.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    invalid_types = Message("the types of the hyper-parameters of {name} cannot be used", name=name)
    with report_user_code(registry.source_file(cls), invalid_types):
        hints = get_type_hints(cls, include_extras=True)
    values = {key: field.default for key, field in fields.items()}
    for key, value in params.items():
        setting = f"--set {name}.{key}={value}"
        if key not in fields:
            raise UserError(
                Message("{setting}: {name} has no '{key}'", setting=setting, name=name, key=key),
                hint=did_you_mean(key, fields),
            )
        try:
            with report_user_code(registry.source_file(cls), invalid_types, keep=(ValidationError,)):
                values[key] = TypeAdapter(hints[key], config=FINITE_NUMBERS).validate_python(value)
        except ValidationError as error:
            default = json.dumps(fields[key].default)
            description = literal(fields[key].metadata.get("help") or Message("a hyper-parameter"))
            raise UserError(
                Message("{option}: {problem}", option=setting, problem=error.errors()[0]["msg"].lower()),
                hint=Message(
                    "{key}: {description}; its default is {default}", key=key, description=description, default=default
                ),
            ) from None
    return values


def search_ranges(cls: type[Method], fixed: Container[str]) -> dict[str, SearchRange]:
    """Return the search ranges of a method's hyper-parameters, without those that are `fixed`."""
    ranges = {}
    for field in dataclasses.fields(cls):
        search = field.metadata.get("search")
        if search is None or field.name in fixed:
            continue
        are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in search)
        if are_numbers and len(search) == 2:
            low, high = search
            is_integer = isinstance(low, int) and isinstance(high, int)
            ranges[field.name] = SearchRange(low=low, high=high, integer=is_integer, log=field.metadata["log"])
        else:
            ranges[field.name] = SearchRange(choices=search)
    return ranges


def _select_methods(text: str, *, closed: bool) -> dict[str, type[Method]]:
    """Return the requested methods in order, then the default controls.

    Args:
        text: References of methods, separated by commas.
        closed: True if the task has closed labels.
    """
    refs = [ref for part in text.split(",") if (ref := part.strip())]
    entries = registry.list_entries("methods")
    if not refs:
        raise UserError(
            Message("--methods names no method"),
            hint=Message("Valid: {names}, {all}", names=", ".join(entries), all=ALL_METHODS),
        )
    single_methods = [entry for entry in entries.values() if not entry.is_family]
    classes: dict[str, type[Method]] = {}
    for ref in refs:
        if ref != ALL_METHODS:
            classes[ref] = registry.find_method(ref)
            continue
        for entry in single_methods:
            if not entry.warning and not (cls := registry.find_method(entry.name)).negative_control:
                classes[entry.name] = cls
    if not all(cls.control for cls in classes.values()):
        for entry in single_methods:
            if entry.origin != "shipped" or entry.name in classes:
                continue
            cls = registry.find_method(entry.name)
            if _is_default_control(cls, closed):
                classes[entry.name] = cls
    for ref, cls in classes.items():
        if missing := registry.missing_modules(cls):
            raise UserError(
                Message("the method '{name}' needs packages that are not installed", name=ref),
                hint=f"pip install {shlex.join(missing)}",
            )
    return classes


def _is_default_control(cls: type[Method], closed: bool) -> bool:
    """Return True if every comparison on such a task includes the method.

    `closed` is True for a task with closed labels, False for one with open answers.
    """
    return cls.control and not cls.negative_control and (closed or not cls.closed_only)


def _parse_settings(
    classes: dict[str, type[Method]], settings: Sequence[str], announce: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """Return the texts of the hyper-parameters that were set, by reference of the method."""
    params: dict[str, dict[str, str]] = {ref: {} for ref in classes}
    refs_by_name = {registry.method_name(ref): ref for ref in classes}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, key = target.rpartition(".")
        if not (equals and dot):
            raise UserError(
                Message("--set {setting}: not of the form METHOD.PARAMETER=VALUE", setting=setting),
                hint="--set lora.rank=8",
            )
        if name not in refs_by_name:
            raise UserError(
                Message("--set {setting}: no method '{name}' in this command", setting=setting, name=name),
                hint=did_you_mean(name, refs_by_name),
            )
        ref = refs_by_name[name]
        own_key = resolve_alias(name, key, value, {field.name for field in dataclasses.fields(classes[ref])})
        if own_key != key:
            announce(Message("--set {setting} is read as {read}", setting=setting, read=f"{name}.{own_key}={value}"))
        params[ref][own_key] = value
    return params


def resolve_alias(method: str, key: str, value: str, params: Container[str]) -> str:
    """Return the name of a hyper-parameter that `--set` names in the words of another library.

    Args:
        method: Name of the method, for messages.
        key: The name as typed.
        value: The value as typed, for messages.
        params: Names of the hyper-parameters of the method; they come before any alias.

    Raises:
        UserError: The name belongs to the budget.
    """
    if key in params:
        return key
    if key in BUDGET_ALIASES:
        limit = BUDGET_ALIASES[key]
        raise UserError(
            Message(
                "--set {method}.{key}={text}: {key} belongs to the budget, which all methods share",
                method=method,
                key=key,
                text=value,
            ),
            hint=f"--budget standard,{limit}={value}",
        )
    alias = PARAM_ALIASES.get(key)
    return alias if alias is not None and alias in params else key
