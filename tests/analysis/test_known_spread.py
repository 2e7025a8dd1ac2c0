"""Known spread between seeds: which kind of method a run is, and what is assumed of its scores."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy
import pytest
from conftest import MakeRecord

from bench.analysis.known_spread import FEW_STEPS, MEASURED, REFERENCE_DOF, SpreadKind, kind_of, known_spread
from bench.analysis.seed_variance import NO_SPREAD
from bench.records import Record

ROOT = Path(__file__).parents[2]


def with_steps(record: Record, steps: int) -> Record:
    """Return the record of a run with other optimizer steps."""
    assert record.cost is not None and record.cost.budget_usage is not None
    usage = record.cost.budget_usage.model_copy(update={"steps": steps})
    return record.model_copy(update={"cost": record.cost.model_copy(update={"budget_usage": usage})})


@pytest.mark.parametrize(
    ("ref", "examples", "steps", "kind"),
    [
        ("lora", None, FEW_STEPS, "trained"),
        ("lora", 200, FEW_STEPS - 1, "briefly trained"),
        ("head", None, 13, "briefly trained"),
        ("few-shot", None, 0, "prompted"),
        ("cot", 200, 0, "prompted"),
        ("features", None, 0, "sampled"),
        ("nearest", 200, 0, "sampled"),
        ("nearest", None, 0, None),
        ("tfidf", None, 0, None),
        ("majority", None, 0, None),
        ("zero-shot", 200, 0, None),
        ("./nearest.py", None, 0, "trained"),
        ("mine:Prompter", None, 0, "trained"),
        ("./mine.py", None, 12, "briefly trained"),
    ],
)
def test_kind_of_run_follows_method_and_steps(
    make_record: MakeRecord, ref: str, examples: int | None, steps: int, kind: str | None
) -> None:
    record = make_record("mine", method__ref=ref, budget__examples=examples)
    assert kind_of(with_steps(record, steps)) == kind


def test_kind_of_run_without_cost_is_trained(make_record: MakeRecord) -> None:
    assert kind_of(make_record("lora").model_copy(update={"cost": None})) == "trained"


def test_known_spread_is_share_of_the_variance_over_questions(make_record: MakeRecord) -> None:
    record, scores = make_record("lora"), (numpy.arange(100) < 80).astype(float)[None]
    known = known_spread(record, scores)
    assert known.variance == pytest.approx(MEASURED["trained"].share * 0.8 * 0.2)
    assert known.dof == REFERENCE_DOF
    assert known_spread(record, 30 * scores).variance == pytest.approx(900 * known.variance)


@pytest.mark.parametrize("n_right", [0, 100])
def test_known_spread_all_answers_alike_is_none(make_record: MakeRecord, n_right: int) -> None:
    scores = (numpy.arange(100) < n_right).astype(float)[None]
    assert known_spread(make_record("lora"), scores) == NO_SPREAD


def test_known_spread_equal_seeds_is_none(make_record: MakeRecord) -> None:
    """Scores that are the same for two seeds show that the method does not depend on the seed."""
    scores = numpy.repeat((numpy.arange(100) < 80).astype(float)[None], 2, axis=0)
    assert known_spread(make_record("lora"), scores) == NO_SPREAD
    assert known_spread(make_record("lora"), scores[:1]) != NO_SPREAD
    assert known_spread(make_record("zero-shot"), scores[:1]) == NO_SPREAD


@pytest.mark.parametrize("kind", MEASURED)
def test_measured_spread_is_fitted_to_the_runs(kind: SpreadKind) -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "seed_spread.py"))
    settings = [setting for setting in script["read_settings"]() if setting.kind == kind]
    share = script["equivalent_share"](*script["fit_spread"](settings))
    assert MEASURED[kind].share == pytest.approx(share, abs=5e-5)
    assert MEASURED[kind].n_runs == sum(len(setting.scores) for setting in settings)
