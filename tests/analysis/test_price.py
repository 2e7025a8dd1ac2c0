"""Costs in money: prices as people write them, and the sentences of the advice."""

from __future__ import annotations

import pytest
from conftest import MakeRecord

from bench.analysis import advice, task_results
from bench.analysis.constraints import Constraints
from bench.analysis.price import HourlyPrice
from bench.errors import UserError
from bench.report import advice_text


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("0.6", HourlyPrice(0.6)),
        ("$0.60", HourlyPrice(0.6, before="$")),
        (" € 1.5 ", HourlyPrice(1.5, before="€")),
        ("1,200원", HourlyPrice(1200, after="원")),
        (".5 USD", HourlyPrice(0.5, after="USD")),
    ],
)
def test_hourly_price_parse_reads_currencies_before_and_behind(text: str, price: HourlyPrice) -> None:
    assert HourlyPrice.parse(text) == price


@pytest.mark.parametrize("text", ["", "cheap", "-1", "$1원", "1.2.3", "nan", "1 2"])
def test_hourly_price_parse_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a price"):
        HourlyPrice.parse(text)


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0.00"), (0.00421, "$0.0042"), (0.5, "$0.50"), (12.345, "$12.35"), (1250.4, "$1,250")]
)
def test_hourly_price_format_keeps_two_significant_digits(amount: float, text: str) -> None:
    assert HourlyPrice(1, before="$").format(amount) == text


def advice_of(make_record: MakeRecord, price: str | None) -> list[str]:
    cost = make_record().model_dump(mode="json")["cost"]
    cost["phases"]["fit"]["wall_s"] = 1800.0
    cost["answering"]["latency_ms"] = [100.0, 100.0]
    records = [make_record("lora", 0.9, items=400, seed=seed, cost=cost) for seed in range(3)]
    records.append(make_record("nearest", 0.1, items=400, method__control=True))
    (results,) = task_results.group_by_task(records)
    constraints = Constraints.parse(None, None, None, [], queries=36_000, tolerance=0.02, price_per_hour=price)
    return advice_text.advice_sentences(advice.advise(results, constraints), results, constraints)


def test_advice_with_a_price_tells_costs_in_money(make_record: MakeRecord) -> None:
    sentences = advice_of(make_record, "$2")
    assert "At $2.00 per hour that is $3.00: $1.00 for training and $2.00 for 36,000 queries." in sentences


def test_advice_without_a_price_names_no_money(make_record: MakeRecord) -> None:
    assert not any("per hour" in sentence for sentence in advice_of(make_record, None))
