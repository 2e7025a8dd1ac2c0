"""The table that a run ends with: what it puts first, what it marks, and that it leaves nothing out."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRecord
from rich.console import Console

from bench.analysis import power, summary
from bench.analysis.task_results import group_by_task
from bench.records.record import Record
from bench.report import caveats, terminal_table

FAILED: dict[str, Any] = {
    "cost": None,
    "samples": [],
    "scores": {},
    "error": {"kind": "K", "message": "there was no tea", "trace": None},
}
UNSUCCESSFUL = ("unsupported", "did-not-fit", "timeout", "error")


def shown(records: list[Record], width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(terminal_table.render_table(group_by_task(records)[0]))
    return captured.get()


def line_of(method: str, text: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def test_the_best_method_comes_first(make_record: MakeRecord) -> None:
    records = [make_record(name, em) for name, em in (("lora", 0.5), ("few-shot", 0.25), ("qlora", 0.75))]
    assert [row.method for row in summary.summarize_methods(records)] == ["qlora", "lora", "few-shot"]
    first = [line.split()[0] for line in shown(records).splitlines() if line.strip()]
    assert [word for word in first if word in ("lora", "qlora", "few-shot")] == ["qlora", "lora", "few-shot"]


def test_best_is_what_the_task_calls_its_metric(make_record: MakeRecord) -> None:
    one = make_record("one", task__metric="f1", scores={"em": 0.9, "f1": 0.1})
    two = make_record("two", task__metric="f1", scores={"em": 0.1, "f1": 0.9})
    assert [row.method for row in summary.summarize_methods([one, two])] == ["two", "one"]


def test_rows_do_not_depend_on_the_order_of_the_records(make_record: MakeRecord) -> None:
    records = [make_record(name, 0.5, seed=seed) for name in ("b", "a", "c") for seed in (0, 1)]
    assert summary.summarize_methods(records) == summary.summarize_methods(records[::-1])


def test_controls_are_marked_and_contenders_are_not(make_record: MakeRecord) -> None:
    text = shown([make_record("majority", method__control=True), make_record("lora")])
    assert line_of("majority", text)[1] == "°"
    assert "°" not in line_of("lora", text)
    assert any(note.startswith("° control") for note in terminal_table.legend(group_by_task([make_record("lora")])[0]))


@pytest.mark.parametrize("status", UNSUCCESSFUL)
def test_a_run_that_failed_has_a_row_and_a_reason(make_record: MakeRecord, status: str) -> None:
    records = [make_record("lora"), make_record("prefix", status=status, **FAILED)]
    assert [row.method for row in summary.summarize_methods(records)] == ["lora", "prefix"]
    assert status in line_of("prefix", shown(records))
    assert f"prefix: {status}: there was no tea" in caveats.caveats(group_by_task(records)[0])


def test_a_run_whose_every_method_failed_still_has_a_table(make_record: MakeRecord) -> None:
    records = [make_record(name, status="error", **FAILED) for name in ("lora", "qlora")]
    text = shown(records)
    for name in ("lora", "qlora"):
        assert "error" in line_of(name, text)


def test_a_seed_that_failed_does_not_hide_among_those_that_did_not(make_record: MakeRecord) -> None:
    records = [make_record("lora", 0.5), make_record("lora", seed=1, status="error", **FAILED)]
    good, bad = summary.summarize_methods(records)
    assert (good.status, good.seeds, good.scores["em"]) == ("ok", [0], 0.5)
    assert (bad.status, bad.seeds) == ("error", [1])


def test_seeds_are_averaged(make_record: MakeRecord) -> None:
    (row,) = summary.summarize_methods([make_record(em=0.25), make_record(em=0.75, seed=1)])
    assert row.scores["em"] == 0.5
    assert row.seeds == [0, 1]


def test_other_hyper_parameters_are_another_row(make_record: MakeRecord) -> None:
    assert len(summary.summarize_methods([make_record(), make_record(method__params={"rank": 8, "lr": 2e-3})])) == 2


def test_what_was_not_measured_is_never_shown_as_0(make_record: MakeRecord) -> None:
    blank = make_record("majority", cost=None)
    (row,) = summary.summarize_methods([blank])
    measured = row.model_dump(include={"trainable", "fit_s", "peak_mib", "tokens_per_s", "query_p50_ms"})
    assert set(measured.values()) == {None}
    assert row.query_p95_ms is None and row.artifact_bytes is None
    assert line_of("majority", shown([blank]))[3:] == ["–"] * 6


def test_what_is_0_is_shown_as_0(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    cost["parameters"]["trainable"] = cost["artifact_bytes"] = 0
    words = line_of("zero-shot", shown([make_record("zero-shot", em=0.0, cost=cost)]))
    assert words[1] == "0.000"
    assert words[3] == "0"
    assert words[-1] == "0B"


def forgetting(before: float, after: float | None) -> dict[str, Any]:
    return {"text_sha256": "c" * 64, "tokens": 9, "nats_before": before, "nats_after": after}


def test_what_was_forgotten_has_a_column_where_it_was_measured(make_record: MakeRecord) -> None:
    trained = make_record("lora", forgetting=forgetting(2.0, 2.25))
    better = make_record("full", forgetting=forgetting(2.0, 1.5))
    assert [line_of(name, shown([trained, better]))[3] for name in ("lora", "full")] == ["+0.25", "-0.50"]
    assert line_of("few-shot", shown([trained, make_record("few-shot")]))[3] == "–"
    assert any(note.startswith("forgets:") for note in terminal_table.legend(group_by_task([trained])[0]))
    assert "gets" not in shown([make_record("few-shot")])


def test_a_loss_that_diverged_is_not_averaged(make_record: MakeRecord) -> None:
    records = [make_record(forgetting=forgetting(2.0, 2.5)), make_record(seed=1, forgetting=forgetting(2.0, None))]
    (row,) = summary.summarize_methods(records)
    assert row.forgetting_nats == 0.5


def test_the_peak_is_the_highest_of_any_phase_and_seed_that_was_measured(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    known = [phase["peak_mib"] for phase in cost["phases"].values()]
    cost["phases"]["fit"]["peak_mib"] = None
    cost["phases"]["predict"] = cost["phases"]["fit"] | {"peak_mib": 5000.0}
    (row,) = summary.summarize_methods([make_record(), make_record(seed=1, cost=cost)])
    assert row.peak_mib == 5000.0
    (row,) = summary.summarize_methods([make_record()])
    assert row.peak_mib == max(known)


def test_the_table_fits_a_terminal_of_80_columns(make_record: MakeRecord) -> None:
    scores = {"em": 0.5, "f1": 0.5, "parsed": 1.0}
    record = make_record("zero-shot", scores=scores, method__control=True, forgetting=forgetting(2.0, 12.0))
    text = shown([record], width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("items", "points"), [(200, 6.3), (500, 4.0), (1000, 2.8)])
def test_the_smallest_visible_difference_is_mcnemars(make_record: MakeRecord, items: int, points: float) -> None:
    assert round(100 * power.detectable_difference(items), 1) == points
    assert any(
        f"below about {points} points" in note for note in caveats.caveats(group_by_task([make_record(items=items)])[0])
    )
