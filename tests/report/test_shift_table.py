"""Questions of another time or source: answered in the same run, kept apart, and reported beside the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import Bench, MakeRecord, MakeTask, examples

from bench.analysis import advice
from bench.analysis.constraints import Constraints
from bench.analysis.significance import Interval, independent_gap, score_interval
from bench.analysis.task_results import TaskResults, group_by_task
from bench.records import Record, reader
from bench.records.flatten import flatten_record
from bench.records.record import ShiftedAnswers
from bench.report import advice_text, pages, shift_table
from bench.task import load_task


def shifted_record(make_record: MakeRecord, name: str, em: float, shifted_em: float, **changes: Any) -> Record:
    record = make_record(name, em, items=200, **changes)
    other = make_record(name, shifted_em, items=100, **changes)
    answers = ShiftedAnswers(scores=other.scores, samples=other.samples)
    return Record.model_validate(record.model_copy(update={"shifted": answers}).model_dump(by_alias=True))


@pytest.fixture
def results(make_record: MakeRecord) -> TaskResults:
    """`lora` leads on the test, and `full` on the shifted questions."""
    records = [
        shifted_record(make_record, "lora", 0.9, 0.3),
        shifted_record(make_record, "full", 0.8, 0.7),
        shifted_record(make_record, "nearest", 0.2, 0.2, method__control=True),
    ]
    return group_by_task(records)[0]


def test_shift_rows_have_both_scores_and_their_gap(results: TaskResults) -> None:
    rows = shift_table.shift_rows(results)
    assert [(row.name, row.control) for row in rows] == [("full", False), ("lora", False), ("nearest", True)]
    lora = rows[1]
    assert (lora.test.mean, lora.shifted.mean, lora.gap.mean) == pytest.approx((0.9, 0.3, -0.6))
    assert -0.6 - 0.3 < lora.gap.low < -0.6 < lora.gap.high < 0


def test_advice_names_the_method_that_leads_on_shifted_questions(results: TaskResults) -> None:
    sentences = advice_text.advice_sentences(advice.advise(results, Constraints()), results, Constraints())
    named = [sentence for sentence in sentences if "another time or source" in sentence]
    assert named == ["On the questions of another time or source full is better than lora: 70.0 % against 30.0 %."]
    assert shift_table.describe_new_leader(results, {"lora", "nearest"}) == []


def test_report_shows_shifted_scores_in_page_and_markdown(results: TaskResults, tmp_path: Path) -> None:
    pages.write_report([results], tmp_path, load_questions=lambda spec: {})
    markdown, page = ((tmp_path / name).read_text("utf-8") for name in ("report.md", "index.html"))
    assert "| lora | 90.0 % | 30.0 % |" in markdown
    assert '<table class="shifted">' in page
    assert "-60.0 points" in markdown


def test_report_without_shifted_questions_says_nothing_of_them(make_record: MakeRecord, tmp_path: Path) -> None:
    results = group_by_task([make_record()])
    assert shift_table.shift_rows(results[0]) == shift_table.describe_shift(results[0]) == []
    pages.write_report(results, tmp_path, load_questions=lambda spec: {})
    assert "another time" not in (tmp_path / "index.html").read_text("utf-8")
    assert '"shifted"' not in make_record().to_json()


def test_independent_gap_covers_the_true_difference() -> None:
    rng, n_covered, rounds = numpy.random.default_rng(0), 0, 300
    for _ in range(rounds):
        test, shifted = (score_interval((rng.random((1, n)) < p).astype(float)) for n, p in ((150, 0.9), (60, 0.75)))
        gap = independent_gap(shifted, test)
        n_covered += gap.low <= -0.15 <= gap.high
    assert n_covered >= 0.92 * rounds
    exact = independent_gap(Interval(0.5, 0.4, 0.7), Interval(0.25, 0.25, 0.25))
    assert (exact.mean, exact.low, exact.high) == pytest.approx((0.25, 0.15, 0.45))


def test_run_answers_shifted_questions_and_keeps_them_apart(
    run_bench: Bench, make_task: MakeTask, tmp_path: Path
) -> None:
    folder = make_task(tmp_path / "feelings")
    digest = load_task(folder).sha256
    rows = [row | {"id": f"new-{row['id']}", "input": f"new {row['input']}"} for row in examples(70, 6)]
    (folder / "shifted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    task = load_task(folder)
    assert task.sha256 != digest
    assert len(task.splits["shifted"]) == 6
    done = run_bench("run", "--methods", "majority", "--task", folder, "--out", "results")
    assert done.returncode == 0, done.stderr
    (record,) = (
        record
        for record in reader.read_files(sorted((tmp_path / "results").glob("*.json")))
        if record.spec.method.name == "majority"
    )
    assert record.shifted is not None
    assert [sample.id for sample in record.shifted.samples] == [row["id"] for row in rows]
    assert len(record.samples) == 5
    assert record.cost is not None
    assert "shifted" in record.cost.phases
    assert record.on_shifted is not None
    assert record.on_shifted.scores == record.shifted.scores
    assert "shifted.scores.em" in flatten_record(record)


def test_load_task_shifted_question_with_known_id_raises(make_task: MakeTask, tmp_path: Path, run_bench: Bench) -> None:
    folder = make_task(tmp_path / "feelings")
    (folder / "shifted.jsonl").write_text((folder / "train.jsonl").read_text("utf-8"), "utf-8")
    done = run_bench("validate", folder)
    assert "'q0' is used twice" in done.stdout
    assert "shifted.jsonl:1" in done.stdout
