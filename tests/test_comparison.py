"""Methods side by side: who leads, who is shown worse, and which task cannot rank them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from conftest import MakeRecord

from bench import units
from bench.comparison import Comparison, compare, sentences
from bench.record import Record
from bench.refusal import Refused
from bench.samples import Samples

ITEMS = 400


@pytest.fixture
def side_by_side(make_record: MakeRecord) -> Any:
    """A comparison of methods by their rates of right answers; names in capitals are controls."""

    def make(rates: dict[str, float], seeds: int = 2, **changes: Any) -> Comparison:
        return compare([record(name, rate, seed, **changes) for name, rate in rates.items() for seed in range(seeds)])

    def record(name: str, rate: float, seed: int, **changes: Any) -> Record:
        made = make_record(name, items=ITEMS, seed=seed, method__control=name.isupper(), **changes)
        dice = random.Random(f"{name} {seed}")
        hard = random.Random(0)  # the same questions are hard for all
        samples = []
        for sample in made.samples:
            luck = 0.9 * hard.random() + 0.1 * dice.random()
            samples.append(sample.model_copy(update={"scores": {"em": float(luck < rate), "f1": 0.5}}))
        return made.model_copy(update={"samples": Samples.of(samples)})

    return make


def test_the_best_contender_leads_and_the_best_control_is_the_yardstick(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.7, "full": 0.5, "ZERO": 0.2, "NEAR": 0.3})
    assert [cell.name for cell in found.cells] == ["lora", "full", "NEAR", "ZERO"]
    assert found.leader.name == "lora"
    assert found.control.name == "NEAR"
    assert {one.verdict for one in found.against_control.values()} == {"better"}
    assert [one.verdict for one in found.against_leader.values()] == ["worse"]
    assert found.contrasts == 1 + 2 * 2
    assert found.ranks


def test_a_control_may_lead_the_table_but_never_the_contenders(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.3, "NEAR": 0.6})
    assert found.cells[0].name == "NEAR"
    assert found.leader.name == "lora"
    assert [one.verdict for one in found.against_control.values()] == ["worse"]
    assert not found.ranks
    assert any("cannot rank" in line for line in sentences(found))


def test_what_is_close_is_undecided_and_says_what_would_decide(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.505, "full": 0.5, "ZERO": 0.1}, seeds=1)
    (one,) = found.against_leader.values()
    assert one.verdict == "open"
    assert one.items > ITEMS
    assert any(
        "Not told apart from lora: " in line and "test questions would tell" in line for line in sentences(found)
    )


def test_more_company_needs_more_evidence(side_by_side: Any) -> None:
    few = side_by_side({"lora": 0.56, "full": 0.5, "ZERO": 0.1}, seeds=1)
    many = side_by_side({"lora": 0.56, "full": 0.5, "ZERO": 0.1} | {f"m{place}": 0.3 for place in range(8)}, seeds=1)
    (before,) = few.against_leader.values()
    after = next(one for one in many.against_leader.values() if one.ours == before.ours)
    assert after.p > before.p


def test_seeds_that_only_one_has_are_left_out_of_the_pair(make_record: MakeRecord) -> None:
    records = [make_record("lora", seed=seed) for seed in (0, 1, 2)] + [make_record("full", seed=seed) for seed in (1,)]
    (one,) = compare(records).against_leader.values()
    assert one.difference.seeds == 1


def test_failed_runs_are_kept_aside_and_nothing_is_led_by_them(make_record: MakeRecord) -> None:
    failed = make_record("lora", status="did-not-fit", scores={}, samples=[])
    found = compare([failed])
    assert (found.cells, found.leader, found.failed) == ((), None, (failed,))
    assert sentences(found) == []


def test_other_terms_are_refused(make_record: MakeRecord) -> None:
    with pytest.raises(Refused, match=r"budget\.passes"):
        compare([make_record("lora"), make_record("full", budget__passes=1)])


def test_words_are_no_surer_than_figures() -> None:
    assert [units.about(items) for items in (7, 42, 431, 8_765)] == [7, 42, 440, 8_800]


def test_one_method_that_depends_on_the_seed_is_compared_with_those_that_do_not(make_record: MakeRecord) -> None:
    fixed = [make_record(name, 0.25, seed=seed, method__control=True) for name in "abc" for seed in range(3)]
    found = compare([*(make_record("lora", em, seed=seed) for seed, em in enumerate((0.5, 0.75, 1.0))), *fixed])
    assert found.leader is not None
    assert set(found.against_control) == {found.leader.key}


def test_a_task_ranks_where_any_contender_is_better_than_the_controls(make_record: MakeRecord) -> None:
    def records(name: str, shares: tuple[float, ...], **changes: Any) -> list[Record]:
        return [make_record(name, em, items=200, seed=seed, **changes) for seed, em in enumerate(shares)]

    found = compare(
        records("wild", (0.3, 0.5, 0.75))
        + records("steady", (0.5, 0.5, 0.5))
        + records("NEAR", (0.2, 0.2, 0.2), method__control=True)
    )
    assert found.leader is not None
    assert found.leader.name == "wild"
    assert found.ranks
    assert any(line.startswith("Better than NEAR: ") and "steady" in line for line in sentences(found))
