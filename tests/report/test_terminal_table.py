"""The table that `bench run` prints: order, marks, heads, and numbers that were not measured."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRecord, cuda_cost
from rich.console import Console

from bench.analysis.task_results import group_by_task
from bench.records import Record
from bench.report import caveats, terminal_table

FAILED: dict[str, Any] = {
    "cost": None,
    "samples": [],
    "scores": {},
    "error": {"kind": "K", "message": "out of disk space", "trace": None},
}
UNSUCCESSFUL = ("unsupported", "did-not-fit", "diverged", "timeout", "error")


def render(records: list[Record], width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(terminal_table.render_table(group_by_task(records)[0]))
    return captured.get()


def cells_of(method: str, text: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def forgetting(before: float, after: float | None) -> dict[str, Any]:
    return {"text_sha256": "c" * 64, "tokens": 9, "nats_before": before, "nats_after": after}


def test_table_shows_best_method_first(make_record: MakeRecord) -> None:
    records = [make_record(name, em) for name, em in (("lora", 0.5), ("few-shot", 0.25), ("qlora", 0.75))]
    first_words = [line.split()[0] for line in render(records).splitlines() if line.strip()]
    methods = [word for word in first_words if word in ("lora", "qlora", "few-shot")]
    assert methods == ["qlora", "lora", "few-shot"]


def test_table_marks_controls_only(make_record: MakeRecord) -> None:
    text = render([make_record("majority", method__control=True), make_record("lora")])
    assert cells_of("majority", text)[1] == "°"
    assert "°" not in cells_of("lora", text)
    legend = terminal_table.legend(group_by_task([make_record("lora")])[0])
    assert any(line.startswith("° control") for line in legend)


@pytest.mark.parametrize("status", UNSUCCESSFUL)
def test_failed_run_has_a_row_and_a_reason(make_record: MakeRecord, status: str) -> None:
    records = [make_record("lora"), make_record("prefix", status=status, **FAILED)]
    (task_results,) = group_by_task(records)
    assert [row.method for row in task_results.summaries] == ["lora", "prefix"]
    assert status in cells_of("prefix", render(records))
    assert f"prefix: {status}: out of disk space" in caveats.list_caveats(task_results)


def test_table_with_failed_runs_only_shows_each(make_record: MakeRecord) -> None:
    records = [make_record(name, status="error", **FAILED) for name in ("lora", "qlora")]
    text = render(records)
    for name in ("lora", "qlora"):
        assert "error" in cells_of(name, text)


def test_unmeasured_costs_are_dashes_not_zeros(make_record: MakeRecord) -> None:
    without_cost = make_record("majority", cost=None)
    (summary,) = group_by_task([without_cost])[0].summaries
    measured = summary.model_dump(include={"trainable", "train_s", "peak_mib", "tokens_per_s", "query_p50_ms"})
    assert len(measured) == 5
    assert set(measured.values()) == {None}
    assert summary.query_p95_ms is None and summary.artifact_bytes is None
    assert cells_of("majority", render([without_cost]))[3:] == ["–"] * 6


def test_zero_costs_are_zeros(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    cost["parameters"]["trainable"] = cost["artifact_bytes"] = 0
    cells = cells_of("zero-shot", render([make_record("zero-shot", em=0.0, cost=cost)]))
    assert cells[1] == "0.000"
    assert cells[3] == "0"
    assert cells[-1] == "0B"


def test_loss_change_has_a_column_only_if_measured(make_record: MakeRecord) -> None:
    worse = make_record("lora", forgetting=forgetting(2.0, 2.25))
    better = make_record("full", forgetting=forgetting(2.0, 1.5))
    assert [cells_of(name, render([worse, better]))[3] for name in ("lora", "full")] == ["+0.25", "-0.50"]
    assert cells_of("few-shot", render([worse, make_record("few-shot")]))[3] == "–"
    assert any(line.startswith("Δ loss:") for line in terminal_table.legend(group_by_task([worse])[0]))
    unmeasured = make_record("few-shot")
    assert "Δ" not in render([unmeasured])
    assert not any("Δ" in line for line in terminal_table.legend(group_by_task([unmeasured])[0]))


def test_legend_describes_chat_prompts(make_record: MakeRecord) -> None:
    chat = {"prompt__format": "chat", "prompt__instruction_role": "user", "prompt__thinking": "off"}
    (plain,), (results,) = (group_by_task([record]) for record in (make_record(), make_record(**chat)))
    sentence = "Prompts in the chat template of the model, instruction in the first question, thinking off."
    assert terminal_table.legend(results) == [*terminal_table.legend(plain), sentence]


def test_caveats_name_the_prompts_of_the_former_method_instruct(make_record: MakeRecord) -> None:
    (results,) = group_by_task([make_record("instruct"), make_record("lora")])
    assert any(caveat.startswith("instruct, a method of earlier versions") for caveat in caveats.list_caveats(results))


def test_table_fits_80_columns(make_record: MakeRecord) -> None:
    scores = {"em": 0.5, "f1": 0.5, "parsed": 1.0}
    record = make_record("zero-shot", scores=scores, method__control=True, forgetting=forgetting(2.0, 12.0))
    text = render([record], width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_table_with_gpu_runs_has_memory_of_gpu_and_process(make_record: MakeRecord) -> None:
    scores = {"em": 0.5, "f1": 0.5, "parsed": 1.0}
    on_gpu = make_record("lora", scores=scores, cost=cuda_cost(make_record(), device_mib=41234.0, host_mib=3456.0))
    on_cpu = make_record("tfidf", scores=scores)
    text = render([on_gpu, on_cpu], width=80)
    assert [cells_of(name, text)[6:8] for name in ("lora", "tfidf")] == [["41234", "3456"], ["–", "700"]]
    assert "peak" not in text
    assert max(map(len, text.splitlines())) <= 80
    (legend,) = terminal_table.legend(group_by_task([on_gpu, on_cpu])[0])
    assert "GPU, RAM: peak memory" in legend
    assert "peak: " not in legend
    (legend,) = terminal_table.legend(group_by_task([on_cpu])[0])
    assert "peak: peak memory" in legend
    assert "GPU" not in legend


def test_table_of_four_metrics_is_78_columns_wide(make_record: MakeRecord) -> None:
    scores = {"em": 0.5, "f1": 0.5, "parsed": 1.0, "format": 1.0}
    record = make_record("zero-shot", scores=scores, method__control=True, forgetting=forgetting(2.0, 2.5))
    text = render([record])
    assert max(len(line.rstrip()) for line in text.splitlines()) == 78
    assert cells_of("zero-shot", text)[:6] == ["zero-shot", "°", "0.500", "0.500", "1.000", "1.000"]


@pytest.mark.parametrize(
    ("metric", "lines"),
    [
        ("format", ["format"]),
        ("accuracy", ["accuracy"]),
        ("exact_match", ["exact_", "match"]),
        ("bleu-4 score", ["bleu-4", "score"]),
        ("is_a_b", ["is_a_b"]),
    ],
)
def test_metric_head_breaks_between_words_only(make_record: MakeRecord, metric: str, lines: list[str]) -> None:
    table = terminal_table.render_table(group_by_task([make_record(scores={"em": 0.5, metric: 0.5})])[0])
    assert str(table.columns[2].header).split("\n") == lines


@pytest.mark.parametrize(("items", "points"), [(200, 6.3), (500, 4.0), (1000, 2.8)])
def test_caveats_name_the_detectable_difference(make_record: MakeRecord, items: int, points: float) -> None:
    (task_results,) = group_by_task([make_record(items=items)])
    assert any(f"below about {points} points" in caveat for caveat in caveats.list_caveats(task_results))
