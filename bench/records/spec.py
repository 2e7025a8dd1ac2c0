"""Settings of one run (`Spec`): task, method, base model, budget, decoding and seed."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from bench.i18n import Message
from bench.records.base import FrozenModel, Line, Name, Number, Params, PositiveFloat, PositiveInt
from bench.records.schema_1 import use_schema_1_names

Dtype = Literal["float32", "bfloat16", "float16"]
MAX_SEED = 2**32 - 1
"""Largest seed that NumPy and transformers accept."""
MAX_NAMES_BYTES = 160
"""Bytes of the names of task and method together. The longest file name, with digest, seed and suffix, has 255."""


class MethodSpec(FrozenModel):
    """The method and its hyper-parameters, defaults included."""

    name: Name
    ref: Line = Field(description="where the method was found: its name, a path, or module:Class")
    control: bool = Field(description="true: a baseline that other methods have to beat")
    negative_control: bool = Field(
        False, description="true: a control that cannot learn the task, to show what no learning scores"
    )
    params: Params = Field(description="hyper-parameters, defaults included")


class MetricModel(FrozenModel):
    """The model of a metric, identified by the bytes of its weights and tokenizer."""

    ref: Line = Field(description="where the model was found: the name of a shipped model, a folder, or a hub name")
    sha256: Line = Field(description="digest of the weights and the tokenizer")
    rubric_sha256: Line | None = Field(
        None, description="digest of the instruction and the questions to a judge; null: no judge"
    )

    @property
    def name(self) -> str:
        """The model's short name: the last part of `ref`."""
        return Path(self.ref).name


class TaskSpec(FrozenModel):
    """The task, identified by the bytes of its card and data."""

    name: Name
    ref: Line = Field(description="where the task was found: its name or a folder")
    version: int = Field(description="version on the task card")
    sha256: Line = Field(description="digest of the task card and of all rows")
    metric: Line = Field(description="main metric: tables are sorted by it and regression gates check it")
    metric_models: dict[Line, MetricModel] | None = Field(
        None, description="models by metric, of the metrics similarity and judge; null: the task names none of these"
    )


class BaseSpec(FrozenModel):
    """The base model, identified by the bytes of its weights and tokenizer."""

    ref: Line = Field(description="where the model was found: the name of a shipped model, a folder, or a hub name")
    revision: Line | None = Field(None, description="commit of the model on the hub; null: not loaded from the hub")
    sha256: Line = Field(description="digest of the weights and the tokenizer")
    dtype: Dtype

    @property
    def name(self) -> str:
        """The model's short name: the last part of `ref`."""
        return Path(self.ref).name


class BudgetLimits(FrozenModel):
    """The training budget, the same for every method of a comparison; null means no limit."""

    examples: PositiveInt | None = Field(None, description="training examples, drawn by the seed")
    epochs: PositiveInt | None = Field(None, description="epochs over the training examples")
    steps: PositiveInt | None = Field(None, description="optimizer steps")
    tokens: PositiveInt | None = Field(None, description="training tokens without padding")
    seconds: PositiveFloat | None = Field(None, description="seconds of training (wall clock), evaluation excluded")
    memory: PositiveInt | None = Field(
        None, description="bytes: resident memory of the process on a CPU, memory held by tensors on a GPU"
    )
    trials: PositiveInt | None = Field(
        None, description="tuning trials, scored on the validation split; null: no tuning"
    )
    batch: PositiveInt = Field(16, description="examples per optimizer step (effective batch size)")
    new_tokens: PositiveInt | None = Field(
        None, description="maximum tokens per answer; null: the limit on the task card"
    )


class PromptSpec(FrozenModel):
    """The form of the prompts, the same for every method of a comparison."""

    format: Literal["plain", "chat"] = Field(
        "plain", description="plain: the task's template; chat: turns in the chat template of the tokenizer"
    )
    instruction_role: Literal["none", "system", "user"] = Field(
        "none",
        description="role of the instruction: system, or user if the chat template has none; none: plain text",
    )
    thinking: Literal["none", "off", "on"] = Field(
        "none",
        description="thoughts before an answer: off, or on if the chat template cannot turn them off; "
        "none: the chat template has none",
    )


class AnswerConstraint(FrozenModel):
    """A schema or a pattern that generated answers match, the same for every method."""

    kind: Literal["schema", "format"] = Field(
        description="schema: the JSON schema of the task; format: the regular expression of the task card"
    )
    source: str = Field(description="the schema as JSON, or the regular expression")
    answer_start: str = Field("", description="text between a prompt and its answer, such as a space")

    @property
    def name(self) -> str:
        """Kind and digest of the source, such as `schema 1f3a5c7e`."""
        return f"{self.kind} {hashlib.sha256(self.source.encode()).hexdigest()[:8]}"


def _is_none(value: object) -> bool:
    return value is None


class Decoding(FrozenModel):
    """Every decoding setting; nothing is taken from the model's own generation config."""

    do_sample: Literal[False] = False
    num_beams: Literal[1] = 1
    repetition_penalty: Number = 1.0
    max_new_tokens: PositiveInt
    stop: tuple[str, ...] = Field(description="texts that end an answer, in addition to the end-of-sequence token")
    # Left out if it is None, so that the ids of records made before there was a choice stay valid.
    constraint: AnswerConstraint | None = Field(
        None, exclude_if=_is_none, description="what generated answers have to match; left out: nothing"
    )


class Spec(FrozenModel):
    """All settings of one run.

    Equal specs give equal answers on the same machine with the same library versions.
    """

    task: TaskSpec
    method: MethodSpec
    base: BaseSpec
    budget: BudgetLimits
    decoding: Decoding
    prompt: PromptSpec = Field(PromptSpec(), description="plain in records of versions without chat templates")
    seed: int = Field(ge=0, le=MAX_SEED)
    split: Literal["test", "validation"] = Field(
        "test", description="split whose questions are answered; tuning trials use validation"
    )

    @model_validator(mode="after")
    def _check_length_of_names(self) -> Spec:
        if len(f"{self.task.name}{self.method.name}".encode()) > MAX_NAMES_BYTES:
            raise ValueError(
                Message("the names of task and method are longer than {limit} bytes together", limit=MAX_NAMES_BYTES)
            )
        return self

    @cached_property
    def key(self) -> str:
        """Digest of every setting that decides the answers, except the seed."""
        excluded: Any = {
            "seed": True,
            "task": {"ref", "metric_models"},
            "method": {"ref", "negative_control"},
            "base": {"ref", "revision"},
        }
        if self.prompt == PromptSpec():  # so that the ids of records made before there was a choice stay valid
            excluded["prompt"] = True
        identity = use_schema_1_names(self.model_dump(mode="json", exclude=excluded))
        if self.task.metric_models is not None:
            identity["metric_models"] = {
                metric: [model.sha256, model.rubric_sha256] for metric, model in sorted(self.task.metric_models.items())
            }
        return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    @property
    def id(self) -> str:
        """The run id: task, method, key and seed. It is also the name of the record file."""
        return f"{self.task.name}-{self.method.name.replace(':', '-')}-{self.key}-s{self.seed}"


class SearchRange(FrozenModel):
    """The values of one hyper-parameter that tuning may try: an interval or a list of choices."""

    low: Number | None = None
    high: Number | None = None
    integer: bool = Field(False, description="true: whole numbers only")
    log: bool = Field(False, description="true: sample on a logarithmic scale")
    choices: tuple[str | float | int | bool, ...] | None = None
