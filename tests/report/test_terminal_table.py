"""The table that `bench run` prints: order, marks, heads, and numbers that were not measured."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRecord, cuda_cost
from rich.console import Console

from bench.analysis.known_spread import MEASURED
from bench.analysis.task_results import group_by_task
from bench.cli.console import PlainConsole
from bench.i18n import translator
from bench.records import Record
from bench.report import caveats, terminal_table

FAILED: dict[str, Any] = {
    "cost": None,
    "samples": [],
    "scores": {},
    "error": {"kind": "K", "message": "out of disk space", "trace": None},
}
UNSUCCESSFUL = ("unsupported", "did-not-fit", "diverged", "timeout", "error")


def render(records: list[Record], width: int = 80, *, wide: bool = False) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(terminal_table.render_table(group_by_task(records)[0], wide=wide))
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


def test_table_costs_not_measured_are_dashes(make_record: MakeRecord) -> None:
    without_cost = make_record("lora", cost=None)
    (summary,) = group_by_task([without_cost])[0].summaries
    measured = summary.model_dump(include={"trainable", "train_s", "peak_mib", "tokens_per_s", "query_mean_ms"})
    assert len(measured) == 5
    assert set(measured.values()) == {None}
    assert cells_of("lora", render([without_cost]))[-4:] == ["–"] * 4
    assert cells_of("lora", render([without_cost], width=140, wide=True))[-3:] == ["–"] * 3


def test_table_zero_costs_are_zeros(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    cost["parameters"]["trainable"] = cost["artifact_bytes"] = 0
    cells = cells_of("zero-shot", render([make_record("zero-shot", em=0.0, cost=cost)], width=140, wide=True))
    assert cells[1] == "0.0"
    assert {"0B", "0"} <= set(cells)


def test_table_rate_of_methods_that_write_no_tokens_is_not_measured(make_record: MakeRecord) -> None:
    cost = make_record().model_dump(mode="json")["cost"]
    cost["answering"]["answer_tokens"] = 0
    (summary,) = group_by_task([make_record("head", cost=cost)])[0].summaries
    assert summary.tokens_per_s is None


def test_table_main_score_and_interval_are_in_per_cent(make_record: MakeRecord) -> None:
    cells = cells_of("lora", render([make_record("lora", em=0.5, items=200)]))
    assert cells[1] == "50.0"
    low, high = (float(text) for text in cells[2].split("–"))
    assert 40 < low < 50 < high < 60


def test_table_verdicts_are_against_the_highest_method(make_record: MakeRecord) -> None:
    records = [make_record("lora", 0.9, items=200), make_record("full", 0.2, items=200)]
    controls = [
        make_record("nearest", 0.1, items=200, method__control=True),
        make_record("majority", 0.05, items=200, method__control=True),
    ]
    text = render([*records, *controls])
    assert {name: cells_of(name, text)[3] for name in ("lora", "full")} == {"lora": "highest", "full": "worse"}
    assert cells_of("nearest", text)[4] == "worse"
    assert "worse" not in cells_of("majority", text)


def test_table_scores_at_the_floor_have_no_verdict(make_record: MakeRecord) -> None:
    text = render([make_record("lora", 0.02, items=200), make_record("full", 0.0, items=200)])
    assert "highest" not in text and "worse" not in text


def test_table_controls_stand_below_a_gap(make_record: MakeRecord) -> None:
    text = render([make_record("nearest", 0.9, method__control=True), make_record("lora", 0.5)])
    rows = [line.split()[0] if line.split() else "" for line in text.splitlines()]
    assert rows[rows.index("lora") :] == ["lora", "", "nearest"]


def test_table_fits_80_columns(make_record: MakeRecord) -> None:
    costs = cuda_cost(make_record(), device_mib=41234.0, host_mib=13456.0)
    costs["artifact_bytes"] = 16 * 2**30
    texts = [
        render([make_record(name, scores={"em": 0.5, "f1": 0.5}, cost=cost, **changes), make_record("full", 1.0)])
        for name, cost, changes in (
            ("prompt-tuning", costs, {}),
            ("zero-shot", costs, {"method__control": True}),
            ("few-shot", make_record().model_dump()["cost"], {}),
        )
    ]
    for text in texts:
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_table_with_gpu_runs_has_memory_of_gpu_and_process(make_record: MakeRecord) -> None:
    on_gpu = make_record("lora", cost=cuda_cost(make_record(), device_mib=41234.0, host_mib=3456.0))
    on_cpu = make_record("tfidf")
    text = render([on_gpu, on_cpu])
    assert "41,234 3,456" in " ".join(cells_of("lora", text))
    assert "– 700" in " ".join(cells_of("tfidf", text))
    assert "peak" not in text
    (legend,) = terminal_table.legend(group_by_task([on_gpu, on_cpu])[0])
    assert "GPU, RAM: peak memory" in legend
    assert "peak: " not in legend
    (legend,) = terminal_table.legend(group_by_task([on_cpu])[0])
    assert "peak: peak memory" in legend
    assert "GPU" not in legend


def test_wide_table_has_all_metrics_and_costs(make_record: MakeRecord) -> None:
    scores = {"em": 0.5, "f1": 0.25, "parsed": 1.0, "format": 0.75}
    record = make_record("lora", scores=scores, forgetting=forgetting(2.0, 2.5))
    narrow, wide = render([record]), render([record], width=160, wide=True)
    assert "25.0" not in narrow
    assert {"25.0", "100.0", "75.0", "+0.50"} <= set(cells_of("lora", wide))
    assert {"params", "tok/s", "p95"} <= set(wide.split())


def test_wide_table_loss_change_has_a_column_only_if_measured(make_record: MakeRecord) -> None:
    worse = make_record("lora", forgetting=forgetting(2.0, 2.25))
    better = make_record("full", forgetting=forgetting(2.0, 1.5))
    text = render([worse, better], width=160, wide=True)
    assert "+0.25" in cells_of("lora", text) and "-0.50" in cells_of("full", text)
    legend = terminal_table.legend(group_by_task([worse])[0], wide=True)
    assert any(line.startswith("Δ loss:") for line in legend)
    unmeasured = make_record("few-shot")
    assert "Δ" not in render([unmeasured], width=160, wide=True)
    assert not any("Δ" in line for line in terminal_table.legend(group_by_task([unmeasured])[0], wide=True))


def test_print_whole_table_is_not_cut_at_the_width_of_the_terminal(
    make_record: MakeRecord, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    scores = {f"metric number {index}": 0.5 for index in range(20)} | {"em": 0.5}
    (results,) = group_by_task([make_record("lora", scores=scores)])
    PlainConsole().print_whole(terminal_table.render_table(results, wide=True))
    text = capsys.readouterr().out
    assert "…" not in text
    assert text.count("50.0 %") == 20


@pytest.mark.parametrize(
    ("metric", "lines"),
    [
        ("format", ["format"]),
        ("accuracy", ["accuracy"]),
        ("exact_match", ["exact_", "match"]),
        ("bleu-4 score", ["bleu-4", "score"]),
        ("is_a_b", ["is_a_b"]),
        ("evaluate:rouge#rougeL", ["evaluate:", "rouge#", "rougeL"]),
    ],
)
def test_metric_head_breaks_between_words_only(make_record: MakeRecord, metric: str, lines: list[str]) -> None:
    (results,) = group_by_task([make_record(scores={"em": 0.5, metric: 0.5})])
    heads = [str(column.header).split("\n") for column in terminal_table.render_table(results, wide=True).columns]
    assert lines in heads


def test_legend_describes_chat_prompts(make_record: MakeRecord) -> None:
    chat = {"prompt__format": "chat", "prompt__instruction_role": "user", "prompt__thinking": "off"}
    (plain,), (results,) = (group_by_task([record]) for record in (make_record(), make_record(**chat)))
    sentence = "Prompts in the chat template of the model, instruction in the first question, thinking off."
    assert terminal_table.legend(results) == [*terminal_table.legend(plain), sentence]


def test_caveats_name_the_prompts_of_the_former_method_instruct(make_record: MakeRecord) -> None:
    (results,) = group_by_task([make_record("instruct"), make_record("lora")])
    assert any(caveat.startswith("instruct, a method of earlier versions") for caveat in caveats.list_caveats(results))


@pytest.mark.parametrize(("items", "points"), [(200, 6.3), (500, 4.0), (1000, 2.8)])
def test_caveats_name_the_detectable_difference(make_record: MakeRecord, items: int, points: float) -> None:
    (task_results,) = group_by_task([make_record(items=items, method__ref="zero-shot")])
    assert any(f"below about {points} points" in caveat for caveat in caveats.list_caveats(task_results))


def test_caveats_detectable_difference_has_the_spread_of_both_methods(make_record: MakeRecord) -> None:
    records = [make_record(name, em=0.5, items=500) for name in ("lora", "full")]
    (task_results,) = group_by_task([*records, make_record("ZERO", em=0.1, items=500, method__control=True)])
    points = 280.1585 * (0.1 / 500 + 2 * MEASURED["trained"].share / 4) ** 0.5
    assert any(f"below about {points:.1f} points" in caveat for caveat in caveats.list_caveats(task_results))


def test_caveats_detectable_difference_is_not_told_with_several_seeds(make_record: MakeRecord) -> None:
    records = [make_record(name, seed=seed, items=500) for name in ("lora", "full") for seed in range(3)]
    (task_results,) = group_by_task(records)
    assert not any("cannot be detected" in caveat for caveat in caveats.list_caveats(task_results))


def test_table_in_korean_has_korean_heads_verdicts_and_legend(make_record: MakeRecord) -> None:
    records = [make_record(name, em=em, items=200) for name, em in (("lora", 0.9), ("few-shot", 0.2))]
    results, translate = group_by_task(records)[0], translator("ko")
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(terminal_table.render_table(results, translate))
    assert {"방법", "판정", "학습", "지연", "최고", "낮음"} <= set(captured.get().split())
    assert terminal_table.legend(results, translate)[0].startswith("° 기준선.")
