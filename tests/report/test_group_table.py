"""Scores by group of questions: the lowest first, with intervals for all groups together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import MakeRecord
from scipy import stats as scipy_stats

from bench.analysis.task_results import group_by_task
from bench.records import Record
from bench.report import group_table, pages
from bench.report.caveats import list_caveats
from bench.report.group_table import MAX_GROUPS


def grouped_record(make_record: MakeRecord, answers: Sequence[tuple[str, float]], name: str = "zero-shot") -> Record:
    """A record with the group and the score of each answer."""
    samples = [
        {
            "id": f"q{number:03}",
            "references": ["warm"],
            "raw": "warm" if score else "cold",
            "answer": "warm" if score else "cold",
            "scores": {"em": score},
            "group": group,
        }
        for number, (group, score) in enumerate(answers)
    ]
    return make_record(name, samples=samples)


ANSWERS = [*[("kind | 1", 1.0)] * 30, *[("b", 0.0)] * 4, ("b", 1.0), ("alone", 0.0), *[("c", 1.0), ("c", 0.0)] * 3]


def test_group_table_lowest_group_is_first_and_single_questions_are_left_out(make_record: MakeRecord) -> None:
    table = group_table.group_table([grouped_record(make_record, ANSWERS)])
    assert table is not None
    assert (table.metric, table.n_groups) == ("em", 3)
    assert [(row.name, row.questions, row.interval.mean) for row in table.rows] == [
        ("b", 5, 0.2),
        ("c", 6, 0.5),
        ("kind | 1", 30, 1.0),
    ]


def test_group_table_intervals_are_adjusted_for_the_number_of_groups(make_record: MakeRecord) -> None:
    table = group_table.group_table([grouped_record(make_record, ANSWERS)])
    assert table is not None
    exact = scipy_stats.binomtest(30, 30).proportion_ci(1 - 0.05 / 3, method="exact")
    assert (table.rows[-1].interval.low, table.rows[-1].interval.high) == pytest.approx((exact.low, exact.high))
    assert table.rows[0].interval.low < 0.2 < table.rows[0].interval.high


def test_group_table_shows_at_most_the_lowest_twenty(make_record: MakeRecord) -> None:
    answers = [(f"g{index // 2}", float(index >= 50)) for index in range(80)]
    table = group_table.group_table([grouped_record(make_record, answers)])
    assert table is not None
    assert (len(table.rows), table.n_groups) == (MAX_GROUPS, 40)
    assert {row.interval.mean for row in table.rows} == {0.0}


def test_group_table_without_groups_is_none(make_record: MakeRecord) -> None:
    assert group_table.group_table([make_record()]) is None
    answers = [(f"g{index}", 1.0) for index in range(4)]
    assert group_table.group_table([grouped_record(make_record, answers)]) is None


def test_report_with_groups_has_their_scores_and_caveats(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [grouped_record(make_record, ANSWERS), grouped_record(make_record, ANSWERS[::-1], "lora")]
    results = group_by_task(records)
    pages.write_report(results, tmp_path, load_questions=lambda spec: {})
    markdown, page = ((tmp_path / name).read_text("utf-8") for name in ("report.md", "index.html"))
    assert "| kind \\| 1 | 30 |" in markdown
    assert page.count('<details class="groups">') == 2
    caveats = " ".join(list_caveats(results[0]))
    assert "42 test questions belong to 4 groups" in caveats
    assert "4 groups are too few" in caveats
    assert "cannot be detected" not in caveats


def test_report_without_groups_has_no_table_of_groups(make_record: MakeRecord, tmp_path: Path) -> None:
    pages.write_report(group_by_task([make_record()]), tmp_path, load_questions=lambda spec: {})
    assert "by group" not in (tmp_path / "report.md").read_text("utf-8") + (tmp_path / "index.html").read_text("utf-8")
