"""Chain of thought: choice and form of the shots, and the answer at the end of a solution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import CARD
from hypothesis import given
from hypothesis import strategies as st

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.method import Unsupported
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.task import TaskRow, TaskTrainingData
from bench.task_card import TaskCard

WORDS = st.from_regex(r"[a-z가-힣=+]+( [a-z가-힣=+]+){0,3}", fullmatch=True)
TEMPLATE = "Q: {input}\n{target}\n\n"


def training_data(*rationales: str | None, **changes: Any) -> TaskTrainingData:
    """A task whose training rows have these rationales."""
    card = TaskCard.model_validate(CARD | {"template": TEMPLATE} | changes)
    rows = tuple(TaskRow(f"q{index}", f"sum {index}", (f"A: {index}",), text) for index, text in enumerate(rationales))
    return TaskTrainingData(card, rows, (TaskRow("v", "a longer question", ("A: 9",)),), 0)


def fit(base: Checkpoint, data: TaskTrainingData, **params: Any) -> Any:
    return registry.find_method("cot")(**params).fit(
        base.load(), data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
    )


@given(WORDS, WORDS)
def test_final_answer_of_a_completion_with_rationale_is_the_target(rationale: str, target: str) -> None:
    data = training_data()
    worked = data.completion(TaskRow("one", "sum", (target,), rationale), with_rationale=True)
    assert worked == f"\n{rationale}\n{target}"
    assert data.final_answer(worked + data.card.end + "Q: more\nof it") == target
    assert data.final_answer(worked) == target


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("\n1 + 1 = 2\nA: 2\n\nQ: sum 3\n1 + 2", "A: 2"),
        ("\none\nby one\nA: 2", "A: 2"),
        ("\n1 + 1 = 2\nA: 2 ", "A: 2"),
        ("\n1 + 1 = 2, 2 +", ""),
        ("\n1 + 1 = 2\n", ""),
        ("\n1 + 1 = 2\n\nA: 2", ""),
        ("\nA: 2\n\n", ""),
        ("", ""),
    ],
)
def test_final_answer_of_an_unfinished_solution_is_empty(solution: str, answer: str) -> None:
    assert training_data().final_answer(solution) == answer


def test_prompt_shots_show_rationale_and_answer_on_two_lines() -> None:
    data = training_data("one\nby\n\n one", "at once")
    assert data.prompt("sum", data.train, with_rationale=True) == (
        "Name the feeling.\n\nQ: sum 0\none by one\nA: 0\n\nQ: sum 1\nat once\nA: 1\n\nQ: sum"
    )
    assert "at once" not in data.prompt("sum", data.train)


def test_fit_chooses_only_examples_with_a_rationale(tiny: Checkpoint) -> None:
    method = fit(tiny, training_data(None, "one", "", "two", " "), k=4)
    assert sorted(shot.rationale for shot in method.shots_.examples) == ["one", "two"]


def test_fit_skips_an_example_whose_answer_is_not_separable(tiny: Checkpoint) -> None:
    data = training_data("one", "two")
    data = replace(data, train=(*data.train, TaskRow("q9", "sum", ("A:\nnine",), "three")))
    assert {shot.id for shot in fit(tiny, data, k=4).shots_.examples} == {"q0", "q1"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (training_data(None, None), "no training example has a .rationale"),
        (training_data("one", template="Q: {input}\nA: {target}\n"), "template ends an answer before"),
        (training_data("one " * 200), "no solved example fits into the context"),
    ],
)
def test_fit_unusable_task_raises_unsupported_with_the_reason(
    tiny: Checkpoint, data: TaskTrainingData, reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        fit(tiny, data)


def test_predict_returns_the_answer_without_the_rationale(tiny: Checkpoint) -> None:
    method = fit(tiny, training_data("one", "two"), k=2)
    prompts_seen: list[str] = []

    def generate(prompts: list[str], *, with_rationale: bool) -> list[str]:
        assert with_rationale, "the constraint on answers must leave the reasoning free"
        prompts_seen.extend(prompts)
        return ["\nso and so\nA: 7\n\n", "\nso and"]

    method.shots_ = replace(method.shots_, lm=SimpleNamespace(context=999, max_new_tokens=8, tokens=list))
    method.lm_.generate = generate
    assert method.predict(["sum 7", "sum 8"]) == ["A: 7", ""]
    assert all("one\nA: 0" in prompt and "two\nA: 1" in prompt for prompt in prompts_seen)


def test_save_writes_the_prompt_that_predict_uses(tiny: Checkpoint, tmp_path: Path) -> None:
    method = fit(tiny, training_data("one", "two"), k=2)
    method.save(tmp_path)
    saved = json.loads((tmp_path / "prompt.json").read_text("utf-8"))["prompt"]
    assert saved.replace("{input}", "sum 7") == method.shots_.prompt("sum 7")


def test_vote_most_frequent_answer_wins(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_data(*["one and one"] * 4)
    method = fit(lively, data, k=2, m=5)
    solutions = ["\nx\nA: 2\n\n", "\nx\nA: 3\n\n", "\nbroke off", "\ny\nA: 3\n\n", "\nz\nA: 2\n\n"]
    assert method.vote(solutions) == "A: 2", "of equally frequent answers the first sampled wins"
    assert method.vote(solutions[1:]) == "A: 3"
    assert method.vote(solutions[2:3]) == ""
    settings_seen = []

    def generate(prompts: list[str], **settings: Any) -> list[str]:
        settings_seen.append(settings)
        return [solutions[settings["sample_index"]]]

    monkeypatch.setattr(method.lm_, "generate", generate)
    assert method.predict(["sum 9"]) == ["A: 2"]
    assert settings_seen == [{"temperature": 0.7, "sample_index": index, "with_rationale": True} for index in range(5)]
