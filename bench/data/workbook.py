"""Rows of Excel workbooks, with numbers and dates as their cells show them."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.decoding import SAVE_AS_CSV, check_signature
from bench.data.number_format import show_cell
from bench.data.tables import FileRows, IsHead, find_head, read_grid
from bench.data.text import count_cells
from bench.errors import UserError, did_you_mean
from bench.i18n import Message

if TYPE_CHECKING:
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

SUFFIXES = (".xlsx", ".xlsm")


def read_workbook(path: Path, is_head: IsHead, sheet_name: str | None = None) -> FileRows:
    """Read the rows of one sheet of a workbook.

    Args:
        path: The file.
        is_head: Tells if the cells of a row are names of columns that can be used.
        sheet_name: The sheet; None for the first visible one with such a head, or else the first with rows.

    Raises:
        UserError: openpyxl is not installed, the file is no workbook, or there is no such sheet.
    """
    workbook = _open(path, data_only=False)
    names = [sheet.title for sheet in workbook.worksheets]
    if sheet_name is not None and sheet_name not in names:
        raise UserError(
            Message("--sheet {name}: {path} has no such sheet", name=sheet_name, path=path),
            hint=did_you_mean(sheet_name, names),
        )
    sheet = workbook[sheet_name] if sheet_name is not None else _choose_sheet(workbook.worksheets, is_head)
    if any(cell.data_type == "f" for row in sheet.iter_rows() for cell in row):
        sheet = _replace_formulas(sheet, path)
    notes: list[str] = []
    if len(names) > 1:
        others = ", ".join(f"'{name}'" for name in names if name != sheet.title)
        notes.append(
            Message("sheet '{sheet}' was read; the others, for --sheet: {others}", sheet=sheet.title, others=others)
        )
    texts = _cell_texts(sheet)
    notes += _cell_notes(sheet, texts)
    lines = [
        (f"{path}, sheet '{sheet.title}', row {number}", cells)
        for number, cells in enumerate(texts, start=1)
        if any(cells)
    ]
    content = read_grid(lines, is_head)
    return FileRows(content.rows, notes + content.notes)


def _choose_sheet(sheets: Sequence[Worksheet], is_head: IsHead) -> Worksheet:
    """Return the first visible sheet with a usable head, or else the first with rows."""
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    filled = [sheet for sheet in visible if any(any(cells) for cells in _cell_texts(sheet))]
    for sheet in filled:
        if find_head([("", cells) for cells in _cell_texts(sheet) if any(cells)], is_head) is not None:
            return sheet
    return next(iter(filled or visible or sheets))


def _open(path: Path, data_only: bool) -> Any:
    """Open a workbook with openpyxl.

    Args:
        path: The file.
        data_only: True to read the stored results of formulas, False to read the formulas.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise UserError(
            Message("{path}: reading a workbook needs the package openpyxl, which is not installed", path=path),
            hint=Message("pip install 'adaptbench[excel]', or {advice}", advice=SAVE_AS_CSV),
        ) from None
    with path.open("rb") as file:
        beginning = file.read(256)
    if not beginning.startswith(b"PK\x03\x04"):
        check_signature(beginning, path)
        hint = Message("if it is a table of text, rename it to NAME.csv; else save it again as an Excel workbook")
        raise UserError(
            Message("not {suffix}: the file is no Excel workbook", suffix=path.suffix), location=str(path), hint=hint
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and extensions that have no effect on values.
            return openpyxl.load_workbook(path, data_only=data_only)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, EOFError, SyntaxError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(
            Message("the workbook cannot be read: {problem}", problem=first_line),
            location=str(path),
            hint=Message("open it in the spreadsheet program and save it again as .xlsx"),
        ) from None


def _replace_formulas(sheet: Worksheet, path: Path) -> Worksheet:
    """Return the sheet with the stored results of its formulas.

    Raises:
        UserError: A formula has no stored result, as in a file that a program wrote and no spreadsheet program opened.
    """
    results: Worksheet = _open(path, data_only=True)[sheet.title]
    for row in sheet.iter_rows():
        for cell in row:
            if cell.data_type == "f" and results[cell.coordinate].value is None:
                raise UserError(
                    Message("cell {coordinate} has a formula without a stored result", coordinate=cell.coordinate),
                    location=Message("{path}, sheet '{title}'", path=path, title=sheet.title),
                    hint=Message("open the file in the spreadsheet program and save it, or replace formulas by values"),
                )
    return results


def _cell_texts(sheet: Worksheet) -> list[list[str]]:
    """Return the texts of all cells by row.

    Cells that are merged over several rows have their text in each row.
    """
    texts = [[_show(cell) for cell in row] for row in sheet.iter_rows()]
    for merged in sheet.merged_cells.ranges:
        for row in range(merged.min_row, min(merged.max_row, len(texts))):
            texts[row][merged.min_col - 1] = texts[merged.min_row - 1][merged.min_col - 1]
    return texts


def _cell_notes(sheet: Worksheet, texts: Sequence[Sequence[str]]) -> list[str]:
    """Return notes on cells that are not what they seem: merged, hidden, or with an error."""
    notes: list[str] = []
    num_merged = sum(merged.max_row > merged.min_row for merged in sheet.merged_cells.ranges)
    if num_merged:
        notes.append(
            Message(
                "{cells} merged over several rows; each of these rows was given the value",
                cells=count_cells(num_merged),
            )
        )
    num_errors = sum(cell.data_type == "e" for row in sheet.iter_rows() for cell in row)
    if num_errors:
        notes.append(Message("{cells} with an error such as #N/A read as empty", cells=count_cells(num_errors)))
    filled = [number for number, cells in enumerate(texts, start=1) if any(cells)]
    num_hidden = sum(number in sheet.row_dimensions and sheet.row_dimensions[number].hidden for number in filled)
    if num_hidden:
        hidden = Message("1 hidden row") if num_hidden == 1 else Message("{number:,} hidden rows", number=num_hidden)
        notes.append(Message("{rows} read too; delete such rows in the file if they are not wanted", rows=hidden))
    return notes


def _show(cell: Cell) -> str:
    """Return the text of a cell as it is shown; empty for an error and white space."""
    value: Any = cell.value
    if value is None or cell.data_type == "e":
        return ""
    is_text = isinstance(value, str) or cell.data_type == "f"
    text = str(value) if is_text else show_cell(value, cell.number_format)
    return text if text.strip() else ""
