"""Advice on records with known scores and costs: the recommended method, and why others are excluded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import Bench, MakeRecord

from bench.analysis import advice, task_results
from bench.analysis.advice import Advice
from bench.analysis.break_even import CostModel, break_even_queries
from bench.analysis.constraints import Constraints
from bench.errors import UserError
from bench.measurement import environment
from bench.records import Record, Samples
from bench.report import advice_text

N_QUESTIONS = 500
ENV = environment.describe_environment("2026-11-21T00:00:00+00:00", "c" * 64, "cpu", 0.0)
MakeRuns = Callable[..., list[Record]]


@pytest.fixture
def make_runs(make_record: MakeRecord) -> MakeRuns:
    """Runs of one method with three seeds and a given score and cost; a name in capitals is a control."""

    def make(name: str, score: float, seeds: int = 3, **options: Any) -> list[Record]:
        return [make_run(name, score, seed, **options) for seed in range(seeds)]

    def make_run(
        name: str,
        score: float,
        seed: int,
        train_s: float = 10.0,
        query_ms: float = 100.0,
        peak_mib: float = 500.0,
        noise: float = 0.02,
        trainable: int = 1000,
        **changes: Any,
    ) -> Record:
        template = make_record(name, items=N_QUESTIONS, seed=seed, method__control=name.isupper(), **changes)
        difficulty = numpy.random.default_rng(0).random(N_QUESTIONS)  # The same questions are difficult for all.
        own_noise = numpy.random.default_rng([seed, *name.encode()]).standard_normal(N_QUESTIONS)
        is_right = difficulty + noise * own_noise < score
        samples = Samples.from_list(
            [
                sample.model_copy(update={"scores": {"em": float(right), "f1": float(right)}})
                for sample, right in zip(template.samples, is_right, strict=True)
            ]
        )
        cost = template.cost
        assert cost is not None and cost.answering is not None and cost.parameters is not None
        fit = cost.phases["fit"].model_copy(update={"wall_s": train_s, "peak_mib": peak_mib})
        predict = cost.phases["predict"].model_copy(update={"peak_mib": peak_mib / 2})
        cost = cost.model_copy(
            update={
                "phases": {"fit": fit, "predict": predict},
                "answering": cost.answering.model_copy(update={"latency_ms": (query_ms, query_ms, query_ms)}),
                "parameters": cost.parameters.model_copy(update={"trainable": trainable}),
            }
        )
        mean = float(is_right.mean())
        return template.model_copy(update={"samples": samples, "cost": cost, "scores": {"em": mean, "f1": mean}})

    return make


def advise(*runs: list[Record], **constraints: Any) -> Advice:
    (results,) = task_results.group_by_task([record for records in runs for record in records])
    return advice.advise(results, Constraints(**constraints))


def advice_words(*runs: list[Record], **options: Any) -> str:
    (results,) = task_results.group_by_task([record for records in runs for record in records])
    constraints = Constraints(**options)
    return "\n".join(advice_text.advice_sentences(advice.advise(results, constraints), results, constraints))


def failed_run(make_record: MakeRecord, name: str, status: str, message: str, seed: int = 0) -> Record:
    error = {"kind": "K", "message": message, "trace": None}
    return make_record(name, seed=seed, status=status, scores={}, samples=[], cost=None, error=error)


def test_advise_clearly_best_method_is_recommended(make_runs: MakeRuns) -> None:
    result = advise(make_runs("lora", 0.8), make_runs("few-shot", 0.4), make_runs("ZERO", 0.1))
    assert (result.answer, result.recommended, result.rivals) == ("recommend", "lora", [])


def test_advise_equal_scores_recommends_cheaper(make_runs: MakeRuns) -> None:
    result = advise(
        make_runs("full", 0.801, train_s=100.0), make_runs("lora", 0.8, train_s=10.0), make_runs("ZERO", 0.1)
    )
    assert (result.answer, result.recommended, result.best) == ("recommend", "lora", "full")


def test_advise_different_machines_recommends_best_without_costs(make_runs: MakeRuns) -> None:
    def runs(other_cores: int) -> list[list[Record]]:
        one_machine, other_machine = (
            {"env": ENV.model_copy(update={"cores": cores}).model_dump()} for cores in (8, other_cores)
        )
        return [
            make_runs("full", 0.801, train_s=100.0, **one_machine),
            make_runs("lora", 0.8, train_s=10.0, **other_machine),
            make_runs("few-shot", 0.5, trainable=0, **one_machine),
        ]

    assert advise(*runs(8)).recommended == "lora"
    result = advise(*runs(64))
    assert (result.answer, result.recommended) == ("recommend", "full")
    assert (result.rivals, result.break_even) == ([], None)
    assert "different machines" in advice_words(*runs(64)) and "different machines" not in advice_words(*runs(8))


def test_advise_cheaper_method_maybe_as_good_is_inconclusive(make_runs: MakeRuns) -> None:
    runs = (
        make_runs("full", 0.8, train_s=100.0),
        make_runs("lora", 0.79, train_s=10.0, noise=0.1),
        make_runs("ZERO", 0.1),
    )
    result = advise(*runs)
    assert (result.answer, result.recommended, result.rivals) == ("inconclusive", "full", ["lora"])
    (candidate,) = [candidate for candidate in result.candidates if candidate.name == "lora"]
    assert candidate.questions_needed is None or candidate.questions_needed > N_QUESTIONS
    assert advice_words(*runs).startswith("Inconclusive between full and lora")


def test_advise_memory_limit_recommends_best_that_fits(make_runs: MakeRuns) -> None:
    runs = (
        make_runs("full", 0.9, peak_mib=2000.0),
        make_runs("lora", 0.8, peak_mib=700.0),
        make_runs("few-shot", 0.4, peak_mib=300.0),
    )
    result = advise(*runs, memory_mib=1000)
    assert (result.recommended, result.excluded) == ("lora", {"full": "peak memory: 2,000 MiB exceeds 1,000 MiB"})
    assert "Without the limits: full with 8" in advice_words(*runs, memory_mib=1000)


def test_advise_train_time_limit_recommends_prompting(make_runs: MakeRuns) -> None:
    result = advise(
        make_runs("lora", 0.8, train_s=600.0), make_runs("few-shot", 0.6, train_s=0.0, trainable=0), train_s=60
    )
    assert (result.recommended, list(result.excluded)) == ("few-shot", ["lora"])
    assert result.excluded["lora"] == "training time: 10 min exceeds 60 s"


def test_advise_latency_limit_excludes_by_p95(make_runs: MakeRuns) -> None:
    result = advise(make_runs("few-shot", 0.8, query_ms=300.0), make_runs("lora", 0.7, query_ms=90.0), latency_ms=200)
    assert result.recommended == "lora"
    assert result.excluded["few-shot"] == "p95 latency: 300 ms exceeds 200 ms"


def test_advise_score_below_minimum_is_excluded(make_runs: MakeRuns) -> None:
    result = advise(
        make_runs("lora", 0.8),
        make_runs("few-shot", 0.4, train_s=0.0, query_ms=1.0),
        min_scores={"f1": 0.7},
        tolerance=0.9,
    )
    assert result.recommended == "lora"
    assert result.excluded["few-shot"].endswith(" is below 70.0 %")


def test_advise_number_of_queries_decides_between_prompting_and_training(make_runs: MakeRuns) -> None:
    runs = (
        make_runs("lora", 0.8, train_s=100.0, query_ms=50.0),
        make_runs("few-shot", 0.8, train_s=0.0, query_ms=150.0, trainable=0),
    )
    few, many = advise(*runs, queries=500), advise(*runs, queries=5000)
    assert (few.recommended, many.recommended) == ("few-shot", "lora")
    assert few.break_even == many.break_even
    assert few.break_even is not None
    assert (few.break_even.cheaper_below, few.break_even.cheaper_from) == ("few-shot", "lora")
    assert few.break_even.queries == 1000
    assert "from 1,000 queries on." in advice_words(*runs)


def test_advise_cheaper_control_as_good_is_recommended(make_runs: MakeRuns) -> None:
    runs = make_runs("lora", 0.7), make_runs("TFIDF", 0.7, train_s=0.1, query_ms=1.0, trainable=0)
    result = advise(*runs)
    assert (result.answer, result.recommended) == ("recommend", "TFIDF")
    assert "is a control" in advice_words(*runs)


def test_advice_sentences_name_best_control(make_runs: MakeRuns) -> None:
    runs = make_runs("lora", 0.8), make_runs("NEAR", 0.3, train_s=0.0, query_ms=1.0), make_runs("ZERO", 0.1)
    words = advice_words(*runs)
    assert "Best control: NEAR with 2" in words or "Best control: NEAR with 3" in words


def test_advice_cheaper_method_with_an_equal_score_says_so(make_runs: MakeRuns) -> None:
    runs = make_runs("lora", 1.1, train_s=1.0, query_ms=1.0), make_runs("full", 1.1, train_s=900.0)
    words = advice_words(*runs, make_runs("ZERO", 0.1))
    assert "Use lora." in words
    assert "full scores as high but costs more; lora is at most 2 points worse" in words
    assert "0.0 points" not in words


def test_advise_no_method_within_limits_names_closest(make_runs: MakeRuns) -> None:
    runs = make_runs("full", 0.9, peak_mib=2000.0), make_runs("lora", 0.8, peak_mib=700.0)
    result = advise(*runs, memory_mib=100)
    assert (result.answer, result.recommended, result.candidates) == ("nothing", None, [])
    words = advice_words(*runs, memory_mib=100)
    assert words == "No method is within the limits.\npeak memory: minimum 700 MiB (lora)"


def test_advise_failed_method_is_excluded_with_reason(make_runs: MakeRuns, make_record: MakeRecord) -> None:
    failed = failed_run(make_record, "full", "did-not-fit", "wanted 9 GiB")
    result = advise(make_runs("lora", 0.8), [failed])
    assert (result.recommended, result.excluded) == ("lora", {"full": "did-not-fit: wanted 9 GiB"})


def test_advise_negative_control_is_never_recommended(make_runs: MakeRuns) -> None:
    negative_control = make_runs("SHUFFLED", 0.8, train_s=0.0, query_ms=1.0, method__negative_control=True)
    result = advise(make_runs("lora", 0.7), negative_control)
    assert result.recommended == "lora"
    assert result.excluded == {"SHUFFLED": "negative control, not a candidate"}


def test_advice_sentences_all_methods_failed_name_no_limit(make_record: MakeRecord) -> None:
    assert advice_words([failed_run(make_record, "lora", "error", "no tea")]) == "All methods failed."


def test_advice_sentences_control_alone_is_not_called_better(make_runs: MakeRuns) -> None:
    assert "only controls were run" in advice_words(make_runs("NEAR", 0.3))


def test_advise_command_prints_brackets_of_messages_as_text(
    make_runs: MakeRuns, make_record: MakeRecord, run_bench: Bench, tmp_path: Path
) -> None:
    failed = failed_run(make_record, "full", "error", "no [yes, no] in [/INST]")
    for record in [*make_runs("lora", 0.8), failed]:
        record.write(tmp_path / "results")
    assert "no [yes, no] in [/INST]" in run_bench("advise").stdout


def test_advise_one_failed_seed_excludes_method(make_runs: MakeRuns, make_record: MakeRecord) -> None:
    failed = failed_run(make_record, "full", "error", "no tea", seed=2)
    timeout = failed_run(make_record, "full", "timeout", "slow", seed=3)
    result = advise(make_runs("lora", 0.8), make_runs("full", 0.9, seeds=2), [failed, timeout])
    assert (result.recommended, result.excluded_by_limit) == ("lora", [])
    assert result.excluded == {"full": "seeds 2: error: no tea; seeds 3: timeout: slow"}


def test_advise_unmeasured_cost_is_excluded_by_limit_else_ranked_last(make_runs: MakeRuns) -> None:
    unmeasured = [record.model_copy(update={"cost": None}) for record in make_runs("lora", 0.8)]
    assert advise(unmeasured, memory_mib=100).excluded == {"lora": "peak memory: not measured"}
    assert advise(unmeasured, make_runs("full", 0.8)).recommended == "full"


def test_advise_rising_learning_curve_recommends_more_labels(make_runs: MakeRuns) -> None:
    def two_sizes(score_of_100: float, score_of_400: float) -> list[Record]:
        smaller = make_runs("lora", score_of_100, budget__examples=100)
        return smaller + make_runs("lora", score_of_400, budget__examples=400)

    rising, flat = advise(two_sizes(0.5, 0.7)).more_labels, advise(two_sizes(0.7, 0.7)).more_labels
    assert rising and (rising.verdict, rising.gain > 0) == ("yes", True)
    assert flat and flat.verdict == "no"
    words = advice_words(two_sizes(0.5, 0.7)).replace(" 9.9", " 10")
    assert "each doubling from 100 to 400 examples added 10" in words
    assert advise(make_runs("lora", 0.7)).more_labels is None


@pytest.mark.parametrize(
    ("first", "second", "queries"),
    [
        (CostModel(100, 0.1), CostModel(0, 0.2), 1000),
        (CostModel(0, 0.2), CostModel(100, 0.1), 1000),
        (CostModel(100, 0.2), CostModel(0, 0.1), None),
        (CostModel(5, 0.1), CostModel(5, 0.1), None),
    ],
)
def test_break_even_queries_total_costs_are_equal(first: CostModel, second: CostModel, queries: int | None) -> None:
    assert break_even_queries(first, second) == queries
    if queries is not None:
        assert first.total_s(queries) == pytest.approx(second.total_s(queries))


def test_parse_constraints_invalid_amount_raises() -> None:
    with pytest.raises(UserError, match="--max-memory much"):
        Constraints.parse("much", None, None, [], queries=1, tolerance=0.02)
    for min_score in ("em", "em=much", "em=80", "=0.8"):
        with pytest.raises(UserError, match=f"--min-score {min_score}"):
            Constraints.parse(None, None, None, [min_score], queries=1, tolerance=0.02)
    constraints = Constraints.parse("1GiB", "10min", "200ms", ["f1=0.7"], queries=1, tolerance=0.02)
    assert (constraints.memory_mib, constraints.train_s, constraints.latency_ms) == (1024, 600, 200)
    assert constraints.min_scores == {"f1": 0.7}


def test_advise_command_prints_words_and_json(make_runs: MakeRuns, run_bench: Bench, tmp_path: Path) -> None:
    for record in make_runs("lora", 0.8) + make_runs("ZERO", 0.1):
        record.write(tmp_path / "results")
    completed = run_bench("advise", "--max-memory", "2GiB")
    assert completed.returncode == 0
    assert "Use lora." in completed.stdout
    (document,) = json.loads(run_bench("advise", "results", "--format", "json", "--lang", "ko").stdout)
    assert (document["recommended"], document["sentences"][0]) == ("lora", "Use lora.")
    assert "추천 방법: lora." in run_bench("advise", "results", "--lang", "ko").stdout
    for options, message in (
        (["--max-train-time", "soon"], "--max-train-time soon"),
        (["nowhere"], "nowhere: no such file"),
        (["--lang", "xx"], "--lang xx"),
    ):
        failed = run_bench("advise", *options)
        assert (failed.returncode, message in failed.stderr) == (2, True)
