"""Methods side by side: who leads, who is shown worse, and which task cannot rank them."""

from __future__ import annotations

import random
from dataclasses import is_dataclass
from itertools import combinations
from typing import Any

import pytest
from conftest import MakeRecord

from bench import units
from bench.analysis import significance
from bench.analysis.comparison import (
    Comparison,
    compare_methods,
    paired_difference_of,
    scores_by_question,
)
from bench.analysis.seed_variance import SeedVariancePrior
from bench.errors import UserError
from bench.records.record import Record
from bench.records.samples import Samples
from bench.report.findings import comparison_sentences

ITEMS = 400


@pytest.fixture
def side_by_side(make_record: MakeRecord) -> Any:
    """A comparison of methods by their rates of right answers; names in capitals are controls."""

    def make(rates: dict[str, float], seeds: int = 2, **changes: Any) -> Comparison:
        return compare_methods(
            [record(name, rate, seed, **changes) for name, rate in rates.items() for seed in range(seeds)]
        )

    def record(name: str, rate: float, seed: int, **changes: Any) -> Record:
        made = make_record(name, items=ITEMS, seed=seed, method__control=name.isupper(), **changes)
        dice = random.Random(f"{name} {seed}")
        hard = random.Random(0)  # the same questions are hard for all
        samples = []
        for sample in made.samples:
            luck = 0.9 * hard.random() + 0.1 * dice.random()
            samples.append(sample.model_copy(update={"scores": {"em": float(luck < rate), "f1": 0.5}}))
        return made.model_copy(update={"samples": Samples.from_list(samples)})

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
    assert any("cannot rank" in line for line in comparison_sentences(found))


def test_what_is_close_is_undecided_and_says_what_would_decide(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.505, "full": 0.5, "ZERO": 0.1}, seeds=1)
    (one,) = found.against_leader.values()
    assert one.verdict == "inconclusive"
    assert one.items > ITEMS
    assert any(
        "No significant difference from lora: " in line and "test questions would be needed" in line
        for line in comparison_sentences(found)
    )


def test_more_company_needs_more_evidence(side_by_side: Any) -> None:
    few = side_by_side({"lora": 0.56, "full": 0.5, "ZERO": 0.1}, seeds=1)
    many = side_by_side({"lora": 0.56, "full": 0.5, "ZERO": 0.1} | {f"m{place}": 0.3 for place in range(8)}, seeds=1)
    (before,) = few.against_leader.values()
    after = next(one for one in many.against_leader.values() if one.ours == before.ours)
    assert after.p > before.p


def close(one: Any, other: Any) -> bool:
    """Whether two results are the same but for rounding."""
    if is_dataclass(one):
        return all(close(*pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True))
    return bool(one == pytest.approx(other, abs=1e-12))


def test_what_is_told_of_a_contrast_is_what_the_statistics_say(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.6, "full": 0.55, "qlora": 0.5, "NEAR": 0.3, "ZERO": 0.2}, seeds=3)
    assert found.metric == "em" and found.failed == ()
    assert all(len(cell.records) == len(cell.seeds) == 3 for cell in found.cells)
    contenders, controls = found.cells[:3], found.cells[3:]
    pairs = [*combinations(contenders, 2), *((ours, theirs) for ours in contenders for theirs in controls)]
    assert found.prior == SeedVariancePrior.fit(
        [ours.scores - theirs.scores for ours, theirs in pairs], len(found.cells)
    )
    assert found.prior.freedom > 0
    ps = significance.holm_adjust(
        [significance.p_value(ours.scores, theirs.scores, found.prior) for ours, theirs in pairs]
    )
    adjusted = {(ours.key, theirs.key): p for (ours, theirs), p in zip(pairs, ps, strict=True)}
    for ours, theirs, one in (
        *((cell, found.control, found.against_control[cell.key]) for cell in contenders),
        *((cell, found.leader, found.against_leader[cell.key]) for cell in contenders[1:]),
    ):
        assert (one.ours, one.theirs) == (ours.key, theirs.key)
        assert close(one.difference, significance.paired_difference(ours.scores, theirs.scores, found.prior))
        assert one.p == adjusted.get((ours.key, theirs.key), adjusted.get((theirs.key, ours.key)))
    known = SeedVariancePrior.fit([cell.scores for cell in found.cells], len(found.cells))
    for cell in found.cells:
        assert close(cell.interval, significance.score_interval(cell.scores, known))


def test_a_method_that_does_not_depend_on_the_seed_tells_nothing_of_seeds(side_by_side: Any) -> None:
    alone = side_by_side({"lora": 0.6, "full": 0.5}, seeds=3)
    fixed = alone.cells[0].records[0]
    same = [fixed.model_copy(update={"spec": fixed.spec.model_copy(update={"seed": seed})}) for seed in range(3)]
    other = side_by_side({"qlora": 0.4, "dora": 0.3}, seeds=3)
    some = [record for cell in (*other.cells, *alone.cells[1:]) for record in cell.records]
    found = compare_methods([*some, *same])
    pairs = combinations([cell.scores for cell in found.results], 2)
    assert found.prior == SeedVariancePrior.fit([ours - theirs for ours, theirs in pairs], 3)  # and not 4


def test_the_order_in_which_runs_were_asked_makes_no_difference(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.6, "full": 0.5})
    first, *others = [record for cell in found.cells for record in cell.records]
    turned = first.model_copy(update={"samples": Samples.from_list(tuple(first.samples)[::-1])})
    again = compare_methods([turned, *others])
    assert [cell.scores.tolist() for cell in again.results] == [cell.scores.tolist() for cell in found.cells]
    assert again.against_leader == found.against_leader


def test_a_question_that_only_one_was_asked_is_no_pair(side_by_side: Any) -> None:
    found = side_by_side({"lora": 0.6, "full": 0.5}, seeds=1)
    ours, theirs = (cell.records[0] for cell in found.cells)
    strange = [next(iter(theirs.samples)).model_copy(update={"id": "strange"}), *tuple(theirs.samples)[1:]]
    with pytest.raises(KeyError):
        scores_by_question([ours.samples, Samples.from_list(strange)], "em")


def test_methods_with_no_seed_in_common_are_compared_by_their_means(make_record: MakeRecord) -> None:
    records = [make_record("lora", em, items=8, seed=seed) for seed, em in ((0, 0.25), (1, 0.75))]
    found = compare_methods([*records, make_record("full", 0.25, items=8, seed=2)])
    ours, theirs = found.results
    told = paired_difference_of(ours, theirs)
    assert (told.n_seeds, told.n_questions) == (1, 8)
    assert told == significance.paired_difference(ours.scores.mean(axis=0)[None], theirs.scores.mean(axis=0)[None])


def test_seeds_that_only_one_has_are_left_out_of_the_pair(make_record: MakeRecord) -> None:
    records = [make_record("lora", seed=seed) for seed in (0, 1, 2)] + [make_record("full", seed=seed) for seed in (1,)]
    (one,) = compare_methods(records).against_leader.values()
    assert one.difference.n_seeds == 1


def test_failed_runs_are_kept_aside_and_nothing_is_led_by_them(make_record: MakeRecord) -> None:
    failed = make_record("lora", status="did-not-fit", scores={}, samples=[])
    found = compare_methods([failed])
    assert (found.results, found.leader, found.failed) == ((), None, (failed,))
    assert comparison_sentences(found) == []


def test_other_terms_are_refused(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match=r"budget\.passes"):
        compare_methods([make_record("lora"), make_record("full", budget__passes=1)])


def test_words_are_no_surer_than_figures() -> None:
    assert [units.round_up_to_two_digits(items) for items in (7, 42, 431, 8_765)] == [7, 42, 440, 8_800]


def test_one_method_that_depends_on_the_seed_is_compared_with_those_that_do_not(make_record: MakeRecord) -> None:
    fixed = [make_record(name, 0.25, seed=seed, method__control=True) for name in "abc" for seed in range(3)]
    found = compare_methods([*(make_record("lora", em, seed=seed) for seed, em in enumerate((0.5, 0.75, 1.0))), *fixed])
    assert found.leader is not None
    assert set(found.against_control) == {found.leader.key}


def test_a_task_ranks_where_any_contender_is_better_than_the_controls(make_record: MakeRecord) -> None:
    def records(name: str, shares: tuple[float, ...], **changes: Any) -> list[Record]:
        return [make_record(name, em, items=200, seed=seed, **changes) for seed, em in enumerate(shares)]

    found = compare_methods(
        records("wild", (0.3, 0.5, 0.75))
        + records("steady", (0.5, 0.5, 0.5))
        + records("NEAR", (0.2, 0.2, 0.2), method__control=True)
    )
    assert found.leader is not None
    assert found.leader.name == "wild"
    assert found.can_rank
    assert any(line.startswith("Better than NEAR: ") and "steady" in line for line in comparison_sentences(found))
