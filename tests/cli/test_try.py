"""The command `bench try`: from a file of rows to advice, again without work, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Bench

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


def test_try_korean_categories_ends_with_advice_and_repeats_nothing(
    run_bench: Bench, base: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "문의.csv", "문의,카테고리", support_rows(90), "cp949")
    options = ("try", data, "--model", base, "--minutes", "60", "--name", "support", "--dtype", "float32")
    result = run_bench(*options)
    assert result.returncode == 0, result.stderr
    out = result.stdout
    steps = (
        "new task support --from",
        "validate ./support",
        "run --methods few-shot,lora,features,full --task ./support",
    )
    for step in steps:
        assert f"  bench {step}" in out
    assert "accuracy" in out and "cp949" in out
    verdict = next(
        line for line in out.splitlines() if line.startswith(("Use ", "Preliminary", "Inconclusive", "Nothing"))
    )
    assert out.index(verdict) < out.index("support on ") < out.index("Next:") < out.index("Report: reports/support")
    assert (tmp_path / "reports" / "support" / "index.html").is_file()
    records = read_all(tmp_path / "results")
    assert {record.spec.budget.epochs for record in records} == {3} and {record.spec.seed for record in records} == {
        0,
        1,
        2,
    }
    assert all(record.command[:2] == ("run", "--methods") for record in records)

    (tmp_path / "support" / "task.yaml").write_text(
        (tmp_path / "support" / "task.yaml").read_text("utf-8").replace("license: unknown", "license: MIT"), "utf-8"
    )
    again = run_bench(*options)
    assert "made from" in again.stdout and again.returncode == 0, again.stderr


def test_try_other_rows_under_the_same_name_are_refused(run_bench: Bench, base: Path, tmp_path: Path) -> None:
    task = tmp_path / "rows"
    task.mkdir()
    (task / "train.jsonl").write_text(json.dumps({"id": "a", "input": "x", "target": "y"}) + "\n", "utf-8")
    data = write_rows(tmp_path / "rows.csv", "question,answer", support_rows(90))
    result = run_bench("try", data, "--model", base)
    assert result.returncode == 2
    assert "has other rows" in result.stderr and "--name rows-2" in result.stderr
    assert [file.name for file in task.iterdir()] == ["train.jsonl"]


def test_try_encoder_on_open_answers_is_refused_before_anything_is_run(
    run_bench: Bench, encoder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.csv", "question,answer", [(f"Who is {n}?", f"Number {n}") for n in range(60)])
    result = run_bench("try", data, "--model", encoder)
    assert result.returncode == 2
    assert "is an encoder" in result.stderr and "--model" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("source", [".", "missing.csv"])
def test_try_without_a_file_of_rows_is_refused(run_bench: Bench, base: Path, source: str) -> None:
    result = run_bench("try", source, "--model", base)
    assert result.returncode == 2 and result.stderr.rpartition("error: ")[2]
