"""Files as people have them: encodings, delimiters, titles, empty cells, Korean heads, HTML."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from bench.data import readers
from bench.data.task_builder import build_task
from bench.errors import UserError

ROWS = [[f"주문 {number}번의 배송이 언제 오나요?", f"{number}일 뒤에 도착합니다."] for number in range(40)]


def table(rows: list[list[str]], delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def read(folder: Path, content: str | bytes, name: str = "d.csv", **options: Any) -> readers.RowSource:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return readers.read_source(str(folder / name), **options)


def pairs(source: readers.RowSource) -> list[list[str]]:
    return [[row.input, *row.targets] for row in source.rows]


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("cp949", "d.csv was read as cp949"),
        ("euc_kr", "d.csv was read as cp949"),
        ("utf-16", "d.csv was read as UTF-16"),
        ("utf-16-le", "d.csv was read as UTF-16LE"),
        ("utf-16-be", "d.csv was read as UTF-16BE"),
        ("utf-32", "d.csv was read as UTF-32"),
    ],
)
def test_read_source_encoding_is_recognized_and_named(encoding: str, note: str | None, tmp_path: Path) -> None:
    source = read(tmp_path, table([["질문", "답변"], *ROWS]).encode(encoding))
    assert pairs(source) == ROWS
    assert [text for text in source.notes if note and text.startswith(note)] == list(source.notes)
    assert bool(source.notes) is bool(note)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("質問,答え\nこんにちは,はい\n", "shift_jis"),
        ("问题,答案\n你好吗,很好\n", "gbk"),
        ("問題,答案\n你好嗎,很好\n", "big5"),
        ("question,answer\nLa élève était là,ça va\n", "latin-1"),
        ("question,answer\nÄpfel,Straße\n", "cp1252"),
        ("question,answer\nIt’s “fine”,yes\n", "cp1252"),
    ],
)
def test_read_source_other_encoding_is_not_taken_for_korean(text: str, encoding: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not UTF-8") as refusal:
        read(tmp_path, text.encode(encoding))
    assert "save it as UTF-8" in (refusal.value.hint or "")


def test_read_source_broken_character_in_cp949_is_refused_with_its_line(tmp_path: Path) -> None:
    content = table([["질문", "답변"], *ROWS]).encode("cp949").replace("10일".encode("cp949"), b"10\xc0")
    with pytest.raises(UserError, match="nearly the latter") as refusal:
        read(tmp_path, content)
    assert (refusal.value.location or "").endswith("d.csv:12")


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")])
def test_read_source_delimiter_is_the_one_that_divides_the_rows(delimiter: str, word: str, tmp_path: Path) -> None:
    rows = [[f"네, {number}번, 맞나요", "예, 맞습니다"] for number in range(40)]
    source = read(tmp_path, table([["질문, 문의", "답변"], *rows], delimiter), input="질문, 문의", target="답변")
    assert pairs(source) == rows
    assert source.notes == (f"the columns are divided by {word}s",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_source_titles_above_the_head_are_named(end: str, tmp_path: Path) -> None:
    above = [["2024년 고객 문의"], [], ["작성자: 홍길동", "2024-01-02"]]
    source = read(tmp_path, table([*above, ["번호", "고객 질문(필수)", "답변 내용"], *([["1", *ROWS[0]]])], end=end))
    assert pairs(source) == ROWS[:1]
    assert source.shape == "고객 질문(필수) → 답변 내용"
    assert source.notes == (
        'not read, because it stands above the head: "2024년 고객 문의"; "작성자: 홍길동 2024-01-02"',
        "columns not used: 번호",
    )


@pytest.mark.parametrize(
    "head",
    [
        ["질문", "답변"], ["문의", "답변"], ["입력", "출력"], ["문장", "라벨"], ["텍스트", "라벨"], ["제목", "분류"],
        ["내용", "카테고리"], ["질문", "카테고리"], ["Q", "A"], ["Sentence", "Label"], ["document", "label"],
        [unicodedata.normalize("NFD", "질문"), unicodedata.normalize("NFD", "답변")], ["1. 질문 내용", "2. 답변"],
    ],
)  # fmt: skip
def test_read_source_known_head_needs_no_options(head: list[str], tmp_path: Path) -> None:
    assert pairs(read(tmp_path, table([head, *ROWS]))) == ROWS
    reverse = table([head[::-1], *(row[::-1] for row in ROWS)])
    assert pairs(read(tmp_path, reverse)) == ROWS


def test_read_source_pair_that_belongs_together_is_preferred(tmp_path: Path) -> None:
    source = read(tmp_path, table([["번호", "분류", "질문", "답변"], ["1", "배송", *ROWS[0]]]))
    assert pairs(source) == ROWS[:1]
    assert source.notes == ("columns not used: 번호, 분류",)


def test_read_source_empty_cells_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [["질문", "답변"], *ROWS[:3], ["", "답"], *([[f"질문 {n}", " "] for n in range(5)]), *ROWS[3:]]
    source = read(tmp_path, table(rows))
    assert pairs(source) == ROWS
    assert source.notes == (
        "1 row left out because the input is empty: d.csv:5",
        "5 rows left out because the target is empty: d.csv:6, d.csv:7, d.csv:8 and 2 more",
    )


def test_build_task_html_stays_and_is_a_warning(tmp_path: Path) -> None:
    rows = [
        ["질문", "답변"],
        *([[f"{asked}<br/>", f"<p>a &lt; b</p> {answer}"] for asked, answer in ROWS]),
        ["1 < 2 > 0", "x"],
    ]
    draft = build_task(read(tmp_path, table(rows)), "mine", len)
    (warning,) = [note for note in draft.notes if note.startswith("warning:")]
    assert "HTML in 40 rows" in warning
    assert all("<br/>" in row["input"] for row in draft.splits["test"] if "<p>" in row["target"])


def test_new_task_prints_how_the_file_was_read(run_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "문의.csv").write_bytes(
        table([["2024년 문의"], ["문의", "답변"], *ROWS, ["빈 답", ""]], ";").encode("cp949")
    )
    done = run_bench("new", "task", "inquiries", "--from", "문의.csv")
    assert done.returncode == 0, done.stderr
    for note in ("cp949", "semicolons", "2024년 문의", "1 row left out", "format: 문의 → 답변"):
        assert note in done.stdout
