"""Advice on planted records: the right method in each situation, and the reason why others are out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import Bench, MakeRecord

from bench.analysis import advice, break_even, task_results
from bench.analysis.advice import Advice
from bench.analysis.break_even import CostModel
from bench.analysis.constraints import Constraints
from bench.errors import UserError
from bench.measurement import environment
from bench.records.record import Record
from bench.records.samples import Samples
from bench.report import advice_text

ITEMS = 500
ENV = environment.describe_environment("2026-11-21T00:00:00+00:00", "c" * 64, "cpu", 0.0)
Plant = Callable[..., list[Record]]


@pytest.fixture
def plant(make_record: MakeRecord) -> Plant:
    """Runs of one method with three seeds, of a certain skill and price; a name in capitals is a control."""

    def make(name: str, score: float, seeds: int = 3, **costs: Any) -> list[Record]:
        return [one(name, score, seed, **costs) for seed in range(seeds)]

    def one(
        name: str,
        score: float,
        seed: int,
        fit_s: float = 10.0,
        ms: float = 100.0,
        mib: float = 500.0,
        noise: float = 0.02,
        trainable: int = 1000,
        **changes: Any,
    ) -> Record:
        made = make_record(name, items=ITEMS, seed=seed, method__control=name.isupper(), **changes)
        hard = numpy.random.default_rng(0).random(ITEMS)  # the same questions are hard for all
        own = numpy.random.default_rng([seed, *name.encode()]).standard_normal(ITEMS)
        right = hard + noise * own < score
        samples = Samples.from_list(
            [
                sample.model_copy(update={"scores": {"em": float(good), "f1": float(good)}})
                for sample, good in zip(made.samples, right, strict=True)
            ]
        )
        assert made.cost is not None and made.cost.answering is not None and made.cost.parameters is not None
        fit = made.cost.phases["fit"].model_copy(update={"wall_s": fit_s, "peak_mib": mib})
        predict = made.cost.phases["predict"].model_copy(update={"peak_mib": mib / 2})
        cost = made.cost.model_copy(
            update={
                "phases": {"fit": fit, "predict": predict},
                "answering": made.cost.answering.model_copy(update={"latency_ms": (ms, ms, ms)}),
                "parameters": made.cost.parameters.model_copy(update={"trainable": trainable}),
            }
        )
        mean = float(right.mean())
        return made.model_copy(update={"samples": samples, "cost": cost, "scores": {"em": mean, "f1": mean}})

    return make


def decide(*runs: list[Record], **wishes: Any) -> Advice:
    (section,) = task_results.group_by_task([record for some in runs for record in some])
    return advice.advise(section, Constraints(**wishes))


def said(*runs: list[Record], **wishes: Any) -> str:
    (section,) = task_results.group_by_task([record for some in runs for record in some])
    wanted = Constraints(**wishes)
    return "\n".join(advice_text.advice_sentences(advice.advise(section, wanted), section, wanted))


def test_the_clearly_best_is_used(plant: Plant) -> None:
    made = decide(plant("lora", 0.8), plant("few-shot", 0.4), plant("ZERO", 0.1))
    assert (made.answer, made.recommended, made.cheaper_candidates) == ("use", "lora", [])


def test_of_a_tie_the_cheaper_one_is_used(plant: Plant) -> None:
    made = decide(plant("full", 0.801, fit_s=100.0), plant("lora", 0.8, fit_s=10.0), plant("ZERO", 0.1))
    assert (made.answer, made.recommended, made.best) == ("use", "lora", "full")


def test_of_a_tie_on_machines_that_differ_the_best_is_used_and_no_cost_compared(plant: Plant) -> None:
    def runs(cores: int) -> list[list[Record]]:
        here, there = ({"env": ENV.model_copy(update={"cores": number}).model_dump()} for number in (8, cores))
        slow = plant("full", 0.801, fit_s=100.0, **here)
        return [slow, plant("lora", 0.8, fit_s=10.0, **there), plant("few-shot", 0.5, trainable=0, **here)]

    assert decide(*runs(8)).recommended == "lora"
    made = decide(*runs(64))
    assert (made.answer, made.recommended, made.cheaper_candidates, made.break_even) == ("use", "full", [], None)
    assert "machines that differ" in said(*runs(64)) and "machines that differ" not in said(*runs(8))


def test_a_tie_that_is_not_shown_is_undecided_and_says_what_would_tell(plant: Plant) -> None:
    runs = plant("full", 0.8, fit_s=100.0), plant("lora", 0.79, fit_s=10.0, noise=0.1), plant("ZERO", 0.1)
    made = decide(*runs)
    assert (made.answer, made.recommended, made.cheaper_candidates) == ("undecided", "full", ["lora"])
    (open_one,) = [one for one in made.candidates if one.name == "lora"]
    assert open_one.questions_needed is None or open_one.questions_needed > ITEMS
    assert said(*runs).startswith("Undecided between full and lora")


def test_too_little_memory_leaves_the_best_that_fits(plant: Plant) -> None:
    runs = plant("full", 0.9, mib=2000.0), plant("lora", 0.8, mib=700.0), plant("few-shot", 0.4, mib=300.0)
    made = decide(*runs, memory_mib=1000)
    assert (made.recommended, made.excluded) == ("lora", {"full": "memory: 2,000 MiB, over 1,000 MiB"})
    assert "Without the limits: full with 0.8" in said(*runs, memory_mib=1000)


def test_too_little_time_to_adapt_leaves_prompting(plant: Plant) -> None:
    made = decide(plant("lora", 0.8, fit_s=600.0), plant("few-shot", 0.4, fit_s=0.0, trainable=0), fit_s=60)
    assert (made.recommended, list(made.excluded)) == ("few-shot", ["lora"])
    assert made.excluded["lora"] == "adapting: 10 min, over 60 s"


def test_too_slow_answers_are_out_by_the_slowest_of_them(plant: Plant) -> None:
    made = decide(plant("few-shot", 0.8, ms=300.0), plant("lora", 0.7, ms=90.0), latency_ms=200)
    assert made.recommended == "lora"
    assert made.excluded["few-shot"] == "an answer (95 of 100): 300 ms, over 200 ms"


def test_too_low_a_score_is_out(plant: Plant) -> None:
    made = decide(plant("lora", 0.8), plant("few-shot", 0.4, fit_s=0.0, ms=1.0), least={"f1": 0.7}, tolerance=0.9)
    assert made.recommended == "lora"
    assert made.excluded["few-shot"].endswith(", under 0.7")


def test_prompting_is_used_below_the_break_even_and_training_above(plant: Plant) -> None:
    runs = plant("lora", 0.8, fit_s=100.0, ms=50.0), plant("few-shot", 0.8, fit_s=0.0, ms=150.0, trainable=0)
    few, many = decide(*runs, queries=500), decide(*runs, queries=5000)
    assert (few.recommended, many.recommended) == ("few-shot", "lora")
    assert few.break_even == many.break_even
    assert few.break_even is not None
    assert (few.break_even.cheaper_below, few.break_even.cheaper_from, few.break_even.queries) == ("few-shot", "lora", 1000)
    assert "from 1,000 questions on." in said(*runs)


def test_a_control_that_is_as_good_and_cheaper_wins(plant: Plant) -> None:
    runs = plant("lora", 0.7), plant("TFIDF", 0.7, fit_s=0.1, ms=1.0, trainable=0)
    made = decide(*runs)
    assert (made.answer, made.recommended) == ("use", "TFIDF")
    assert "is a control" in said(*runs)


def test_the_best_control_stands_beside_the_advice(plant: Plant) -> None:
    runs = plant("lora", 0.8), plant("NEAR", 0.3, fit_s=0.0, ms=1.0), plant("ZERO", 0.1)
    assert "the best control: NEAR with 0.2" in said(*runs) or "the best control: NEAR with 0.3" in said(*runs)


def test_where_nothing_fits_the_nearest_is_named(plant: Plant) -> None:
    runs = plant("full", 0.9, mib=2000.0), plant("lora", 0.8, mib=700.0)
    made = decide(*runs, memory_mib=100)
    assert (made.answer, made.recommended, made.candidates) == ("nothing", None, [])
    assert said(*runs, memory_mib=100) == "Nothing fits the limits.\nmemory: the least was 700 MiB, by lora."


def test_what_did_not_fit_or_failed_is_out_with_its_reason(plant: Plant, make_record: MakeRecord) -> None:
    error = {"kind": "DidNotFit", "message": "wanted 9 GiB", "trace": None}
    failed = [make_record("full", status="did-not-fit", scores={}, samples=[], cost=None, error=error)]
    made = decide(plant("lora", 0.8), failed)
    assert (made.recommended, made.excluded) == ("lora", {"full": "did-not-fit: wanted 9 GiB"})


def test_what_shows_learning_nothing_is_never_advised(plant: Plant) -> None:
    sham = plant("SHUFFLED", 0.8, fit_s=0.0, ms=1.0, method__sham=True)
    made = decide(plant("lora", 0.5), sham)
    assert made.recommended == "lora"
    assert made.excluded == {"SHUFFLED": "shows what learning nothing looks like"}


def test_where_every_method_failed_no_limit_is_blamed(make_record: MakeRecord) -> None:
    error = {"kind": "K", "message": "no tea", "trace": None}
    failed = [make_record("lora", status="error", scores={}, samples=[], cost=None, error=error)]
    assert said(failed) == "No method ended well."


def test_a_control_alone_is_not_said_to_beat_what_was_not_run(plant: Plant) -> None:
    assert "no other method was run" in said(plant("NEAR", 0.3))


def test_text_of_records_is_never_markup(
    plant: Plant, make_record: MakeRecord, run_bench: Bench, tmp_path: Path
) -> None:
    error = {"kind": "K", "message": "no [yes, no] in [/INST]", "trace": None}
    broken = make_record("full", status="error", scores={}, samples=[], cost=None, error=error)
    for record in [*plant("lora", 0.8), broken]:
        record.write(tmp_path / "results")
    assert "no [yes, no] in [/INST]" in run_bench("advise").stdout


def test_a_method_of_which_one_seed_failed_is_out(plant: Plant, make_record: MakeRecord) -> None:
    error = {"kind": "K", "message": "no tea", "trace": None}
    late = {"kind": "K", "message": "slow", "trace": None}
    broken = make_record("full", seed=2, status="error", scores={}, samples=[], cost=None, error=error)
    timeout = make_record("full", seed=3, status="timeout", scores={}, samples=[], cost=None, error=late)
    made = decide(plant("lora", 0.8), plant("full", 0.9, seeds=2), [broken, timeout])
    assert (made.recommended, made.excluded_by_limit) == ("lora", [])
    assert made.excluded == {"full": "seeds 2: error: no tea; seeds 3: timeout: slow"}


def test_what_was_not_measured_is_out_where_it_is_limited_and_dear_where_not(plant: Plant) -> None:
    blind = plant("lora", 0.8)
    assert blind[0].cost is not None
    blind = [one.model_copy(update={"cost": None}) for one in blind]
    assert decide(blind, memory_mib=100).excluded == {"lora": "memory: not measured"}
    made = decide(blind, plant("full", 0.8))
    assert made.recommended == "full"


def test_more_labels_help_where_the_curve_still_rises(plant: Plant) -> None:
    def sizes(few: float, many: float) -> list[Record]:
        less, more = plant("lora", few, budget__examples=100), plant("lora", many, budget__examples=400)
        return less + more

    rising, level = decide(sizes(0.5, 0.7)).more_labels, decide(sizes(0.7, 0.7)).more_labels
    assert rising and (rising.verdict, rising.gain > 0) == ("yes", True)
    assert level and level.verdict == "no"
    assert "between 100 and 400 examples each doubling brought 10" in said(sizes(0.5, 0.7)).replace(" 9.9", " 10")
    assert decide(plant("lora", 0.7)).more_labels is None


@pytest.mark.parametrize(
    ("ours", "theirs", "at"),
    [
        (CostModel(100, 0.1), CostModel(0, 0.2), 1000),
        (CostModel(0, 0.2), CostModel(100, 0.1), 1000),
        (CostModel(100, 0.2), CostModel(0, 0.1), None),
        (CostModel(5, 0.1), CostModel(5, 0.1), None),
    ],
)
def test_costs_break_even_where_they_are_equal(ours: CostModel, theirs: CostModel, at: int | None) -> None:
    assert break_even.break_even_queries(ours, theirs) == at
    if at is not None:
        assert ours.total_s(at) == pytest.approx(theirs.total_s(at))


def test_amounts_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="--max-memory much"):
        Constraints.parse("much", None, None, [], queries=1, tolerance=0.02)
    for least in ("em", "em=much", "em=80", "=0.8"):
        with pytest.raises(UserError, match=f"--min-score {least}"):
            Constraints.parse(None, None, None, [least], queries=1, tolerance=0.02)
    wishes = Constraints.parse("1GiB", "10min", "200ms", ["f1=0.7"], queries=1, tolerance=0.02)
    assert (wishes.memory_mib, wishes.train_s, wishes.latency_ms, wishes.min_scores) == (1024, 600, 200, {"f1": 0.7})


def test_the_command_answers_in_words_and_in_json(plant: Plant, run_bench: Bench, tmp_path: Path) -> None:
    for record in plant("lora", 0.8) + plant("ZERO", 0.1):
        record.write(tmp_path / "results")
    words = run_bench("advise", "--max-memory", "2GiB")
    assert words.returncode == 0
    assert "Use lora." in words.stdout
    (told,) = json.loads(run_bench("advise", "results", "--format", "json", "--lang", "ko").stdout)
    assert (told["use"], told["sentences"][0]) == ("lora", "lora 방법을 쓰십시오.")
    for options, complaint in (
        (["--max-train-time", "soon"], "--max-train-time soon"),
        (["nowhere"], "nowhere: no such file"),
        (["--lang", "xx"], "--lang xx"),
    ):
        refused = run_bench("advise", *options)
        assert (refused.returncode, complaint in refused.stderr) == (2, True)
