"""Read rows from files and hub data sets, in the formats that fine-tuning data come in."""

from __future__ import annotations

import codecs
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import hub
from bench.data.text import clean_text, match_key
from bench.errors import UserError, did_you_mean

MAX_CELL_CHARS = 10_000_000
KNOWN_COLUMNS = (("question", "answer"), ("prompt", "completion"), ("input", "target"), ("text", "label"))

LocatedRow = tuple[str, dict[str, Any]]
"""A location for messages (`data.csv:7`), and the row."""
Unpack = Callable[[dict[str, Any]], tuple[Any, Any, str | None]]
"""Returns a row's input, its target or targets, and its instruction."""


@dataclass(frozen=True)
class SourceRow:
    """One row: its location, the input, the accepted answers."""

    location: str
    input: str
    targets: tuple[str, ...]
    rationale: str | None = None


@dataclass(frozen=True)
class RowSource:
    """All rows of a file, and the format that was recognized."""

    shape: str
    rows: tuple[SourceRow, ...]
    instruction: str | None
    """The instruction, if all rows have the same one."""


def read_source(text: str, input: str | None = None, target: str | None = None) -> RowSource:
    """Read the rows of a file or of a hub data set.

    Args:
        text: A `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file, or `hf:NAME[@revision]`.
        input: Column of the input; None if the format is to be recognized by its keys.
        target: Column of the target; None likewise.

    Raises:
        UserError: If the source cannot be read, its format is unknown, or a row has no text where one is needed.
    """
    rows = list(_read_hub(text.removeprefix("hf:")) if text.startswith("hf:") else _read_file(Path(text)))
    if not rows:
        raise UserError(f"{text}: no rows", hint="write one example per row, with input and answer")
    shape, unpack = _recognize_shape(rows[0][1], text, input, target)
    source_rows: list[SourceRow] = []
    instructions: list[str | None] = []
    for location, row in rows:
        row_input, row_target, instruction = unpack(row)
        targets = row_target if isinstance(row_target, list) else [row_target]
        _check_text("input", row_input, location)
        for value in targets or [None]:
            _check_text("target", value, location)
        source_rows.append(SourceRow(location, row_input, tuple(targets)))
        instructions.append(instruction)
    if len(set(instructions)) == 1:
        return RowSource(shape, tuple(source_rows), instructions[0])
    # Instructions that differ between rows are part of the question.
    source_rows = [
        replace(row, input="\n".join(filter(None, [instruction, row.input])))
        for row, instruction in zip(source_rows, instructions, strict=True)
    ]
    return RowSource(shape, tuple(source_rows), None)


def _check_text(name: str, value: Any, location: str) -> None:
    """Refuse a value that is not a text, or is empty."""
    if isinstance(value, str) and value.strip():
        return
    problem = "is empty" if value is None or isinstance(value, str) else f"is {value!r}, not a text"
    raise UserError(f"the {name} {problem}", location=location, hint="fill it in, or remove the row")


def deduplicate(rows: Sequence[SourceRow]) -> tuple[list[SourceRow], int]:
    """Clean texts and join rows with the same question.

    Returns:
        The rows, each question once with all its answers; and the number of rows whose text was cleaned.
    """
    first_rows: dict[str, SourceRow] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    num_cleaned = 0
    for row in rows:
        text, targets = clean_text(row.input), [clean_text(target) for target in row.targets]
        num_cleaned += text != row.input or targets != list(row.targets)
        key = match_key(text)
        first_rows.setdefault(key, replace(row, input=text))
        answers[key] += [target for target in dict.fromkeys(targets) if target not in answers[key]]
    return [replace(row, targets=tuple(answers[key])) for key, row in first_rows.items()], num_cleaned


def _recognize_shape(row: dict[str, Any], text: str, input: str | None, target: str | None) -> tuple[str, Unpack]:
    """Recognize the format of a row by its keys; return its name and its unpack function."""
    if input or target:
        input_column, target_column = input or "input", target or "target"
        for column, option in ((input_column, "--input"), (target_column, "--target")):
            if column not in row:
                raise UserError(f"{option} {column}: {text} has no such column", hint=did_you_mean(column, row))
        return f"{input_column} → {target_column}", lambda row: (row.get(input_column), row.get(target_column), None)
    if "messages" in row:
        return "messages", _unpack_messages
    if "contents" in row:
        return "contents (Gemini)", _unpack_contents
    if {"instruction", "output"} <= set(row):
        return "instruction, input → output", _unpack_instruction
    for input_column, target_column in KNOWN_COLUMNS:
        if {input_column, target_column} <= set(row):
            return _recognize_shape(row, text, input_column, target_column)
    raise UserError(
        f"{text}: input and target columns are not known; its columns are {', '.join(map(str, row))}",
        hint="name them: --input COLUMN --target COLUMN",
    )


def _unpack_messages(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Unpack a conversation: the last message is the target, the earlier ones are the input."""
    messages = [(str(turn.get("role")), turn.get("content")) for turn in row["messages"] or []]
    system = next((content for role, content in messages if role == "system"), None)
    turns = [str(content) for role, content in messages if role != "system"]
    return "\n".join(turns[:-1]), turns[-1] if turns else None, system


def _unpack_contents(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Unpack Gemini's tuning format: turns that consist of parts."""

    def turn_text(turn: Any) -> str:
        return "".join(part.get("text", "") for part in (turn or {}).get("parts", []))

    turns = [turn_text(turn) for turn in row["contents"] or []]
    system = row.get("systemInstruction") or row.get("system_instruction")
    return "\n".join(turns[:-1]), turns[-1] if turns else None, turn_text(system) or None


def _unpack_instruction(row: dict[str, Any]) -> tuple[str, Any, str | None]:
    """Unpack Alpaca's format: an instruction, and often an input that it refers to."""
    if (row.get("input") or "").strip():
        return row["input"], row["output"], row["instruction"]
    return row["instruction"], row["output"], None


def _read_file(path: Path) -> Iterator[LocatedRow]:
    if not path.is_file():
        raise UserError(
            f"--from {path}: file not found", hint="give a .jsonl, .json, .csv, .tsv or .parquet file, or hf:NAME"
        )
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _number_rows(path, _read_parquet(path))
    elif suffix in (".csv", ".tsv"):
        yield from _read_table(path, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(_read_text(path).split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", _parse_json(line, f"{path}:{number}")
    elif suffix == ".json":
        yield from _number_rows(path, _parse_json(_read_text(path), str(path), list))
    else:
        raise UserError(f"--from {path}: not a .jsonl, .json, .csv, .tsv or .parquet file")


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        _check_head(table.schema_arrow.names, str(path))
        rows: list[Any] = table.read().to_pylist()
    except (OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(f"invalid Parquet file: {first_line}", location=str(path)) from None
    return rows


def _read_table(path: Path, delimiter: str) -> Iterator[LocatedRow]:
    csv.field_size_limit(MAX_CELL_CHARS)
    lines = csv.reader(_read_text(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        head = next(lines, [])
        _check_head(head, f"{path}:1")
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(head):
                raise UserError(
                    f"{len(cells)} cells, but the head has {len(head)}",
                    location=f"{path}:{lines.line_num}",
                    hint='put a text that contains a comma or a line break in quotes: "a, b"',
                )
            yield f"{path}:{lines.line_num}", dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise UserError(
            f"invalid table: {error}", location=f"{path}:{lines.line_num}", hint="save it as CSV in UTF-8"
        ) from None


def _check_head(names: Sequence[str], location: str) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two columns are named '{repeated}'", location=location, hint="rename or remove one of them")


def _read_text(path: Path) -> str:
    """Return a file's text without a byte order mark."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        location = f"{path}:{line}, byte {error.start}"
        raise UserError("not UTF-8", location=location, hint=_encoding_hint(content, path)) from None


def _encoding_hint(content: bytes, path: Path) -> str:
    """Say how to convert a file that is not UTF-8, by the encodings that can decode all of it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"it is marked as UTF-16: iconv -f utf-16 -t utf-8 {path} > new{path.suffix}"
    lines = content.split(b"\n")
    if any(_can_decode(line, "utf-8") and not line.isascii() for line in lines):
        return "some lines are UTF-8 and some are not: correct these, or export the file again"
    if _can_decode(content, "cp949"):
        return f"if a Korean spreadsheet saved it: iconv -f cp949 -t utf-8 {path} > new{path.suffix}"
    return "save it as UTF-8 in the program that made it"


def _can_decode(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _parse_json(text: str, location: str, kind: type = dict) -> Any:
    try:
        parsed = json.loads(text, object_pairs_hook=_object_without_repeated_keys)
    except ValueError as error:
        raise UserError(f"invalid JSON: {error}", location=location) from None
    if not isinstance(parsed, kind):
        raise UserError(f"expected a JSON {'object' if kind is dict else 'list of objects'}", location=location)
    return parsed


def _object_without_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a repeated key, because one of the two values would be lost."""
    values = dict(items)
    if len(values) < len(items):
        names = [name for name, _ in items]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{repeated}' occurs twice")
    return values


def _number_rows(path: Path, rows: Sequence[Any]) -> Iterator[LocatedRow]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError("a row must be an object with keys", location=f"{path}, row {number}")
        yield f"{path}, row {number}", row


def _read_hub(text: str) -> Iterator[LocatedRow]:
    name, _, revision = text.partition("@")
    (table,) = hub.fetch_dataset(name, None, revision or None, ["train"])
    for number, row in enumerate(table, start=1):
        yield f"hf:{text}, row {number}", dict(row)
