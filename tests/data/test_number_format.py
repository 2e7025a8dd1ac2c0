"""Numbers and dates of cells, as a spreadsheet program shows them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from bench.data.number_format import show_cell

DAY = datetime.datetime(2024, 3, 5)
MOMENT = datetime.datetime(2024, 3, 5, 14, 7, 9)


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (3, "General", "3"),
        (3.0, "General", "3"),
        (0.1 + 0.2, "General", "0.3"),
        (-3.25, "General", "-3.25"),
        (123456789012345, "General", "123456789012345"),
        (True, "General", "TRUE"),
        (5, "@", "5"),
        (1234567, "#,##0", "1,234,567"),
        (0.1534, "0.00%", "15.34%"),
        (1234.5, "0.00", "1234.50"),
        (1234.5, "#,##0.0#", "1,234.5"),
        (0.5, ".00", ".50"),
        (2.5, "0", "3"),
        (7, "00000", "00007"),
        (1012345678, "000-0000-0000", "010-1234-5678"),
        (15000, "[$₩-412]#,##0", "₩15,000"),
        (15000, '#,##0"원"', "15,000원"),
        (15000, r"#,##0\원", "15,000원"),
        (1500000, '#,##0,"천"', "1,500천"),
        (-5, "#,##0;[Red]-#,##0", "-5"),
        (-5, "#,##0;(#,##0)", "(5)"),
        (0, '0;-0;"-"', "-"),
        (12, '_-* #,##0_-;-* #,##0_-;_-* "-"_-;_-@_-', "12"),
        (1234567, "0.00E+00", "1234567"),
        (0.5, "# ?/?", "0.5"),
        (DAY, "mm-dd-yy", "2024-03-05"),
        (DAY, 'yyyy"년" m"월" d"일"', "2024년 3월 5일"),
        (DAY, r"yyyy\-mm\-dd;@", "2024-03-05"),
        (DAY, "m/d/yyyy", "3/5/2024"),
        (DAY, "d-mmm-yy", "5-Mar-24"),
        (DAY, "yyyy.mm.dd(aaa)", "2024.03.05(화)"),
        (DAY, "General", "2024-03-05"),
        (MOMENT, "yyyy-mm-dd h:mm", "2024-03-05 14:07"),
        (MOMENT, "h:mm AM/PM", "2:07 PM"),
        (MOMENT, "[$-412]AM/PM h:mm", "오후 2:07"),
        (MOMENT, "mm:ss", "07:09"),
        (datetime.date(2024, 3, 5), "yyyy-mm-dd", "2024-03-05"),
        (datetime.time(9, 5), "h:mm", "9:05"),
        (datetime.timedelta(hours=26, minutes=3), "[h]:mm:ss", "26:03:00"),
    ],
)
def test_show_cell_gives_the_text_of_the_cell(value: Any, number_format: str, shown: str) -> None:
    assert show_cell(value, number_format) == shown
