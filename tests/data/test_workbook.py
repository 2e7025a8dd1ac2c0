"""Workbooks: cells as they are shown, titles, merged cells, sheets, and clear errors."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.data import readers
from bench.errors import UserError

openpyxl = pytest.importorskip("openpyxl")
ROWS = [[f"질문 {number}?", f"답 {number}"] for number in range(40)]


def write(file: Path, fill: Callable[[Any], None]) -> str:
    workbook = openpyxl.Workbook()
    fill(workbook)
    workbook.save(file)
    return str(file)


def append(sheet: Any, *rows: list[Any]) -> None:
    for row in rows:
        sheet.append(row)


def pairs(source: readers.RowSource) -> list[list[str]]:
    return [[row.input, *row.targets] for row in source.rows]


def test_read_source_workbook_with_title_and_spacer_columns_is_read(tmp_path: Path) -> None:
    def fill(workbook: Any) -> None:
        sheet = workbook.active
        append(sheet, [None, "2024년 고객 문의"], [], [None, "번호", "문의", None, "답변"])
        append(sheet, *([None, number, asked, None, answer] for number, (asked, answer) in enumerate(ROWS)))
        sheet.merge_cells("B1:E1")
        sheet["G9"] = "메모"

    source = readers.read_source(write(tmp_path / "d.xlsx", fill))
    assert pairs(source) == ROWS
    assert source.notes == (
        'not read, because it stands above the head: "2024년 고객 문의"',
        "not read, because the head has no name there: column G",
        "columns not used: 번호",
    )


def test_read_source_workbook_numbers_and_dates_are_as_shown(tmp_path: Path) -> None:
    shown = {
        "2024-03-05": (datetime.datetime(2024, 3, 5), "yyyy-mm-dd"),
        "15%": (0.15, "0%"),
        "15,000원": (15000, '#,##0"원"'),
        "3": (3.0, "General"),
        "0.3": (0.1 + 0.2, "General"),
        "010-1234-5678": (1012345678, "000-0000-0000"),
        "TRUE": (True, "General"),
        "007": ("007", "@"),
    }

    def fill(workbook: Any) -> None:
        append(workbook.active, ["질문", "답변"])
        for row, (value, number_format) in enumerate(shown.values(), start=2):
            workbook.active.cell(row, 1, f"질문 {row}")
            workbook.active.cell(row, 2, value).number_format = number_format

    source = readers.read_source(write(tmp_path / "d.xlsx", fill))
    assert [row.targets[0] for row in source.rows] == list(shown)


def test_read_source_workbook_merged_rows_have_the_value_each(tmp_path: Path) -> None:
    def fill(workbook: Any) -> None:
        append(workbook.active, ["분류", "문장"], ["배송", "하나"], [None, "둘"], ["환불", "셋"])
        workbook.active.merge_cells("A2:A3")

    source = readers.read_source(write(tmp_path / "d.xlsx", fill))
    assert pairs(source) == [["하나", "배송"], ["둘", "배송"], ["셋", "환불"]]
    assert source.notes == ("1 cell merged over several rows; each of these rows was given the value",)


def test_read_source_workbook_sheet_is_chosen_and_named(tmp_path: Path) -> None:
    def fill(workbook: Any) -> None:
        append(workbook.active, ["보고서"], ["2024", "1분기"])
        workbook.active.title = "표지"
        append(workbook.create_sheet("숨김"), ["질문", "답변"], ["a", "b"])
        workbook["숨김"].sheet_state = "hidden"
        append(workbook.create_sheet("문의"), ["질문", "답변"], *ROWS)
        append(workbook.create_sheet("기타"), ["질문", "답변"], ["다른 질문", "=1+1"])

    file = write(tmp_path / "d.xlsx", fill)
    source = readers.read_source(file)
    assert pairs(source) == ROWS
    assert source.notes == ("sheet '문의' was read; the others, for --sheet: '표지', '숨김', '기타'",)
    assert pairs(readers.read_source(file, sheet="숨김")) == [["a", "b"]]
    with pytest.raises(UserError, match=r"--sheet 문: .* has no such sheet") as no_sheet:
        readers.read_source(file, sheet="문")
    assert "did you mean '문의'?" in (no_sheet.value.hint or "")
    with pytest.raises(UserError, match="cell B2 has a formula without a stored result"):
        readers.read_source(file, sheet="기타")


def test_read_source_workbook_hidden_and_wrong_cells_are_told(tmp_path: Path) -> None:
    def fill(workbook: Any) -> None:
        append(workbook.active, ["질문", "답변"], *ROWS, ["하나", "#N/A"])
        workbook.active["B42"].data_type = "e"
        workbook.active.row_dimensions[5].hidden = True

    source = readers.read_source(write(tmp_path / "d.xlsx", fill))
    assert pairs(source) == ROWS
    assert [note.partition(" because")[0][:24] for note in source.notes] == [
        "1 cell with an error suc", "1 hidden row read too; d", "1 row left out",
    ]  # fmt: skip
    assert "sheet 'Sheet', row 42" in source.notes[-1]


@pytest.mark.parametrize(
    ("content", "problem", "hint"),
    [
        (b"PK\x03\x04" + b"0" * 99, "the workbook cannot be read", "save it again as .xlsx"),
        ("질문,답변\n".encode(), "no Excel workbook", "rename it to NAME.csv"),
        (b"\xd0\xcf\x11\xe0" + b"0" * 99, "an old or encrypted Excel workbook", "without a password"),
        (b"<html><table>", "HTML or XML", "CSV UTF-8"),
    ],
)
def test_read_source_file_that_is_no_workbook_is_refused(
    content: bytes, problem: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "d.xlsx").write_bytes(content)
    with pytest.raises(UserError, match=problem) as refusal:
        readers.read_source(str(tmp_path / "d.xlsx"))
    assert hint in (refusal.value.hint or "")


def test_read_source_sheet_of_a_csv_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("질문,답변\n", "utf-8")
    with pytest.raises(UserError, match="is no workbook"):
        readers.read_source(str(tmp_path / "d.csv"), sheet="a")


def test_read_source_workbook_without_openpyxl_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "d.xlsx", lambda workbook: append(workbook.active, ["질문", "답변"], *ROWS))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match="needs the package openpyxl") as refusal:
        readers.read_source(file)
    assert "pip install 'adaptbench[excel]'" in (refusal.value.hint or "")
