"""Inputs and answers from rows of files and hub data sets, in many formats."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import hub
from bench.data import known_columns
from bench.data.conversations import is_conversation, read_conversation, read_prompt, scalar_text
from bench.data.files import describe_columns, read_file
from bench.data.tables import FileRows
from bench.data.text import clean_text, count_rows, excerpt, match_key
from bench.errors import UserError, did_you_mean
from bench.escape import quote_word
from bench.i18n import Message, join_messages

CONVERSATION_COLUMNS = {
    "messages": "messages",
    "conversations": "conversations (ShareGPT)",
    "conversation": "conversation",
    "contents": "contents (Gemini)",
}
MAX_LOCATIONS = 3
SYSTEM_COLUMNS = ("system", "systemInstruction", "system_instruction")


class RowTexts(NamedTuple):
    """The values of one row by their purpose, not yet checked."""

    input: Any
    target: Any
    """A text, or a list of accepted answers."""
    instruction: str | None = None
    rejected: Any = None


class RowFormat(NamedTuple):
    """A format of rows."""

    name: str
    required: tuple[str, ...]
    """Columns that every row must have."""
    unpack: Callable[[dict[str, Any]], RowTexts]
    uses_only_required: bool = False
    """True if no other column is read."""


@dataclass(frozen=True)
class SourceRow:
    """One row: its location, the input, the accepted answers."""

    location: str
    input: str
    targets: tuple[str, ...]
    rationale: str | None = None
    rejected: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class RowSource:
    """All rows of a file, and the format that was recognized."""

    shape: str
    rows: tuple[SourceRow, ...]
    instruction: str | None
    """The instruction, if all rows have the same one."""
    num_converted: int = 0
    """Numbers and truth values that were read as text."""
    notes: tuple[str, ...] = ()
    """Notes on how the file was read and on rows that were left out."""


_EMPTY_VALUES = {
    "input": Message("the input is empty"),
    "target": Message("the target is empty"),
    "rejected": Message("the rejected is empty"),
}


class EmptyValueError(UserError):
    """A row has no text where one is needed; such rows are left out and counted."""


def read_source(
    text: str,
    input: str | None = None,
    target: str | None = None,
    sheet: str | None = None,
    group: str | None = None,
) -> RowSource:
    """Read the rows of a file or of a hub data set.

    Rows without an input or a target are left out, and a note counts them.

    Args:
        text: A `.jsonl`, `.json`, `.csv`, `.tsv`, `.xlsx` or `.parquet` file, or `hf:NAME[@revision]`.
        input: Column of the input; None if the format is to be recognized by its keys.
        target: Column of the target; None likewise.
        sheet: Sheet of a workbook; None for the first one with rows.
        group: Column of the group that a question belongs to, such as its passage; None without groups.

    Raises:
        UserError: If the source cannot be read, its format is unknown, or a row has another format than the first.
    """
    content = _read_content(text, input, target, sheet)
    if not content.rows:
        raise UserError(
            Message("{text}: no rows", text=text),
            hint=Message("write one example per row, with input and answer, below the head"),
        )
    row_format = _recognize_format(content.rows[0][1], text, input, target)
    if group is not None:
        _require_column("--group", group, content.rows[0][1], text)
    converted = Counter[str]()
    read_rows, empty = _read_rows(content, row_format, converted, group)
    source_rows, instructions = [row for row, _ in read_rows], [instruction for _, instruction in read_rows]
    unused_columns = _describe_unused_columns(content.rows[0][1], row_format, group)
    notes = (*content.notes, *unused_columns, *_describe_empty_rows(empty))
    if len(set(instructions)) == 1:
        return RowSource(row_format.name, tuple(source_rows), instructions[0], converted.total(), notes)
    # Instructions that differ between rows are part of the question.
    source_rows = [
        replace(row, input="\n".join(filter(None, [instruction, row.input])))
        for row, instruction in zip(source_rows, instructions, strict=True)
    ]
    return RowSource(row_format.name, tuple(source_rows), None, converted.total(), notes)


def _read_rows(
    content: FileRows, row_format: RowFormat, converted: Counter[str], group: str | None
) -> tuple[list[tuple[SourceRow, str | None]], list[EmptyValueError]]:
    """Return rows with their instructions, and an error for each row that is left out.

    Raises:
        UserError: A row has another format than the first, or all of them are left out.
    """
    rows: list[tuple[SourceRow, str | None]] = []
    empty: list[EmptyValueError] = []
    for location, row in content.rows:
        try:
            rows.append(_read_row(row, row_format, location, converted, group))
        except EmptyValueError as error:
            empty.append(EmptyValueError(error.message, location=location, hint=error.hint))
        except UserError as error:
            raise UserError(error.message, location=error.location or location, hint=error.hint) from None
    if not rows:
        raise UserError(empty[0].message, location=empty[0].location, hint=empty[0].hint)
    return rows, empty


def _read_content(text: str, input: str | None, target: str | None, sheet: str | None) -> FileRows:
    """Return the rows of a file or of a hub data set."""
    if text.startswith("hf:"):
        return FileRows(list(_read_hub(text.removeprefix("hf:"))), [])

    def is_head(names: Sequence[str]) -> bool:
        if input or target:
            return {input or "input", target or "target"} <= set(names)
        return known_columns.is_head(names) or any(name in names for name in CONVERSATION_COLUMNS)

    return read_file(Path(text), is_head, sheet)


def _read_group(row: dict[str, Any], column: str) -> str:
    """Return the group of a row.

    Raises:
        UserError: The row has none, or it is no text, number or truth value.
    """
    value = _column_value(row, column)
    text = None if value is _MISSING or (isinstance(value, float) and math.isnan(value)) else scalar_text(value)
    if text is None or not clean_text(text):
        raise UserError(
            Message("--group {column}: the row has no group", column=column),
            hint=Message("fill it in, with a group of its own where a question stands alone, or leave out --group"),
        )
    return clean_text(text)


def _describe_unused_columns(row: dict[str, Any], row_format: RowFormat, group: str | None) -> list[str]:
    """Return a note on the columns that are not read; empty if all are."""
    columns = row_format.required if group is None else (*row_format.required, group)
    used = {name.split(".")[0] for name in columns} | {*columns}
    unused = {name: None for name in row if name.strip() and name not in used}
    if not unused or not row_format.uses_only_required:
        return []
    return [Message("columns not used: {columns}", columns=describe_columns(unused))]


def _describe_empty_rows(empty: Sequence[EmptyValueError]) -> list[str]:
    """Return a note for each kind of empty value: the number of rows, and examples."""
    locations: dict[str, list[str]] = defaultdict(list)
    for error in empty:
        locations[error.message].append(Path(error.location or "").name)
    notes: list[str] = []
    for problem, places in locations.items():
        shown = ", ".join(places[:MAX_LOCATIONS])
        if len(places) > MAX_LOCATIONS:
            shown = Message("{shown} and {number} more", shown=shown, number=len(places) - MAX_LOCATIONS)
        rows = count_rows(len(places))
        notes.append(Message("{rows} left out because {problem}: {places}", rows=rows, problem=problem, places=shown))
    return notes


def _read_row(
    row: dict[str, Any], row_format: RowFormat, location: str, converted: Counter[str], group: str | None
) -> tuple[SourceRow, str | None]:
    """Return a checked row and its instruction.

    Args:
        row: The row.
        row_format: The format of the first row, which all rows must have.
        location: Location of the row, for messages.
        converted: Counts values that are not texts but can be read as texts; it is updated in place.
        group: Column of the group; None without groups.
    """
    missing = [name for name in row_format.required if _column_value(row, name) is _MISSING]
    if missing:
        problem = Message(
            "the row has no '{missing}'; it has {columns}", missing=missing[0], columns=describe_columns(row)
        )
        raise UserError(
            problem, hint=Message("all rows need the format of the first one: {name}", name=row_format.name)
        )
    values = row_format.unpack(row)
    targets = values.target if isinstance(values.target, list) else [values.target]
    return SourceRow(
        location,
        _read_text("input", values.input, converted),
        tuple(_read_text("target", value, converted) for value in targets or [None]),
        rejected=None if values.rejected is None else _read_text("rejected", values.rejected, converted),
        group=None if group is None else _read_group(row, group),
    ), values.instruction


def _read_text(name: str, value: Any, converted: Counter[str]) -> str:
    """Return a value as text; refuse empty values, and values other than texts and numbers."""
    text = scalar_text(value)
    if value is None or (isinstance(value, float) and math.isnan(value)) or (text is not None and not clean_text(text)):
        raise EmptyValueError(_EMPTY_VALUES[name], hint=Message("fill it in, or remove the row"))
    if text is None:
        raise UserError(
            Message(
                "the {name} is a value of type {kind}, not a text: {text}",
                name=name,
                kind=type(value).__name__,
                text=excerpt(str(value)),
            ),
            hint=Message("write it as a text, or name another column: --input COLUMN --target COLUMN"),
        )
    converted[name] += not isinstance(value, str)
    return text


def deduplicate(rows: Sequence[SourceRow]) -> tuple[list[SourceRow], int]:
    """Clean texts and join rows with the same question.

    Returns:
        The rows, each question once with all its answers and no rejected answer that is one of them; and the number
        of rows whose text was cleaned.
    """
    first_rows: dict[str, SourceRow] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    num_cleaned = 0
    for row in rows:
        text, targets = clean_text(row.input), [clean_text(target) for target in row.targets]
        num_cleaned += text != row.input or targets != list(row.targets)
        key = match_key(text)
        first_rows.setdefault(key, replace(row, input=text, rejected=row.rejected and clean_text(row.rejected)))
        answers[key] += [target for target in dict.fromkeys(targets) if target not in answers[key]]
    return [
        replace(row, targets=tuple(answers[key]), rejected=None if row.rejected in answers[key] else row.rejected)
        for key, row in first_rows.items()
    ], num_cleaned


_MISSING = object()


def _column_value(row: dict[str, Any], name: str) -> Any:
    """Return the value of a column, `a.b` also in nested rows; `_MISSING` if there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for key in name.split("."):
        value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def _recognize_format(row: dict[str, Any], text: str, input: str | None, target: str | None) -> RowFormat:
    """Recognize the format of the rows by the keys of the first one."""
    if input or target:
        return _format_of_named_columns(row, text, input or "input", target or "target")
    for column, name in CONVERSATION_COLUMNS.items():
        if column in row:
            return RowFormat(name, (column,), partial(_unpack_conversation, column))
    if {"chosen", "rejected"} <= set(row):
        required = ("prompt", "chosen", "rejected") if "prompt" in row else ("chosen", "rejected")
        return RowFormat(", ".join(required), required, _unpack_preference)
    if {"instruction", "output"} <= set(row):
        return RowFormat("instruction, input → output", ("instruction", "output"), _unpack_instruction)
    pairs = known_columns.find_pairs(list(map(str, row)))
    if len(pairs) == 1:
        columns = pairs[0]
        if "completion" in columns and str(row.get("label")).lower() in ("true", "false"):
            problem = Message(
                "{text}: the column 'label' rates the completions, so those with false are no answers", text=text
            )
            raise UserError(problem, hint=Message("keep the rows with true, and remove the column"))
        return _pair_format(*columns)
    if pairs:
        options = join_messages(
            Message(" or "),
            [f"--input {quote_word(input)} --target {quote_word(target)}" for input, target in pairs[:4]],
        )
        raise UserError(
            Message(
                "{text}: several columns may be the input or the target: {columns}",
                text=text,
                columns=describe_columns(row),
            ),
            hint=Message("choose: {options}", options=options),
        )
    raise UserError(
        Message(
            "{text}: input and target columns are not known; its columns are {columns}",
            text=text,
            columns=describe_columns(row),
        ),
        hint=Message(
            "name them: --input COLUMN --target COLUMN; if these are no names, write a line above: input,target"
        ),
    )


def _format_of_named_columns(row: dict[str, Any], text: str, input: str, target: str) -> RowFormat:
    """Return the format of rows whose columns the user names."""
    for option, column in (("--input", input), ("--target", target)):
        _require_column(option, column, row, text)
    return _pair_format(input, target)


def _require_column(option: str, column: str, row: dict[str, Any], text: str) -> None:
    """Raise `UserError` if the first row of a source has no such column."""
    if _column_value(row, column) is _MISSING:
        raise UserError(
            Message("{option} {column}: {text} has no such column", option=option, column=column, text=text),
            hint=did_you_mean(column, row),
        )


def _pair_format(input: str, target: str) -> RowFormat:
    """Return the format of rows with an input and a target, as texts or as turns."""

    def unpack(row: dict[str, Any]) -> RowTexts:
        prompt, answer = _column_value(row, input), _column_value(row, target)
        instruction = None
        if is_conversation(prompt):
            prompt, instruction = _prompt_text(prompt)
        return RowTexts(prompt, _answer_text(answer) if is_conversation(answer) else answer, instruction)

    return RowFormat(f"{input} → {target}", (input, target), unpack, uses_only_required=True)


def _prompt_text(turns: Any) -> tuple[str, str | None]:
    """Return the turns of a prompt as text, and the system message."""
    prompt = read_prompt(turns)
    if prompt.answer is not None:
        raise UserError(
            Message("the prompt ends with a turn of the assistant"),
            hint=Message("end it with the question, or name it messages"),
        )
    return prompt.input, prompt.instruction


def _answer_text(turns: Any) -> str:
    """Return the last turn of a completion, which must be the assistant's."""
    answer = read_prompt(turns).answer
    if answer is None:
        raise UserError(
            Message("the answer does not end with a turn of the assistant"), hint=Message("remove the turns after it")
        )
    return answer


def _unpack_conversation(column: str, row: dict[str, Any]) -> RowTexts:
    """Unpack a conversation: the last turn is the target, the earlier ones are the input."""
    system = next((row[name] for name in SYSTEM_COLUMNS if row.get(name)), None)
    conversation = read_conversation(row[column], system)
    return RowTexts(conversation.input, conversation.answer, conversation.instruction)


def _unpack_preference(row: dict[str, Any]) -> RowTexts:
    """Unpack a pair of answers of which one is preferred, as TRL reads it."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    instruction = None
    if is_conversation(prompt):
        prompt, instruction = _prompt_text(prompt)
    elif "prompt" not in row and is_conversation(chosen):
        conversation = read_conversation(chosen)
        prompt, instruction = conversation.input, conversation.instruction
    elif "prompt" not in row:
        raise UserError(Message("the row has no 'prompt'"), hint=Message("add the question as a column prompt"))
    answers = [_answer_text(answer) if is_conversation(answer) else answer for answer in (chosen, rejected)]
    return RowTexts(prompt, answers[0], instruction, answers[1])


def _unpack_instruction(row: dict[str, Any]) -> RowTexts:
    """Unpack Alpaca's format: an instruction, and often an input that it refers to."""
    instruction, text = row["instruction"], row.get("input")
    if text is None or (isinstance(text, str) and not text.strip()):
        return RowTexts(instruction, row["output"])
    if not isinstance(instruction, str | None):
        raise UserError(
            Message("the instruction is {instruction!r}, not a text", instruction=instruction),
            hint=Message("write it as a text"),
        )
    return RowTexts(text, row["output"], instruction)


def _read_hub(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name, _, revision = text.partition("@")
    (table,) = hub.fetch_dataset(name, None, revision or None, ["train"])
    class_names = {column: getattr(feature, "names", None) for column, feature in table.features.items()}
    for number, row in enumerate(table, start=1):
        yield f"hf:{text}, row {number}", {key: _class_name(row[key], class_names.get(key)) for key in row}


def _class_name(value: Any, names: Sequence[str] | None) -> Any:
    """Return the name of a class number; None for a row without a class (-1)."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
