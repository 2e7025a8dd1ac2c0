"""Comparison of methods: leader, best control, verdicts, and the sentences on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import is_dataclass
from itertools import combinations
from typing import Any

import pytest
from conftest import MakeRecord

from bench import units
from bench.analysis import significance
from bench.analysis.comparison import Comparison, compare_methods, paired_difference_of, scores_by_question
from bench.analysis.known_spread import REFERENCE_DOF
from bench.analysis.learning_curve import learning_curves
from bench.analysis.seed_variance import KnownSpread, SeedVariancePrior
from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.records import Record, Samples
from bench.report.findings import comparison_sentences

N_QUESTIONS = 400
CompareRates = Callable[..., Comparison]


@pytest.fixture
def compare_rates(make_record: MakeRecord) -> CompareRates:
    """Compare methods by their rates of right answers; names in capitals are controls."""

    def compare(rates: dict[str, float], seeds: int = 2, **changes: Any) -> Comparison:
        return compare_methods(
            [record(name, rate, seed, **changes) for name, rate in rates.items() for seed in range(seeds)]
        )

    def record(name: str, rate: float, seed: int, **changes: Any) -> Record:
        template = make_record(name, items=N_QUESTIONS, seed=seed, method__control=name.isupper(), **changes)
        rng = random.Random(f"{name} {seed}")
        difficulty = random.Random(0)  # The same questions are difficult for all methods.
        samples = []
        for sample in template.samples:
            threshold = 0.9 * difficulty.random() + 0.1 * rng.random()
            samples.append(sample.model_copy(update={"scores": {"em": float(threshold < rate), "f1": 0.5}}))
        return template.model_copy(update={"samples": Samples.from_list(samples)})

    return compare


def test_compare_methods_best_contender_leads_best_control_is_reference(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.7, "full": 0.4, "ZERO": 0.1, "NEAR": 0.2})
    assert [result.name for result in comparison.results] == ["lora", "full", "NEAR", "ZERO"]
    assert comparison.leader and comparison.leader.name == "lora"
    assert comparison.control and comparison.control.name == "NEAR"
    assert {contrast.verdict for contrast in comparison.against_control.values()} == {"better"}
    assert [contrast.verdict for contrast in comparison.against_leader.values()] == ["worse"]
    assert comparison.n_contrasts == 1 + 2 * 2
    assert comparison.can_rank


def test_compare_methods_best_control_never_leads(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.3, "NEAR": 0.6})
    assert comparison.results[0].name == "NEAR"
    assert comparison.leader and comparison.leader.name == "lora"
    assert [contrast.verdict for contrast in comparison.against_control.values()] == ["worse"]
    assert not comparison.can_rank
    assert any("cannot rank" in sentence for sentence in comparison_sentences(comparison))


def test_compare_methods_close_scores_inconclusive_with_questions_needed(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.505, "full": 0.5, "ZERO": 0.1}, seeds=1, method__ref="zero-shot")
    (contrast,) = comparison.against_leader.values()
    assert contrast.verdict == "inconclusive"
    assert contrast.questions_needed and contrast.questions_needed > N_QUESTIONS
    assert any(
        "No significant difference from lora: " in sentence and "test questions would be needed" in sentence
        for sentence in comparison_sentences(comparison)
    )


def test_compare_methods_more_methods_increase_adjusted_p_value(compare_rates: CompareRates) -> None:
    few = compare_rates({"lora": 0.56, "full": 0.5, "ZERO": 0.1}, seeds=1)
    others = {f"m{number}": 0.3 for number in range(8)}
    many = compare_rates({"lora": 0.56, "full": 0.5, "ZERO": 0.1} | others, seeds=1)
    (before,) = few.against_leader.values()
    after = next(contrast for contrast in many.against_leader.values() if contrast.method_key == before.method_key)
    assert after.adjusted_p_value > before.adjusted_p_value


def is_close(value: Any, other: Any) -> bool:
    """Return True if two values, or all fields of two dataclasses, are equal but for rounding."""
    if is_dataclass(value):
        return all(is_close(*pair) for pair in zip(vars(value).values(), vars(other).values(), strict=True))
    return bool(value == pytest.approx(other, abs=1e-12))


def test_compare_methods_numbers_are_those_of_significance(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.6, "full": 0.55, "qlora": 0.5, "NEAR": 0.3, "ZERO": 0.2}, seeds=3)
    results = comparison.results
    assert comparison.metric == "em" and comparison.failed == ()
    assert all(len(result.records) == len(result.seeds) == 3 for result in results)
    contenders, controls = results[:3], results[3:]
    pairs = [*combinations(contenders, 2), *((method, control) for method in contenders for control in controls)]
    differences = [method.scores - reference.scores for method, reference in pairs]
    assert comparison.prior == SeedVariancePrior.fit(differences, len(results))
    assert comparison.prior.dof > 0
    p_values = significance.holm_adjust(
        [significance.p_value(method.scores, reference.scores, comparison.prior) for method, reference in pairs]
    )
    adjusted = {(method.key, reference.key): p for (method, reference), p in zip(pairs, p_values, strict=True)}
    assert comparison.control and comparison.leader
    for method, reference, contrast in (
        *((method, comparison.control, comparison.against_control[method.key]) for method in contenders),
        *((method, comparison.leader, comparison.against_leader[method.key]) for method in contenders[1:]),
    ):
        assert (contrast.method_key, contrast.reference_key) == (method.key, reference.key)
        expected = significance.paired_difference(method.scores, reference.scores, comparison.prior)
        assert is_close(contrast.difference, expected)
        keys, swapped_keys = (method.key, reference.key), (reference.key, method.key)
        assert contrast.adjusted_p_value == adjusted.get(keys, adjusted.get(swapped_keys))
    score_prior = SeedVariancePrior.fit([result.scores for result in results], len(results))
    for result in results:
        assert is_close(result.interval, significance.score_interval(result.scores, score_prior))


def test_compare_methods_deterministic_method_does_not_count_for_prior(compare_rates: CompareRates) -> None:
    first_two = compare_rates({"lora": 0.6, "full": 0.5}, seeds=3)
    template = first_two.results[0].records[0]
    deterministic = [
        template.model_copy(update={"spec": template.spec.model_copy(update={"seed": seed})}) for seed in range(3)
    ]
    other_two = compare_rates({"qlora": 0.4, "dora": 0.3}, seeds=3)
    random_records = [record for result in (*other_two.results, *first_two.results[1:]) for record in result.records]
    comparison = compare_methods([*random_records, *deterministic])
    pairs = combinations([result.scores for result in comparison.results], 2)
    # Three of the four methods depend on the seed.
    assert comparison.prior == SeedVariancePrior.fit([scores - reference for scores, reference in pairs], 3)


def test_compare_methods_order_of_questions_has_no_effect(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.6, "full": 0.5})
    first, *others = [record for result in comparison.results for record in result.records]
    reversed_first = first.model_copy(update={"samples": Samples.from_list(tuple(first.samples)[::-1])})
    repeated = compare_methods([reversed_first, *others])
    assert [result.scores.tolist() for result in repeated.results] == [
        result.scores.tolist() for result in comparison.results
    ]
    assert repeated.against_leader == comparison.against_leader


def test_scores_by_question_missing_question_raises(compare_rates: CompareRates) -> None:
    comparison = compare_rates({"lora": 0.6, "full": 0.5}, seeds=1)
    method, reference = (result.records[0] for result in comparison.results)
    other_question = next(iter(reference.samples)).model_copy(update={"id": "other"})
    with pytest.raises(KeyError):
        scores_by_question([method.samples, Samples.from_list([other_question, *tuple(reference.samples)[1:]])], "em")


def test_paired_difference_of_no_shared_seed_compares_means(make_record: MakeRecord) -> None:
    records = [make_record("lora", em, items=8, seed=seed) for seed, em in ((0, 0.25), (1, 0.75))]
    comparison = compare_methods([*records, make_record("full", 0.25, items=8, seed=2)])
    method, reference = comparison.results
    difference = paired_difference_of(method, reference)
    assert (difference.n_seeds, difference.n_questions) == (1, 8)
    method_means, reference_means = (result.scores.mean(axis=0)[None] for result in (method, reference))
    known = KnownSpread(method.known.variance / 2 + reference.known.variance, REFERENCE_DOF)
    assert method.known.variance > 0
    assert difference == significance.paired_difference(method_means, reference_means, known=known)


def test_compare_methods_one_seed_hides_difference_that_questions_show(compare_rates: CompareRates) -> None:
    """Two trainings of one method differ as much as these two methods, which have one seed each."""
    rates = {"lora": 0.55, "full": 0.5, "ZERO": 0.1}
    without_seed = compare_rates(rates, seeds=1, method__ref="zero-shot")
    assert [contrast.verdict for contrast in without_seed.against_leader.values()] == ["worse"]
    comparison = compare_rates(rates, seeds=1)
    assert [contrast.verdict for contrast in comparison.against_leader.values()] == ["inconclusive"]
    (contrast,) = comparison.against_leader.values()
    assert contrast.difference.seed_stderr**2 == pytest.approx(sum(r.known.variance for r in comparison.results[:2]))
    assert {contrast.verdict for contrast in comparison.against_control.values()} == {"better"}


def test_learning_curve_of_one_seed_has_the_known_spread(make_record: MakeRecord) -> None:
    """The gain of more labels is a difference as well."""
    records = [
        make_record("lora", em, items=200, budget__examples=examples) for examples, em in ((100, 0.5), (200, 0.55))
    ]
    (results,) = group_by_task(records)
    (curve,) = learning_curves(results).values()
    assert curve.verdict == "inconclusive"
    assert curve.gain.low < 0 < curve.gain.high


def test_compare_methods_unshared_seeds_are_left_out(make_record: MakeRecord) -> None:
    records = [make_record("lora", seed=seed) for seed in (0, 1, 2)] + [make_record("full", seed=1)]
    (contrast,) = compare_methods(records).against_leader.values()
    assert contrast.difference.n_seeds == 1


def test_compare_methods_only_failed_runs_has_no_leader(make_record: MakeRecord) -> None:
    failed = make_record("lora", status="did-not-fit", scores={}, samples=[])
    comparison = compare_methods([failed])
    assert (comparison.results, comparison.leader, comparison.failed) == ((), None, (failed,))
    assert comparison_sentences(comparison) == []


def test_compare_methods_different_terms_raises(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match=r"budget\.epochs"):
        compare_methods([make_record("lora"), make_record("full", budget__epochs=1)])


def test_round_up_to_two_digits_keeps_two_digits() -> None:
    assert [units.round_up_to_two_digits(count) for count in (7, 42, 431, 8_765)] == [7, 42, 440, 8_800]


def test_compare_methods_deterministic_controls_are_compared(make_record: MakeRecord) -> None:
    controls = [make_record(name, 0.25, seed=seed, method__control=True) for name in "abc" for seed in range(3)]
    contender = [make_record("lora", em, seed=seed) for seed, em in enumerate((0.5, 0.75, 1.0))]
    comparison = compare_methods([*contender, *controls])
    assert comparison.leader is not None
    assert set(comparison.against_control) == {comparison.leader.key}


def test_can_rank_any_contender_better_than_controls_is_true(make_record: MakeRecord) -> None:
    def records(name: str, shares: tuple[float, ...], **changes: Any) -> list[Record]:
        return [make_record(name, em, items=200, seed=seed, **changes) for seed, em in enumerate(shares)]

    comparison = compare_methods(
        records("unstable", (0.3, 0.5, 0.75))
        + records("stable", (0.5, 0.5, 0.5))
        + records("NEAR", (0.2, 0.2, 0.2), method__control=True)
    )
    assert comparison.leader is not None
    assert comparison.leader.name == "unstable"
    assert comparison.can_rank
    assert any(
        sentence.startswith("Better than NEAR: ") and "stable" in sentence
        for sentence in comparison_sentences(comparison)
    )
