"""The command `bench try`: from a file of rows to advice, again without work, and its refusals."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from support import tiny_encoder

from bench.cli import try_
from bench.execution.forecast import time_limit
from bench.modeling.checkpoint import Checkpoint
from bench.records import read_all

CATEGORIES = {"배송": "언제 도착하나요", "환불": "돈을 돌려받고 싶습니다", "교환": "다른 것으로 바꿔 주세요"}
ITEMS = ("운동화", "코트", "이어폰", "가방")


def write_rows(file: Path, heads: str, rows: Sequence[tuple[str, str]], encoding: str = "utf-8") -> Path:
    file.write_text(heads + "\n" + "".join(f"{question},{answer}\n" for question, answer in rows), encoding)
    return file


def support_rows(count: int) -> list[tuple[str, str]]:
    """Korean support questions with their categories."""
    names = list(CATEGORIES)
    return [
        (f"{ITEMS[n % len(ITEMS)]} {n}번 {CATEGORIES[names[n % len(names)]]}", names[n % len(names)])
        for n in range(count)
    ]


@pytest.fixture
def call_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command in `tmp_path` with one quick method; returns exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time_limit, "EFFORTS", (time_limit.Effort("quick", 1),))
    monkeypatch.setattr(try_, "LABEL_METHODS", ("features",))
    monkeypatch.setattr(try_, "OPEN_METHODS", ("few-shot",))
    handler = signal.getsignal(signal.SIGTERM)

    def call(data: Path, **options: Any) -> tuple[object, str]:
        settings = {"input": None, "target": None, "sheet": None, "name": None, "report": None, "device": "cpu"}
        with pytest.raises(SystemExit) as end:
            try_.command(
                str(data), **(settings | {"dtype": "float32", "minutes": 60, "out": Path("results")} | options)
            )
        return end.value.code, capsys.readouterr().out

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_try_korean_categories_ends_with_advice_and_repeats_nothing(
    call_try: Any, tiny: Checkpoint, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "문의.csv", "문의,카테고리", support_rows(90), "cp949")
    code, out = call_try(data, model=str(tiny.folder), name="support")
    assert code == 0
    for step in ("new task support --from", "validate ./support", "run --methods features --task ./support"):
        assert f"  bench {step}" in out
    assert "accuracy" in out and "cp949" in out
    answers = ("Use ", "Preliminary", "Inconclusive", "Nothing works yet")
    first = next(line for line in out.splitlines() if line.startswith(answers))
    assert out.index(first) < out.index("support on ") < out.index("Next:") < out.index("Report: reports/support")
    assert (tmp_path / "reports" / "support" / "index.html").is_file()
    records = read_all(tmp_path / "results")
    assert {record.spec.method.name for record in records} == {"features", "majority", "nearest", "tfidf", "zero-shot"}
    assert all(record.command[:3] == ("run", "--methods", "features") for record in records)

    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "results").glob("*.json")}
    code, out = call_try(data, model=str(tiny.folder), name="support")
    assert code == 0 and " before. " in " ".join(out.split())
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "results").glob("*.json")} == times


def test_try_free_replies_are_not_judged_by_exact_match(call_try: Any, tiny: Checkpoint, tmp_path: Path) -> None:
    rows = [
        (question, f"{answer} 문의를 주셔서 감사합니다. {n}번 주문을 확인하여 오늘 안으로 다시 연락드리겠습니다")
        for n, (question, answer) in enumerate(support_rows(60))
    ]
    code, out = call_try(write_rows(tmp_path / "replies.csv", "질문,답변", rows), model=str(tiny.folder))
    assert code == 0
    assert "main metric f1" in out and " f1 " in out
    assert "Use nearest" not in out


def test_try_other_rows_under_the_same_name_are_refused(run_bench: Bench, tiny: Checkpoint, tmp_path: Path) -> None:
    task = tmp_path / "rows"
    task.mkdir()
    (task / "train.jsonl").write_text(json.dumps({"id": "a", "input": "x", "target": "y"}) + "\n", "utf-8")
    data = write_rows(tmp_path / "rows.csv", "question,answer", support_rows(90))
    result = run_bench("try", data, "--model", tiny.folder)
    assert result.returncode == 2
    assert "has other rows" in result.stderr and "--name rows-2" in result.stderr
    assert [file.name for file in task.iterdir()] == ["train.jsonl"]


def test_try_encoder_on_open_answers_is_refused_before_anything_is_run(run_bench: Bench, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", "question,answer", [(f"Who is {n}?", f"Number {n}") for n in range(60)])
    result = run_bench("try", data, "--model", tiny_encoder(tmp_path / "encoder").folder)
    assert result.returncode == 2
    assert "is an encoder" in result.stderr and "--model" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("source", [".", "missing.csv"])
def test_try_without_a_file_of_rows_is_refused(run_bench: Bench, tiny: Checkpoint, source: str) -> None:
    result = run_bench("try", source, "--model", tiny.folder)
    assert result.returncode == 2 and result.stderr.rpartition("error: ")[2]
