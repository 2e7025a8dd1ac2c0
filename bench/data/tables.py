"""Rows of tables: the head below titles, columns without a name, ragged rows."""

from __future__ import annotations

import csv
import io
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.decoding import read_text
from bench.data.text import excerpt
from bench.errors import UserError
from bench.i18n import Message
from bench.units import count

MAX_CELL_CHARS = 10_000_000
DELIMITERS = {
    ",": Message("the columns are divided by commas"),
    ";": Message("the columns are divided by semicolons"),
    "\t": Message("the columns are divided by tabs"),
    "|": Message("the columns are divided by vertical bars"),
}
"""Delimiters with the note on a file that has another one than its name says."""
ROWS_THAT_SHOW_THE_DELIMITER = 50
MAX_ROWS_ABOVE_HEAD = 10
"""Rows in which the head is looked for: titles, dates and authors may stand above it."""

LocatedRow = tuple[str, dict[str, Any]]
"""A location for messages (`data.csv:7`), and the row."""
LocatedCells = tuple[str, list[str]]
"""A location for messages, and the cells of a row."""
IsHead = Callable[[Sequence[str]], bool]
"""Tells if the cells of a row are names of columns that can be used."""


@dataclass(frozen=True)
class FileRows:
    """The rows of a file, and notes on how it was read."""

    rows: list[LocatedRow]
    notes: list[str]


def read_csv(path: Path, usual_delimiter: str, is_head: IsHead) -> FileRows:
    """Read the rows of a table of text.

    Args:
        path: The file.
        usual_delimiter: Delimiter of files of this name; another one is used if it divides the rows better.
        is_head: Tells if the cells of a row are names of columns that can be used.

    Raises:
        UserError: The file is not a table, or a row has other cells than the head.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    text, notes = read_text(path)
    if is_json_object(text.strip().partition("\n")[0]) or text.lstrip().startswith("[{"):
        raise UserError(
            Message("the file contains JSON"), location=str(path), hint=Message("rename it to NAME.jsonl or NAME.json")
        )
    delimiter = _find_delimiter(text, usual_delimiter)
    lines = [
        (location, cells) for location, cells in _read_lines(text, delimiter, path) if not _names_a_delimiter(cells)
    ]
    if delimiter != usual_delimiter:
        notes.append(DELIMITERS[delimiter])
    names, rows, head_notes = _split_head(lines, is_head)
    if sum(not name and any(_cell(cells, index) for _, cells in rows) for index, name in enumerate(names)) > 1:
        raise UserError(
            Message("two columns have no name"), location=str(path), hint=Message("name them, or remove one of them")
        )
    return FileRows(_name_cells(names, rows, delimiter), notes + head_notes)


def read_grid(lines: Sequence[LocatedCells], is_head: IsHead) -> FileRows:
    """Read the rows of a sheet, whose cells cannot be in a wrong column.

    Args:
        lines: The rows that are not blank, from the top.
        is_head: Tells if the cells of a row are names of columns that can be used.
    """
    names, rows, notes = _split_head(lines, is_head)
    width = max((len(cells) for _, cells in rows), default=0)
    unnamed = [
        index
        for index in range(width)
        if (index >= len(names) or not names[index])
        and any(index < len(cells) and cells[index].strip() for _, cells in rows)
    ]
    if unnamed:
        columns = ", ".join(_column_letter(index) for index in unnamed[:5])
        notes.append(Message("not read, because the head has no name there: column {columns}", columns=columns))
    named = [(location, _cut(cells, len(names))) for location, cells in rows]
    return FileRows(
        [
            (location, {name: cell for name, cell in zip(names, cells, strict=True) if name})
            for location, cells in named
            if any(map(str.strip, cells))
        ],
        notes,
    )


def check_head(names: Sequence[str], location: str) -> None:
    """Raise `UserError` if two columns have the same name."""
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        problem = (
            Message("two columns are named '{repeated}'", repeated=repeated)
            if repeated
            else Message("two columns have no name")
        )
        raise UserError(problem, location=location, hint=Message("rename or remove one of them"))


def _read_lines(text: str, delimiter: str, path: Path) -> Iterator[LocatedCells]:
    """Yield the rows that are not blank, with the lines where they begin."""
    # Only line feeds and carriage returns end a row (RFC 4180); `splitlines` knows eight more separators.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        location = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = Message("invalid table: {problem}", problem=error)
            hint = Message('write a quotation mark inside quotes twice: "a ""b"" c"')
            if "end of data" in str(error):
                problem = Message("invalid table: a quotation mark that opens in this row is never closed")
            raise UserError(problem, location=location, hint=hint) from None
        if cells is None:
            return
        if any(map(str.strip, cells)):
            yield location, cells


def _split_head(lines: Sequence[LocatedCells], is_head: IsHead) -> tuple[list[str], list[LocatedCells], list[str]]:
    """Return the names of the columns, the rows below them, and a note on what stands above.

    The head is the first row with names that can be used; without such a row it is the first with two cells.
    Columns between others may have no name.
    """
    if not lines:
        return [], [], []
    first_rows = [_clean_names(cells) for _, cells in lines[:MAX_ROWS_ABOVE_HEAD]]
    position = find_head(lines, is_head)
    if position is None:
        position = next((index for index, names in enumerate(first_rows) if sum(map(bool, names)) > 1), 0)
    names, rows = first_rows[position], list(lines[position + 1 :])
    check_head(list(filter(None, names)), lines[position][0])
    notes: list[str] = []
    if position:
        titles = "; ".join(excerpt(" ".join(filter(None, names))) for names in first_rows[:position])
        notes.append(Message("not read, because it stands above the head: {titles}", titles=titles))
    return names, rows, notes


def find_head(lines: Sequence[LocatedCells], is_head: IsHead) -> int | None:
    """Return the position of the first row with usable names; None if there is none."""
    for position, (_, cells) in enumerate(lines[:MAX_ROWS_ABOVE_HEAD]):
        if is_head(_clean_names(cells)):
            return position
    return None


def _clean_names(cells: Sequence[str]) -> list[str]:
    """Return names of columns in NFC, without white space and empty ones at the end."""
    names = [" ".join(unicodedata.normalize("NFC", cell).strip("\ufeff \t").split()) for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _name_cells(names: Sequence[str], rows: Sequence[LocatedCells], delimiter: str) -> list[LocatedRow]:
    """Return the cells of rows by column, without empty cells behind the last column.

    Raises:
        UserError: A row has more or fewer cells than the head; the message counts such rows.
    """
    ragged = []
    named = []
    for location, cells in rows:
        num_used = max(len(names), *(number for number, cell in enumerate(cells, start=1) if cell.strip()))
        if len(cells) < len(names) or num_used > len(names):
            ragged.append((location, num_used if num_used > len(names) else len(cells)))
        named.append((location, {name: cell for name, cell in zip(names, cells, strict=False) if name}))
    if ragged:
        location, num_cells = ragged[0]
        rows_text = count(len(ragged), "row")
        others = Message("; {rows} differ from the head", rows=rows_text) if len(ragged) > 1 else ""
        hint = Message(
            'put a text that contains the delimiter or a line break in quotes: "a{delimiter} b"', delimiter=delimiter
        )
        if num_cells < len(names):
            hint = Message("write the missing cells, empty ones too, or remove the row")
        raise UserError(
            Message(
                "{cells} cells, but the head has {number}{others}",
                cells=num_cells,
                number=len(names),
                others=others,
            ),
            location=location,
            hint=hint,
        )
    return named


def _find_delimiter(text: str, usual: str) -> str:
    """Return the delimiter that divides most of the first rows into equally many cells.

    If several do, it is the usual one.
    """
    first_line = next((line for line in io.StringIO(text, newline="") if line.strip()), "").strip("\r\n\ufeff")
    if _names_a_delimiter([first_line]) and first_line[-1] in DELIMITERS:
        return first_line[-1]

    def count_equal_rows(delimiter: str) -> tuple[int, bool]:
        reader = csv.reader(io.StringIO(text[:MAX_CELL_CHARS], newline=""), delimiter=delimiter)
        rows = itertools.islice((cells for cells in reader if any(cells)), ROWS_THAT_SHOW_THE_DELIMITER)
        counts = Counter(len(cells) for cells in rows)
        return max((rows for cells, rows in counts.items() if cells > 1), default=0), delimiter == usual

    return max(DELIMITERS, key=count_equal_rows)


def _names_a_delimiter(cells: Sequence[str]) -> bool:
    """Tell if a row is the line `sep=;` that Excel reads and writes before the head."""
    line = "".join(cells)
    return line in {f"sep={delimiter}" for delimiter in DELIMITERS} | {"sep="}


def is_json_object(text: str) -> bool:
    """Tell if a text is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _cell(cells: Sequence[str], index: int) -> str:
    return cells[index].strip() if index < len(cells) else ""


def _cut(cells: Sequence[str], width: int) -> list[str]:
    """Return exactly `width` cells."""
    return [*cells[:width], *[""] * (width - len(cells))]


def _column_letter(index: int) -> str:
    """Return the name of a column as spreadsheet programs show it: 0 is A, 26 is AA."""
    letters = ""
    number = index + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters
