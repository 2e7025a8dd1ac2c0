"""Forgetting in words: nats and per cent of perplexity, a gain told as a gain, and texts kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeRecord

from bench.analysis import advice, task_results
from bench.analysis.constraints import Constraints
from bench.analysis.task_results import TaskResults
from bench.i18n import translator, untranslated
from bench.records import Forgetting, Record
from bench.report import advice_text, loss_change, terminal_table
from bench.report.columns import build_columns
from bench.report.plots.forgetting import draw_forgetting

MakeResults = Callable[..., TaskResults]


@pytest.fixture
def make_results(make_record: MakeRecord) -> MakeResults:
    def results(*methods: tuple[str, float, str | None]) -> TaskResults:
        records: list[Record] = []
        for name, nats, text in methods:
            forgetting = Forgetting(
                text=text, text_sha256=f"{text or 'shipped'}0", tokens=9, nats_before=3.0, nats_after=3.0 + nats
            )
            record = make_record(name)
            records.append(record.model_copy(update={"forgetting": forgetting}))
        return task_results.group_by_task(records)[0]

    return results


@pytest.mark.parametrize(
    ("nats", "text"),
    [
        (0.1, "+0.10 (+11 %)"),
        (0.02, "+0.02 (+2.0 %)"),
        (0.0, "+0.00 (+0 %)"),
        (-0.1, "better by 9.5 % (0.10 nats)"),
        (-5.0, "better by 99 % (5.00 nats)"),
        (50.0, "+50.00 (+> 1,000,000 %)"),
        (None, "–"),
    ],
)
def test_format_loss_change_is_per_cent_of_perplexity_and_tells_gains(nats: float | None, text: str) -> None:
    assert loss_change.format_loss_change(nats) == text


def test_loss_changes_on_different_texts_have_columns_of_their_own(make_results: MakeResults) -> None:
    results = make_results(("lora", 0.1, "a.txt"), ("full", -0.2, "a.txt"), ("ia3", 0.3, None))
    columns = {column.heading: column for column in build_columns(results.summaries, "em", untranslated)}
    values: Any = {
        heading: {row.label: columns[heading].value(row) for row in results.summaries}
        for heading in ("Δ loss (a.txt)", "Δ loss (shipped text)")
    }
    assert values["Δ loss (a.txt)"] == {"lora": pytest.approx(0.1), "full": pytest.approx(-0.2), "ia3": None}
    assert values["Δ loss (shipped text)"] == {"lora": None, "full": None, "ia3": pytest.approx(0.3)}
    legend = terminal_table.legend(results)
    assert any(line.startswith("Perplexity on general text (1: a.txt): ") for line in legend)
    assert any("full better by 18 %" in line and "lora +11 %" in line for line in legend)
    assert "Changes on different texts are not comparable." in legend
    table = terminal_table.render_table(results, wide=True)
    assert [column.header for column in table.columns if "Δ" in str(column.header)] == ["Δ\nloss 1", "Δ\nloss 2"]
    figure = draw_forgetting(results, untranslated)
    assert figure is not None
    assert "a.txt" in figure.axes[0].get_xlabel() and "the model got better" in figure.axes[0].get_xlabel()
    assert not any("ia3" in text.get_text() for text in figure.axes[0].texts)


def test_seeds_measured_on_different_texts_have_no_mean(make_record: MakeRecord) -> None:
    records = [
        make_record("lora", seed=seed).model_copy(
            update={
                "forgetting": Forgetting(text=None, text_sha256=f"{seed}0", tokens=9, nats_before=1.0, nats_after=2.0)
            }
        )
        for seed in (0, 1)
    ]
    (results,) = task_results.group_by_task(records)
    (row,) = results.summaries
    assert (row.forgetting_nats, row.general_text_sha256) == (None, None)


@pytest.mark.parametrize(
    ("language", "nats", "sentence"),
    [
        ("en", -0.1, "got better by training with lora: perplexity 9.5 % lower (0.10 nats per token)"),
        ("en", 0.1, "got worse by training with lora: perplexity 11 % higher (0.10 nats per token)"),
        ("ko", -0.1, "모델이 좋아졌습니다. 퍼플렉시티 9.5 % 감소(토큰당 0.10 nat)"),
    ],
)
def test_advice_tells_what_training_did_to_general_text(
    make_results: MakeResults, language: str, nats: float, sentence: str
) -> None:
    results, translate = make_results(("lora", nats, "notes.txt")), translator(language)
    recommended = advice.advise(results, Constraints(), translate)
    sentences = advice_text.advice_sentences(recommended, results, Constraints(), translate)
    assert recommended.recommended == "lora"
    assert any(sentence in text and "notes.txt" in text for text in sentences)
