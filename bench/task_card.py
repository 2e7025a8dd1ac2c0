"""`task.yaml`: everything about a task but its examples, and where those are when they lie on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from bench.errors import UserError, did_you_mean
from bench.metrics import Normalizer


class FrozenSection(BaseModel):
    """A piece of the card: unchangeable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetColumn(FrozenSection):
    """Where a text stands in a row of the hub, and which part of it is meant; a column's name alone is one too."""

    column: str = Field(description="its name; a dot leads into it: answers.text")
    remove: str | None = Field(None, description="regex: what matches is taken out first")
    pattern: str | None = Field(None, description="regex whose one group is kept; null: all of it")

    @field_validator("remove", "pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _compiled(pattern)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"column": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _pattern_has_one_group(self) -> DatasetColumn:
        if self.pattern is not None and re.compile(self.pattern).groups != 1:
            raise ValueError("the regex 'pattern' needs exactly one group")
        return self


class HubSplits(FrozenSection):
    """Which of the hub's splits each of ours is drawn from, slices too: `train[-500:]`."""

    train: str
    validation: str
    test: str


class SplitSizes(FrozenSection):
    """How many examples are drawn at most; null: all."""

    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None


class HubDataset(FrozenSection):
    """The section `data`: a data set of the hub, and what its columns mean."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="org/name")
    config: str | None = None
    revision: str = Field(description="a commit, a tag, or refs/convert/parquet")
    splits: HubSplits
    input: str = Field(description="a column, or a text with {columns} in it")
    target: DatasetColumn = Field(description="a list of texts is a list of accepted answers")
    rationale: DatasetColumn | None = None
    labels: dict[str | int | bool, str] | None = Field(None, description="values or class names to this task's labels")
    keep_values: dict[str, tuple[str | int | bool, ...]] = Field({}, description="column to the values that are kept")
    drop_empty: bool = Field(False, description="leave out rows without a text; else one is refused")
    max_input_chars: PositiveInt | None = Field(None, description="characters of an input; longer ones are left out")
    sizes: SplitSizes = SplitSizes()
    seed: NonNegativeInt = Field(0, description="draws the examples")

    @field_validator("revision")
    @classmethod
    def _is_a_pin(cls, revision: str) -> str:
        if revision.strip() in ("", "main", "master"):
            raise ValueError("name a commit (40 digits, under Files → History on the hub) or a tag: a branch moves")
        return revision

    @property
    def input_template(self) -> str:
        """The input as a text with columns in it."""
        return self.input if "{" in self.input else f"{{{self.input}}}"


class TaskCard(FrozenSection):
    """`task.yaml`: everything about a task but its examples."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: PositiveInt
    summary: str
    language: str
    license: str
    instruction: str
    template: str = Field("{input}\n{target}\n\n", description="one solved example; what follows {target} ends it")
    normalize: Normalizer
    metric: str = Field("em", description="the main metric")
    labels: tuple[str, ...] | None = Field(None, description="the closed set of answers; null for open answers")
    answer: str | None = Field(None, description="regex whose one group is what em compares; null: the whole answer")
    format: str | None = Field(None, description="regex a well-formed answer matches as a whole")
    new_tokens: PositiveInt = Field(description="tokens an answer may take")
    data: HubDataset | None = Field(
        None, description="a data set of the hub; null: the examples stand beside this file"
    )

    @field_validator("template")
    @classmethod
    def _has_both_fields(cls, template: str) -> str:
        if template.count("{input}") != 1 or template.count("{target}") != 1:
            raise ValueError("the template needs {input} and {target} once each")
        if template.index("{input}") > template.index("{target}"):
            raise ValueError("in the template {input} comes before {target}")
        return template

    @field_validator("answer", "format")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _compiled(pattern)

    @field_validator("labels")
    @classmethod
    def _are_a_choice(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < max(2, len(labels)):
            raise ValueError("two labels at least, each once: with one answer there is nothing to learn")
        return labels

    @model_validator(mode="after")
    def _answer_has_one_group(self) -> TaskCard:
        if self.answer is not None and re.compile(self.answer).groups != 1:
            raise ValueError("the regex 'answer' needs exactly one group")
        return self

    @model_validator(mode="after")
    def _data_has_these_labels(self) -> TaskCard:
        named = (self.data.labels if self.data else None) or {}
        if self.labels and (strange := sorted(set(named.values()) - set(self.labels))):
            raise ValueError(f"'data.labels' names '{strange[0]}', which is none of the labels")
        return self

    @property
    def end(self) -> str:
        """What follows an answer in the template."""
        return self.template.partition("{target}")[2]

    def trim(self, text: str) -> str:
        """An answer up to where the template ends it, without surrounding white space."""
        return (text.lstrip().split(self.end, 1)[0] if self.end else text).strip()


def read_card(file: Path) -> TaskCard:
    """The card in a `task.yaml`; raises `UserError` with the key and the nearest valid one."""
    if not file.is_file():
        raise UserError("a task folder needs a task.yaml", location=str(file), hint="see docs/tasks.md for its keys")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"task.yaml is not valid UTF-8 YAML: {error}", location=str(file)) from None
    if not isinstance(content, dict):
        raise UserError("task.yaml must hold keys and values", location=str(file))
    try:
        return TaskCard.model_validate(content)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a slip of the pen first
        what, mend = _told(problems[0]["type"], problems[0]["loc"], problems[0]["msg"])
        raise UserError(what, location=str(file), hint=mend) from None
    except re.error as error:
        raise UserError(f"not a valid regular expression: {error}", location=str(file)) from None


def _told(kind: str, place: tuple[int | str, ...], message: str) -> tuple[str, str | None]:
    """A problem of the card in words, and how to mend it."""
    key = ".".join(map(str, place))
    if kind != "extra_forbidden":
        return (f"key '{key}': {message}" if key else message), None
    owners: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): TaskCard, ("data",): HubDataset, ("data", "splits"): HubSplits, ("data", "sizes"): SplitSizes,
    }  # fmt: skip
    return f"unknown key '{key}'", did_you_mean(str(place[-1]), owners.get(place[:-1], DatasetColumn).model_fields)


def _compiled(pattern: str | None) -> str | None:
    if pattern is not None:
        re.compile(pattern)
    return pattern
