"""The card of a task, `task.yaml`: its settings, and its hub data set if it has one."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
from bench.i18n import Message
from bench.metrics import Normalizer
from bench.metrics.structured import Tolerance


class FrozenSection(BaseModel):
    """Base class of the sections of a card: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetColumn(FrozenSection):
    """A column of a data set, and the part of its text to use.

    In the card the name of the column alone is enough.
    """

    column: str = Field(description="name of the column; a dot leads into nested values: answers.text")
    remove: str | None = Field(None, description="regular expression: matches are removed first")
    pattern: str | None = Field(None, description="regular expression with one group, which is kept; null: all of it")

    @field_validator("remove", "pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _check_pattern(pattern)

    @model_validator(mode="before")
    @classmethod
    def _accepts_a_name(cls, content: Any) -> Any:
        return {"column": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _pattern_has_one_group(self) -> DatasetColumn:
        if self.pattern is not None and re.compile(self.pattern).groups != 1:
            raise ValueError(Message("the regex 'pattern' needs exactly one group"))
        return self


class HubSplits(FrozenSection):
    """The split of the data set, or a slice of it, for each split of the task: `train[-500:]`."""

    train: str
    validation: str
    test: str


class SplitSizes(FrozenSection):
    """Maximum number of examples in each split; null: all."""

    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None


class HubDataset(FrozenSection):
    """The section `data`: a data set of the hub, and which of its columns to use."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="org/name")
    config: str | None = None
    revision: str = Field(description="a commit, a tag, or refs/convert/parquet")
    splits: HubSplits
    input: str = Field(description="a column, or a text with {columns} in it")
    target: DatasetColumn = Field(description="a list of texts is a list of accepted answers")
    rationale: DatasetColumn | None = None
    labels: dict[str | int | bool, str] | None = Field(None, description="label of the task for each value or class")
    keep_values: dict[str, tuple[str | int | bool, ...]] = Field({}, description="values of a column to keep")
    drop_empty: bool = Field(False, description="leave out rows with an empty text; otherwise they are an error")
    max_input_chars: PositiveInt | None = Field(None, description="leave out rows with more characters in the input")
    sizes: SplitSizes = SplitSizes()
    seed: NonNegativeInt = Field(0, description="seed of the random choice of examples")

    @field_validator("revision")
    @classmethod
    def _is_fixed(cls, revision: str) -> str:
        if revision.strip() in ("", "main", "master"):
            raise ValueError(
                Message(
                    "a branch changes; use a commit (40 digits, under Files → History on the page of the data set) "
                    "or a tag"
                )
            )
        return revision

    @property
    def input_template(self) -> str:
        """The input as a text with columns in braces."""
        return self.input if "{" in self.input else f"{{{self.input}}}"


NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"


class TaskCard(FrozenSection):
    """The content of `task.yaml`: all settings of a task."""

    name: str = Field(pattern=NAME_PATTERN)
    version: PositiveInt
    summary: str
    language: str
    license: str
    instruction: str
    template: str = Field("{input}\n{target}\n\n", description="one solved example; the text after {target} ends it")
    normalize: Normalizer = Field("text", description="what is ignored when answers are compared")
    metric: str = Field("em", description="the main metric")
    metrics: tuple[str, ...] = Field((), description="metrics beside the main one: chrf, bleu, rouge-l, …")
    tolerance: float | str | None = Field(
        None, description="difference that the metric number allows, or a share of the reference: 1%; null: none"
    )
    labels: tuple[str, ...] | None = Field(None, description="all possible answers; null for open answers")
    answer: str | None = Field(
        None, description="regular expression whose one group is what em compares; null: the whole answer"
    )
    format: str | None = Field(None, description="regular expression that a well-formed answer matches as a whole")
    new_tokens: PositiveInt = Field(description="maximum tokens of an answer")
    stop: tuple[str, ...] = Field(
        (),
        description="texts that end an answer, in addition to the end of the template in plain prompts and to the end "
        "of the turn in a chat",
    )
    data: HubDataset | None = Field(None, description="a data set of the hub; null: the examples are beside this file")

    @field_validator("template")
    @classmethod
    def _has_both_fields(cls, template: str) -> str:
        if template.count("{input}") != 1 or template.count("{target}") != 1:
            raise ValueError(Message("the template must contain {{input}} and {{target}} once each"))
        if template.index("{input}") > template.index("{target}"):
            raise ValueError(Message("in the template {{input}} must come before {{target}}"))
        return template

    @field_validator("answer", "format")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _check_pattern(pattern)

    @field_validator("tolerance", mode="before")
    @classmethod
    def _is_amount_or_share(cls, tolerance: Any) -> Any:
        if isinstance(tolerance, bool):
            raise ValueError(Message("write a number, or a share of the reference such as 1%"))
        if isinstance(tolerance, int | float | str):
            Tolerance.parse(tolerance)
        return tolerance

    @field_validator("labels")
    @classmethod
    def _are_a_choice(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < max(2, len(labels)):
            raise ValueError(Message("at least two different labels are needed, and none may be repeated"))
        return labels

    @field_validator("stop")
    @classmethod
    def _are_texts(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if not all(stop):
            raise ValueError(Message("an empty text would end every answer at once"))
        return stop

    @model_validator(mode="after")
    def _answer_has_one_group(self) -> TaskCard:
        if self.answer is not None and re.compile(self.answer).groups != 1:
            raise ValueError(Message("the regex 'answer' needs exactly one group"))
        return self

    @model_validator(mode="after")
    def _data_labels_are_labels(self) -> TaskCard:
        dataset_labels = (self.data.labels if self.data else None) or {}
        unknown = sorted(set(dataset_labels.values()) - set(self.labels or ()))
        if self.labels and unknown:
            raise ValueError(Message("'data.labels' contains '{label}', which is not in 'labels'", label=unknown[0]))
        return self

    @model_validator(mode="after")
    def _tolerance_has_a_metric(self) -> TaskCard:
        if self.tolerance is not None and "number" not in self.named_metrics:
            raise ValueError(Message("'tolerance' belongs to the metric number, which the card does not name"))
        return self

    @property
    def named_metrics(self) -> tuple[str, ...]:
        """The main metric and those beside it, each once."""
        return tuple(dict.fromkeys((self.metric, *self.metrics)))

    @property
    def end(self) -> str:
        """Text after the answer in the template; empty if the template ends with the answer."""
        return self.template.partition("{target}")[2]

    def stop_texts(self, *, chat: bool = False) -> tuple[str, ...]:
        """Return the texts that end an answer, in addition to the end-of-sequence token.

        Args:
            chat: Prompts are turns of a chat. The end of the turn then takes the place of the text that separates
                solved examples in the template.
        """
        ends = () if chat or not self.end else (self.end,)
        return (*ends, *(text for text in self.stop if text not in ends))

    def trim(self, text: str) -> str:
        """Return text generated after a plain prompt up to the end of the answer, stripped."""
        return trim_answer(text, self.stop_texts())


def trim_answer(text: str, stop_texts: Iterable[str]) -> str:
    """Return generated text up to the first of the texts that end an answer, stripped.

    White space before the answer ends nothing.
    """
    answer = text.lstrip()
    for stop in stop_texts:
        answer = answer.split(stop, 1)[0]
    return answer.strip()


def parse_answer(card: TaskCard, text: str) -> str | None:
    """Return the part of a trimmed answer that `em` compares; None if there is none."""
    if card.answer is None:
        return text or None
    match = re.search(card.answer, text)
    return (match[1] or "").strip() or None if match else None


def check_task_name(name: str) -> None:
    """Check a name that a card is to have.

    Raises:
        UserError: The name is not valid; the hint has the closest valid one.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(Message("'{name}' is not a valid task name", name=name), hint=_valid_name_hint(name))


def _valid_name_hint(name: str) -> str:
    """Return the rule for names, and the closest valid name or an example."""
    closest = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("._-")
    return Message(
        "use lower-case Latin letters, digits, '.', '_' and '-': {example}, for example", example=closest or "my-task"
    )


def read_card(file: Path) -> TaskCard:
    """Read and validate a `task.yaml`.

    Raises:
        UserError: The file is missing or not valid; the error names the key and suggests the closest valid one.
    """
    if not file.is_file():
        raise UserError(
            Message("task.yaml not found"), location=str(file), hint=Message("see docs/tasks.md for its keys")
        )
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            Message("task.yaml is not valid UTF-8 YAML: {problem}", problem=error), location=str(file)
        ) from None
    if not isinstance(content, dict):
        raise UserError(Message("task.yaml must hold keys and values"), location=str(file))
    try:
        return TaskCard.model_validate(content)
    except ValidationError as error:
        # An unknown key is reported first: it is often a misspelled one that is then also missing.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        message, hint = _describe_problem(problems[0], text)
        raise UserError(message, location=str(file), hint=hint) from None
    except re.error as error:
        raise UserError(Message("invalid regular expression: {problem}", problem=error), location=str(file)) from None


def _describe_problem(problem: Any, text: str) -> tuple[str, str | None]:
    """Return message and hint for an error of pydantic in the text of a card."""
    kind, path, value = problem["type"], problem["loc"], problem["input"]
    key = ".".join(map(str, path))
    if kind == "string_type" and value is not None and not isinstance(value, list | dict):
        written = _scalar_as_written(text, path)
        is_truth = isinstance(value, bool)
        type_name = type(value).__name__
        spelled = Message("a truth value") if is_truth else Message("a value of type {kind}", kind=type_name)
        return (
            Message(
                "key '{key}': YAML reads {written} as {spelled}, not as a text",
                key=key,
                written=written,
                spelled=spelled,
            ),
            Message('put it in quotes: "{written}"', written=written),
        )
    if kind == "tuple_type":
        return Message("key '{key}': a list is needed", key=key), Message(
            "write {name}: [first, second]", name=path[-1]
        )
    if kind == "string_pattern_mismatch" and path == ("name",):
        return Message("key 'name': '{name}' is not a valid task name", name=value), _valid_name_hint(value)
    if kind == "value_error":
        problem["msg"] = Message("Value error, {problem}", problem=problem["ctx"]["error"])
    if kind != "extra_forbidden":
        return (Message("key '{key}': {problem}", key=key, problem=problem["msg"]) if key else problem["msg"]), None
    sections: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): TaskCard,
        ("data",): HubDataset,
        ("data", "splits"): HubSplits,
        ("data", "sizes"): SplitSizes,
    }
    section = sections.get(path[:-1], DatasetColumn)
    return Message("unknown key '{key}'", key=key), did_you_mean(str(path[-1]), section.model_fields)


def _scalar_as_written(text: str, path: tuple[int | str, ...]) -> str:
    """Return a value of a card as its author wrote it: `yes`, where YAML reads a truth value."""
    read: Any = yaml.safe_load(text)
    written: Any = yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and dicts only
    for key in path:
        if isinstance(read, dict):
            names = [str(name) for name in read]
            index = names.index(str(key)) if str(key) in names else None
            if index is None or len(written) != len(read):
                break
            read, written = list(read.values())[index], list(written.values())[index]
        elif isinstance(read, list) and isinstance(key, int):
            read, written = read[key], written[key]
    return str(written) if isinstance(written, str) else str(read)


def _check_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        re.compile(pattern)
    return pattern
