"""Rows of JSON, CSV, TSV and Parquet files, with the reason if a file is something else."""

from __future__ import annotations

import codecs
import csv
import io
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.data.text import excerpt
from bench.errors import UserError

MAX_CELL_CHARS = 10_000_000
SUFFIXES = ".jsonl, .json, .csv, .tsv or .parquet"
DELIMITERS = (",", ";", "\t", "|")
SAVE_AS_CSV = "open it in the spreadsheet program and save it as CSV UTF-8"

LocatedRow = tuple[str, dict[str, Any]]
"""A location for messages (`data.csv:7`), and the row."""

_SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or another zip archive", SAVE_AS_CSV),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", SAVE_AS_CSV),
    (b"PAR1", "a Parquet file", "rename it to NAME.parquet"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: unzstd"),
    (b"BZh", "compressed with bzip2", "unpack it: bunzip2"),
    (b"%PDF", "a PDF document", "export the rows as CSV"),
    (b"SQLite format 3", "an SQLite database", "export the rows as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the data: git lfs pull"),
)
_MARKUP_BEGINNINGS = (b"<!doctype", b"<html", b"<head", b"<body", b"<table", b"<meta", b"<?xml")


def read_file(path: Path) -> Iterator[LocatedRow]:
    """Yield the rows of a file with their locations.

    Raises:
        UserError: The file is missing, or is not what its name says.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        hint = f"give a {SUFFIXES} file, or hf:NAME"
        raise UserError(f"--from {path}: {'a folder' if path.is_dir() else 'file not found'}", hint=hint)
    if suffix == ".parquet":
        yield from _number_rows(path, _read_parquet(path))
    elif suffix in (".csv", ".tsv"):
        yield from _read_table(path, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".jsonl", ".ndjson"):
        yield from _read_json_lines(path)
    elif suffix == ".json":
        yield from _number_rows(path, _read_json_list(path))
    else:
        hint = SAVE_AS_CSV if suffix in (".xlsx", ".xls", ".ods") else "rename it if it is one"
        raise UserError(f"--from {path}: not a {SUFFIXES} file", hint=hint)


def _read_json_lines(path: Path) -> Iterator[LocatedRow]:
    hint = 'write one JSON object per line: {"input": …, "target": …}'
    text = _read_text(path)
    if text.lstrip().startswith("[") and not _is_json_object(text.lstrip().partition("\n")[0]):
        hint = "a file with one JSON list must be named NAME.json"
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _parse_json(line, f"{path}:{number}", hint)
            if not isinstance(row, dict):
                raise UserError("expected a JSON object", location=f"{path}:{number}", hint=hint)
            yield f"{path}:{number}", row


def _read_json_list(path: Path) -> list[Any]:
    text = _read_text(path)
    hint = "write one list of objects: [{…}, {…}]"
    first_line, _, other_lines = text.strip().partition("\n")
    if other_lines and _is_json_object(first_line):
        hint = "a file with one JSON object per line must be named NAME.jsonl"
    rows = _parse_json(text, str(path), hint)
    if not isinstance(rows, list):
        raise UserError("expected a JSON list of objects", location=str(path), hint=hint)
    return rows


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _parse_json(text: str, location: str, hint: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object_without_repeated_keys)
    except ValueError as error:
        raise UserError(f"invalid JSON: {error}", location=location, hint=hint) from None
    except RecursionError:
        raise UserError("invalid JSON: nested too deeply", location=location, hint=hint) from None


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
            hint = '{"input": …, "target": …}'
            raise UserError("a row must be an object with keys", location=f"{path}, row {number}", hint=hint)
        yield f"{path}, row {number}", row


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    with path.open("rb") as file:
        beginning = file.read(64)
    if not beginning.startswith(b"PAR1"):
        _check_signature(beginning, path)
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
    text = _read_text(path)
    if _is_json_object(text.strip().partition("\n")[0]) or text.lstrip().startswith("[{"):
        raise UserError("the file contains JSON", location=str(path), hint="rename it to NAME.jsonl or NAME.json")
    # Only line feeds and carriage returns end a row (RFC 4180); `splitlines` knows eight more separators.
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_find_delimiter(text, delimiter), strict=True)
    try:
        head = next((cells for cells in lines if any(map(str.strip, cells)) and not _names_a_delimiter(cells)), [])
        names = [name.strip("\ufeff \t") for name in head]
        while names and not names[-1]:
            names.pop()
        _check_head(names, f"{path}:{lines.line_num}")
        for cells in lines:
            if any(map(str.strip, cells)):
                yield f"{path}:{lines.line_num}", _name_cells(names, cells, f"{path}:{lines.line_num}")
    except csv.Error as error:
        raise UserError(
            f"invalid table: {error}", location=f"{path}:{lines.line_num}", hint="save it as CSV in UTF-8"
        ) from None


def _name_cells(names: Sequence[str], cells: Sequence[str], location: str) -> dict[str, Any]:
    """Return the cells of a row by column, without empty cells behind the last column."""
    num_used = max(len(names), *(number for number, cell in enumerate(cells, start=1) if cell.strip()))
    if len(cells) < len(names) or num_used > len(names):
        raise UserError(
            f"{num_used if num_used > len(names) else len(cells)} cells, but the head has {len(names)}",
            location=location,
            hint='put a text that contains a comma or a line break in quotes: "a, b"',
        )
    return dict(zip(names, cells, strict=False))


def _find_delimiter(text: str, usual: str) -> str:
    """Return the delimiter of a table: the usual one, if it divides the first row."""
    lines = io.StringIO(text, newline="")
    first_line = next((line for line in lines if line.strip()), "").strip("\r\n\ufeff")
    if _names_a_delimiter([first_line]):
        return first_line[-1]
    counts = {delimiter: len(next(csv.reader([first_line], delimiter=delimiter), [])) for delimiter in DELIMITERS}
    return usual if counts[usual] > 1 else max(DELIMITERS, key=lambda delimiter: counts[delimiter])


def _names_a_delimiter(cells: Sequence[str]) -> bool:
    """Tell if a row is the line `sep=;` that Excel reads and writes before the head."""
    line = "".join(cells)
    return line in {f"sep={delimiter}" for delimiter in DELIMITERS} | {"sep="}


def _check_head(names: Sequence[str], location: str) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        problem = f"two columns are named '{repeated}'" if repeated else "two columns have no name"
        raise UserError(problem, location=location, hint="rename or remove one of them")


def _read_text(path: Path) -> str:
    """Return a file's text without a byte order mark."""
    content = path.read_bytes()
    _check_signature(content, path)
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        _check_zero_bytes(content, path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        location = f"{path}:{line}, byte {error.start}"
        raise UserError("not UTF-8", location=location, hint=_encoding_hint(content, path)) from None


def _check_signature(content: bytes, path: Path) -> None:
    """Refuse a file that is of another type than its name says."""
    beginning = content[:256].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for signature, kind, hint in _SIGNATURES:
        if content.startswith(signature):
            raise UserError(f"not {path.suffix}: the file is {kind}", location=str(path), hint=hint)
    if beginning.startswith(_MARKUP_BEGINNINGS):
        hint = f"it may be an error page of a download; if it is a spreadsheet, {SAVE_AS_CSV}"
        raise UserError(f"not {path.suffix}: the file is HTML or XML", location=str(path), hint=hint)


def _check_zero_bytes(content: bytes, path: Path) -> None:
    """Refuse zero bytes, which interrupted copies and UTF-16 without a mark contain."""
    position = content.find(b"\0")
    if position < 0:
        return
    new_file = shlex.quote(f"new{path.suffix}")
    num_zeros, num_trailing = content.count(b"\0"), len(content) - len(content.rstrip(b"\0\r\n"))
    encoding = _utf_16_without_mark(content)
    line = content.count(b"\n", 0, position) + 1
    location = f"{path}:{line}, byte {position}"
    if encoding is not None:
        hint = f"it looks like UTF-16: iconv -f {encoding} -t utf-8 {shlex.quote(str(path))} > {new_file}"
        raise UserError("not UTF-8", location=location, hint=hint)
    where = "at its end, as after an interrupted copy" if position >= len(content) - num_trailing else "in it"
    hint = f"copy the file again, or remove them: tr -d '\\000' < {shlex.quote(str(path))} > {new_file}"
    raise UserError(f"the file has {num_zeros} zero bytes {where}", location=location, hint=hint)


def _utf_16_without_mark(content: bytes) -> str | None:
    """Return the encoding of UTF-16 without a byte order mark; None for another encoding."""
    zeros = {"utf-16be": content[::2].count(0), "utf-16le": content[1::2].count(0)}
    encoding = max(zeros, key=lambda name: zeros[name])
    is_utf_16 = zeros[encoding] > max(1, 2 * min(zeros.values()), len(content) / 100)
    return encoding if is_utf_16 and _can_decode(content, encoding) else None


def _encoding_hint(content: bytes, path: Path) -> str:
    """Say how to convert a file that is not UTF-8, by the encodings that can decode all of it."""
    convert = f"-t utf-8 {shlex.quote(str(path))} > new{path.suffix}"
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return f"it is marked as UTF-32: iconv -f utf-32 {convert}"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"it is marked as UTF-16: iconv -f utf-16 {convert}"
    lines = content.split(b"\n")
    if any(_can_decode(line, "utf-8") and not line.isascii() for line in lines):
        return "some lines are UTF-8 and some are not: correct these, or export the file again"
    if _can_decode(content, "cp949"):
        return f"if a Korean spreadsheet saved it: iconv -f cp949 {convert}"
    return "save it as UTF-8 in the program that made it"


def _can_decode(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def describe_columns(row: dict[str, Any]) -> str:
    """Return the names of a row's columns for a message, shortened."""
    names = [str(name) for name in row]
    shown = [name if len(name) <= 30 else excerpt(name, 30) for name in names[:12]]
    return (", ".join(shown) or "none") + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
