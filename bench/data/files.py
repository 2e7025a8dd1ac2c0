"""Rows of JSON, CSV, TSV, Excel and Parquet files, or the reason if there are none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.data import workbook
from bench.data.decoding import check_signature, read_text
from bench.data.tables import FileRows, IsHead, LocatedRow, check_head, is_json_object, read_csv
from bench.data.text import excerpt
from bench.errors import UserError
from bench.i18n import Message

SUFFIXES = Message(".jsonl, .json, .csv, .tsv, .xlsx or .parquet")


def read_file(path: Path, is_head: IsHead, sheet: str | None = None) -> FileRows:
    """Read the rows of a file with their locations.

    Args:
        path: The file.
        is_head: Tells if the cells of a row of a table are names of columns that can be used.
        sheet: Sheet of a workbook; None for the first one with rows.

    Raises:
        UserError: The file is missing, or is not what its name says.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        hint = Message("give a {suffixes} file, or hf:NAME", suffixes=SUFFIXES)
        raise UserError(
            Message("--from {path}: a folder", path=path)
            if path.is_dir()
            else Message("--from {path}: file not found", path=path),
            hint=hint,
        )
    if sheet is not None and suffix not in workbook.SUFFIXES:
        raise UserError(
            Message("--sheet {sheet}: {path} is no workbook", sheet=sheet, path=path), hint=Message("leave out --sheet")
        )
    if suffix in workbook.SUFFIXES:
        return workbook.read_workbook(path, is_head, sheet)
    if suffix in (".csv", ".tsv"):
        return read_csv(path, "\t" if suffix == ".tsv" else ",", is_head)
    if suffix == ".parquet":
        return FileRows(list(_number_rows(path, _read_parquet(path))), [])
    if suffix in (".jsonl", ".ndjson"):
        text, notes = read_text(path)
        return FileRows(list(_read_json_lines(text, path)), notes)
    if suffix == ".json":
        text, notes = read_text(path)
        return FileRows(list(_number_rows(path, _read_json_list(text, path))), notes)
    hint = Message("rename it if it is one: a table of text is NAME.csv, or NAME.tsv with tabs")
    if suffix in (".xls", ".xlsb", ".ods", ".numbers", ".hwp", ".hwpx", ".docx"):
        hint = Message("open it in the program that made it and save the table as .xlsx or as CSV UTF-8")
    raise UserError(Message("--from {path}: not a {suffixes} file", path=path, suffixes=SUFFIXES), hint=hint)


def _read_json_lines(text: str, path: Path) -> Iterator[LocatedRow]:
    hint = Message('write one JSON object per line: {{"input": …, "target": …}}')
    if text.lstrip().startswith("[") and not is_json_object(text.lstrip().partition("\n")[0]):
        hint = Message("a file with one JSON list must be named NAME.json")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _parse_json(line, f"{path}:{number}", hint)
            if not isinstance(row, dict):
                raise UserError(Message("expected a JSON object"), location=f"{path}:{number}", hint=hint)
            yield f"{path}:{number}", row


def _read_json_list(text: str, path: Path) -> list[Any]:
    hint = Message("write one list of objects: [{{…}}, {{…}}]")
    first_line, _, other_lines = text.strip().partition("\n")
    if other_lines and is_json_object(first_line):
        hint = Message("a file with one JSON object per line must be named NAME.jsonl")
    rows = _parse_json(text, str(path), hint)
    if not isinstance(rows, list):
        raise UserError(Message("expected a JSON list of objects"), location=str(path), hint=hint)
    return rows


def _parse_json(text: str, location: str, hint: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object_without_repeated_keys)
    except ValueError as error:
        raise UserError(Message("invalid JSON: {problem}", problem=error), location=location, hint=hint) from None
    except RecursionError:
        raise UserError(Message("invalid JSON: nested too deeply"), location=location, hint=hint) from None


def _object_without_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a repeated key, because one of the two values would be lost."""
    values = dict(items)
    if len(values) < len(items):
        names = [name for name, _ in items]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(Message("the key '{key}' occurs twice", key=repeated))
    return values


def _number_rows(path: Path, rows: Sequence[Any]) -> Iterator[LocatedRow]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            hint = Message('{{"input": …, "target": …}}')
            raise UserError(
                Message("a row must be an object with keys"),
                location=Message("{path}, row {number}", path=path, number=number),
                hint=hint,
            )
        yield f"{path}, row {number}", row


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    with path.open("rb") as file:
        beginning = file.read(64)
    if not beginning.startswith(b"PAR1"):
        check_signature(beginning, path)
    try:
        table = pyarrow.parquet.ParquetFile(path)
        check_head(table.schema_arrow.names, str(path))
        rows: list[Any] = table.read().to_pylist()
    except (OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(Message("invalid Parquet file: {problem}", problem=first_line), location=str(path)) from None
    return rows


def describe_columns(row: dict[str, Any]) -> str:
    """Return the names of a row's columns for a message, shortened."""
    names = [str(name) for name in row]
    shown = [name if len(name) <= 30 else excerpt(name, 30) for name in names[:12]]
    if len(names) > len(shown):
        return Message("{names} and {number} more", names=", ".join(shown), number=len(names) - len(shown))
    return ", ".join(shown) or Message("none")
