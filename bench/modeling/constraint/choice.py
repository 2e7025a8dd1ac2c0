"""Choice of the constraint on answers: the JSON schema of the task, or its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.modeling import checkpoint
from bench.modeling.chat_template import THOUGHTS, ChatTemplate
from bench.modeling.constraint import grammar as grammars
from bench.records import AnswerConstraint, Decoding
from bench.task import SCHEMA_FILE, SPLITS, Task, TaskRow, TaskTrainingData
from bench.task_card import TaskCard

DecodingMode = Literal["free", "constrained"]
CHECKED_ROWS = 200
"""Rows of each split whose answers have to match; more would take seconds."""
SHOWN_CHARS = 60
EXAMPLE_SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def read_constraint(mode: str, task_folder: Path, card: TaskCard, model_folder: Path) -> AnswerConstraint | None:
    """Return the constraint on answers, before the rows of the task are read; None: free.

    Args:
        mode: `free` or `constrained`.
        task_folder: Folder of the task; a `schema.json` in it comes before the card's `format`.
        card: Card of the task.
        model_folder: Folder of the base model.

    Raises:
        UserError: The mode is unknown, llguidance is not installed, there is nothing to constrain, or nothing to
            constrain answers to, or the schema or the regular expression cannot be used.
    """
    if mode not in get_args(DecodingMode):
        raise UserError(
            Message("--decoding {name}: decoding not found", name=mode), hint=did_you_mean(mode, get_args(DecodingMode))
        )
    if mode == "free":
        return None
    _check_task_is_open(card, task_folder)
    if not checkpoint.is_decoder(model_folder):
        raise UserError(
            Message("--decoding constrained: an encoder generates no answers"),
            location=str(model_folder),
            hint=Message("leave out --decoding, or --model with a model that generates"),
        )
    grammars.require_library()
    schema_file = task_folder / SCHEMA_FILE
    if schema_file.exists():
        constraint = AnswerConstraint(kind="schema", source=_read_schema(schema_file))
    elif card.format is not None:
        constraint = AnswerConstraint(kind="format", source=card.format)
    else:
        raise UserError(
            Message("--decoding constrained: the task states neither a JSON schema nor a format"),
            location=str(task_folder),
            hint=Message(
                "add {file} beside task.yaml, or the key 'format' with a regular expression to task.yaml",
                file=SCHEMA_FILE,
            ),
        )
    if problem := grammars.find_problem(grammars.write_grammar(constraint, ())):
        raise _unusable(constraint, task_folder, problem)
    return constraint


def complete_constraint(
    constraint: AnswerConstraint, task: Task, decoding: Decoding, chat: ChatTemplate | None
) -> AnswerConstraint:
    """Return the constraint with the text before an answer, tried on the task's targets.

    Args:
        constraint: The constraint of `read_constraint`.
        task: The task.
        decoding: Settings with the texts that end an answer.
        chat: Chat template of the prompts; None for plain prompts.

    Raises:
        UserError: An accepted answer does not match, so no method could be right; or the end of an answer is not
            clear.
    """
    data = task.training_data(seed=0, chat=chat)
    if chat is not None and (chat.spec.thinking == "on" or any(mark in data.answer_start for mark in THOUGHTS)):
        raise UserError(
            Message("--decoding constrained: the chat template lets the model think before it answers"),
            location=chat.location,
            hint=Message("leave out --decoding, or use --prompt-format plain"),
        )
    constraint = constraint.model_copy(update={"answer_start": data.answer_start})
    stop_texts = [*decoding.stop, *filter(None, [chat.end_text if chat else ""])]
    if constraint.kind == "schema":
        _check_stop_texts(stop_texts, task)
    grammar = grammars.write_grammar(constraint, stop_texts)
    if problem := grammars.find_problem(grammar):
        raise _unusable(constraint, task.folder, problem)
    _check_answers(constraint, grammars.TextMatcher(grammar), task, data)
    return constraint


def _check_task_is_open(card: TaskCard, task_folder: Path) -> None:
    if card.labels is not None:
        raise UserError(
            Message(
                "--decoding constrained has no effect on labels: the likeliest of them is chosen, so every answer is "
                "one of them already"
            ),
            location=str(task_folder / "task.yaml"),
            hint=Message("leave out --decoding"),
        )


def _read_schema(file: Path) -> str:
    """Return the schema of a file as JSON on one line; the order of its keys stays.

    Raises:
        UserError: The file is no JSON object.
    """
    try:
        schema: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            Message("{name} cannot be read: {reason}", name=file.name, reason=error.strerror), location=str(file)
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            Message("not UTF-8: {problem}", problem=error), location=str(file), hint=Message("save the file as UTF-8")
        ) from None
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(Message("not valid JSON: {problem}", problem=error), location=f"{file}{line}") from None
    if not isinstance(schema, dict):
        raise UserError(
            Message("a JSON schema must be a JSON object"),
            location=str(file),
            hint=Message("write for example: {schema}", schema=json.dumps(EXAMPLE_SCHEMA)),
        )
    return json.dumps(schema, ensure_ascii=False)


def _unusable(constraint: AnswerConstraint, task_folder: Path, problem: str) -> UserError:
    if constraint.kind == "schema":
        return UserError(
            Message("the JSON schema cannot be used: {problem}", problem=problem),
            location=str(task_folder / SCHEMA_FILE),
            hint=Message("correct it, or leave out what llguidance does not support; docs/tasks.md shows a schema"),
        )
    return UserError(
        Message("key 'format': answers cannot be constrained to this regular expression: {problem}", problem=problem),
        location=str(task_folder / "task.yaml"),
        hint=Message(
            "write it without look-around, back-references and word boundaries, and '[' within brackets as '\\['"
        ),
    )


def _check_stop_texts(stop_texts: list[str], task: Task) -> None:
    """Raise `UserError` if a text that ends an answer may also stand within JSON on one line."""
    unclear = [text for text in stop_texts if "\n" not in text]
    if unclear:
        raise UserError(
            Message("--decoding constrained: {end!r} ends an answer, and may also stand within JSON", end=unclear[0]),
            location=str(task.folder / "task.yaml"),
            hint=Message("end answers with a line break: in the template after {{target}}, and in 'stop'"),
        )


def _check_answers(
    constraint: AnswerConstraint, matcher: grammars.TextMatcher, task: Task, data: TaskTrainingData
) -> None:
    """Raise `UserError` for the first answer of the task that the constraint would not allow."""
    for split in SPLITS:
        for row in task.splits[split][:CHECKED_ROWS]:
            if not matcher.matches(data.completion(row)):
                raise _mismatch(constraint, row, task.folder)


def _mismatch(constraint: AnswerConstraint, row: TaskRow, task_folder: Path) -> UserError:
    shown = row.target if len(row.target) <= SHOWN_CHARS else f"{row.target[:SHOWN_CHARS]}…"
    if constraint.kind == "schema":
        return UserError(
            Message("the target {target!r} of {id} does not match the JSON schema", target=shown, id=row.id),
            location=str(task_folder / SCHEMA_FILE),
            hint=Message(
                "correct the target, or the schema: keys in the order of 'properties', all on one line, at most one "
                "space between symbols, letters as they are and not as \\u escapes"
            ),
        )
    return UserError(
        Message("the target {target!r} of {id} does not match the key 'format'", target=shown, id=row.id),
        location=str(task_folder / "task.yaml"),
        hint=Message("correct the target, or the regular expression"),
    )
