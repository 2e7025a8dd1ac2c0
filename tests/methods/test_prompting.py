"""Shots and their choice: number, selection, calibration decided on validation, and what that costs of the budget."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import registry
from bench.errors import UserError
from bench.execution import budget as budget_module
from bench.execution.budget import BudgetTracker
from bench.execution.plan import resolve_params
from bench.method import Unsupported
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.task import TaskRow, TaskTrainingData
from bench.testing import tiny_training_data

LABELS = ("warm", "cold", "mild")
WORDS = ("red", "blue", "green", "gray", "pink")


@pytest.fixture
def lm(lively: Checkpoint) -> CausalLM:
    return lively.load()


def task(*, labels: bool = True, train: int = 60, validation: int = 12, seed: int = 0) -> TaskTrainingData:
    data = tiny_training_data(seed, answers=LABELS)
    rows = tuple(
        TaskRow(f"{index}", f"{WORDS[index % 5]} {index}", (LABELS[index % 3],)) for index in range(train + validation)
    )
    card = data.card if labels else data.card.model_copy(update={"labels": None})
    return dataclasses.replace(data, card=card, train=rows[:train], validation=rows[train:])


def fit(
    name: str, lm: CausalLM, data: TaskTrainingData, limits: BudgetLimits | None = None, **params: Any
) -> tuple[Any, BudgetTracker]:
    budget = BudgetTracker(limits or BudgetLimits(epochs=3), len(data.train))
    return registry.find_method(name)(**params).fit(lm, data, budget), budget


def shots_of(method: Any) -> list[TaskRow]:
    return list(method.prompt_.shots.examples)


def test_few_shot_automatic_k_is_whole_rounds_over_labels_that_fit(lm: CausalLM) -> None:
    method, _ = fit("few-shot", lm, task(), calibrate=False, select="random")
    counts = Counter(shot.target for shot in shots_of(method))
    assert len(set(counts.values())) == 1 and set(counts) == set(LABELS)
    one_more, _ = fit("few-shot", lm, task(), k=len(shots_of(method)) + 3, calibrate=False, select="random")
    assert len(shots_of(one_more)) < len(shots_of(method)) + 3, "another round would have fitted"
    assert method.fit_report_ == {"select": "random", "shots": len(shots_of(method)), "calibrated": False}


def test_few_shot_automatic_k_stops_at_the_maximum(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CausalLM, "context", 10_000)
    for labels, shots in ((("a", "b"), 24), (("a", "b", "c", "d", "e"), 20), (tuple(map(str, range(40))), 40)):
        data = task(train=200)
        card = data.card.model_copy(update={"labels": labels})
        rows = tuple(TaskRow(row.id, row.input, (labels[int(row.id) % len(labels)],)) for row in data.train)
        method, _ = fit(
            "few-shot", lm, dataclasses.replace(data, card=card, train=rows), calibrate=False, select="random"
        )
        counts = Counter(shot.target for shot in shots_of(method))
        assert sum(counts.values()) == shots and set(counts) == set(labels)


@pytest.mark.parametrize(("labels", "select", "draws"), [(True, "validated", 4), (False, "random", None)])
def test_few_shot_automatic_selection_depends_on_the_labels(
    labels: bool, select: str, draws: int | None, lm: CausalLM
) -> None:
    data = task(labels=labels, train=300, validation=80)
    method, budget = fit("few-shot", lm, data, k=3 if labels else "auto")
    assert (method.fit_report_["select"], method.fit_report_.get("draws")) == (select, draws)
    assert method.fit_report_.get("validation_questions", 0) == (50 if labels else 0)
    assert budget.examples == (4 * (3 + 50) if labels else 4)


def test_few_shot_small_budget_compares_fewer_draws(lm: CausalLM) -> None:
    method, budget = fit("few-shot", lm, task(train=100, validation=80), BudgetLimits(epochs=1), k=3)
    assert method.fit_report_["draws"] == 1 and method.fit_report_["validation_questions"] == 50
    assert (budget.examples, budget.stopped_by) == (53, "epochs")


@pytest.mark.parametrize("k", [1, 4, 5])
def test_few_shot_given_k_is_kept(k: int, lm: CausalLM) -> None:
    assert len(shots_of(fit("few-shot", lm, task(), k=k)[0])) == k


def test_few_shot_open_answers_default_is_four_random_shots(lm: CausalLM) -> None:
    default, budget = fit("few-shot", lm, task(labels=False))
    four, _ = fit("few-shot", lm, task(labels=False), k=4)
    assert shots_of(default) == shots_of(four) and len(shots_of(four)) == 4
    assert (budget.examples, budget.tokens) == (4, 0), "nothing is asked where nothing is to choose"


@pytest.mark.parametrize("name", ["zero-shot", "few-shot"])
@pytest.mark.parametrize("seed", range(4))
def test_calibrate_auto_keeps_the_better_on_validation(name: str, seed: int, lm: CausalLM) -> None:
    data = task(seed=seed)
    params = {"select": "random"} if name == "few-shot" else {}
    auto, budget = fit(name, lm, data, **params)
    fixed = {flag: fit(name, lm, data, calibrate=flag, **params)[0] for flag in (False, True)}
    questions = [row.input for row in data.validation]
    scores = {
        flag: sum(answer == row.target for answer, row in zip(method.predict(questions), data.validation, strict=True))
        / len(questions)
        for flag, method in fixed.items()
    }
    report = auto.fit_report_
    assert report["validation_score_uncalibrated"] == pytest.approx(scores[False], abs=1e-3)
    assert report["validation_score_calibrated"] == pytest.approx(scores[True], abs=1e-3)
    assert report["calibrated"] is (scores[True] > scores[False])
    assert auto.predict(questions) == fixed[report["calibrated"]].predict(questions)
    prompts = [auto.prompt_.shots.prompt(question) for question in [*questions, "N/A", "[MASK]", ""]]
    assert budget.examples == len(shots_of(auto)) + len(questions)
    assert budget.tokens == sum(len(lm.tokens(prompt)) for prompt in prompts)


def test_calibrate_auto_decides_differently_for_different_seeds(lm: CausalLM) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [("zero-shot", {})]
    cases += [("few-shot", {"k": k, "select": "random"}) for k in ("auto", 3, 2)]
    decisions = {
        fit(name, lm, task(seed=seed), **params)[0].fit_report_["calibrated"]
        for name, params in cases
        for seed in range(4)
    }
    assert decisions == {False, True}, "the test of the decision would otherwise prove little"


def test_calibrate_auto_asks_at_most_a_hundred_questions(lm: CausalLM) -> None:
    method, budget = fit("zero-shot", lm, task(train=200, validation=150))
    assert method.fit_report_["validation_questions"] == budget.examples == 100


@pytest.mark.parametrize(
    ("limits", "questions"),
    [
        (BudgetLimits(epochs=1, examples=20), 11),
        (BudgetLimits(epochs=1, examples=9), 0),
        (BudgetLimits(epochs=1, tokens=1), 0),
    ],
)
def test_calibrate_auto_keeps_to_a_small_budget(limits: BudgetLimits, questions: int, lm: CausalLM) -> None:
    method, budget = fit("few-shot", lm, task(train=limits.examples or 60, validation=60), limits, k=9, select="random")
    assert method.fit_report_["validation_questions"] == questions
    assert method.fit_report_["calibrated"] is bool(method.prompt_.prior)
    assert budget.examples == 9 + questions
    assert budget.stopped_by == ("tokens" if limits.tokens else "epochs")


def test_calibrate_asked_for_beyond_the_budget_is_unsupported(lm: CausalLM) -> None:
    with pytest.raises(Unsupported, match="budget"):
        fit("few-shot", lm, task(), BudgetLimits(epochs=1, tokens=1), calibrate=True, select="random")


def test_select_validated_keeps_the_best_draw(lm: CausalLM) -> None:
    data = task()
    best, budget = fit("few-shot", lm, data, k=6, select="validated", draws=5, calibrate=False)
    assert best.fit_report_["draws"] == 5
    assert budget.examples == 5 * (6 + len(data.validation))
    questions = [row.input for row in data.validation]

    def score(method: Any) -> float:
        pairs = zip(method.predict(questions), data.validation, strict=True)
        return sum(answer == row.target for answer, row in pairs) / len(questions)

    assert best.fit_report_["validation_score"] == pytest.approx(score(best), abs=1e-3)
    first, _ = fit("few-shot", lm, data, k=6, calibrate=False, select="random")
    assert score(best) > score(first), "no draw was better than the first, so this test could not fail"


def test_select_validated_open_answers_are_generated_and_scored(lm: CausalLM) -> None:
    method, budget = fit("few-shot", lm, task(labels=False), select="validated", draws=2)
    assert method.fit_report_.keys() == {"select", "shots", "validation_questions", "validation_score", "draws"}
    assert budget.examples == 2 * (4 + 12)


def test_select_validated_stops_when_the_seconds_are_used_up(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(budget_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    plain_scores = lm.loglikelihoods

    def slow_scores(prompts: list[str], completions: list[str]) -> list[list[float]]:
        clock[0] += 10.0
        return plain_scores(prompts, completions)

    monkeypatch.setattr(lm, "loglikelihoods", slow_scores)
    limits = BudgetLimits(epochs=9, seconds=25.0)
    method, budget = fit("few-shot", lm, task(), limits, k=6, select="validated", draws=9, calibrate=False)
    assert method.fit_report_["draws"] == 3 and budget.stopped_by == "seconds"
    assert (budget.seconds, budget.validation_s) == (30.0, 30.0)
    three, _ = fit("few-shot", lm, task(), k=6, select="validated", draws=3, calibrate=False)
    assert shots_of(method) == shots_of(three)


@pytest.mark.parametrize("labels", [True, False])
def test_select_nearest_puts_the_most_similar_shot_last(labels: bool, lm: CausalLM) -> None:
    data = task(labels=labels)
    method, budget = fit("few-shot", lm, data, k=3, select="nearest")
    shown = [line for line in method.prompt_.shots.prompt("green 17").splitlines() if line.startswith("Q: ")]
    assert shown[2:] == ["Q: green 17", "Q: green 17"] and len(shown) == 4
    assert budget.examples == len(data.train)


def test_select_nearest_leaves_the_least_similar_shots_out(lm: CausalLM) -> None:
    method, _ = fit("few-shot", lm, task(), k=50, select="nearest")
    prompt = method.prompt_.shots.prompt("green 17")
    shown = [line for line in prompt.splitlines() if line.startswith("Q: ")]
    assert len(lm.tokens(prompt)) <= lm.context - lm.max_new_tokens
    assert 3 < len(shown) < 50 and shown[-2] == "Q: green 17"


@pytest.mark.parametrize(
    ("labels", "params", "reason"), [(True, {"select": "nearest"}, "nearest"), (False, {}, "open answers")]
)
def test_calibrate_that_cannot_be_done_is_unsupported(
    labels: bool, params: dict[str, Any], reason: str, lm: CausalLM
) -> None:
    with pytest.raises(Unsupported, match=reason):
        fit("few-shot", lm, task(labels=labels), calibrate=True, **params)


def test_cot_validated_shots_are_scored_by_final_answers(lm: CausalLM) -> None:
    data = task(labels=False, validation=3)
    rows = tuple(dataclasses.replace(row, rationale=f"it is {row.input}") for row in data.train)
    card = data.card.model_copy(update={"template": "Q: {input}\nA: {target}\n\n"})
    method, budget = fit("cot", lm, dataclasses.replace(data, card=card, train=rows), select="validated", draws=2, k=2)
    assert method.fit_report_ == {
        "select": "validated", "shots": 2, "validation_questions": 3, "validation_score": 0.0, "draws": 2,
    }  # fmt: skip
    assert budget.examples == 2 * (2 + 3)


@pytest.mark.parametrize(
    ("text", "value"), [("auto", "auto"), ("yes", True), ("no", False), ("true", True), ("false", False)]
)
def test_set_calibrate_accepts_auto_yes_and_no(text: str, value: object) -> None:
    params = resolve_params(registry.find_method("few-shot"), {"calibrate": text, "k": "auto"}, "few-shot")
    assert params["calibrate"] is value or params["calibrate"] == value
    assert params["k"] == "auto"


@pytest.mark.parametrize(("key", "text"), [("k", "0"), ("k", "many"), ("calibrate", "maybe"), ("select", "best")])
def test_set_invalid_prompting_value_raises_user_error(key: str, text: str) -> None:
    with pytest.raises(UserError, match=f"few-shot.{key}={text}"):
        resolve_params(registry.find_method("few-shot"), {key: text}, "few-shot")


def test_save_nearest_shots_keeps_the_examples(lm: CausalLM, tmp_path: Path) -> None:
    method, _ = fit("few-shot", lm, task(train=5), k=2, select="nearest")
    method.save(tmp_path)
    saved = json.loads((tmp_path / "nearest_shots.json").read_text("utf-8"))
    assert saved["count"] == 2 and saved["examples"][0] == {"input": "red 0", "target": "warm"}
    assert len(saved["examples"]) == 5
