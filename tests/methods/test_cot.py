"""Chain of thought: what the shots show, which of them can be shown, and what counts as the answer."""

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
    """A task whose training rows have these worked solutions."""
    card = TaskCard.model_validate(CARD | {"template": TEMPLATE} | changes)
    rows = tuple(TaskRow(f"q{place}", f"sum {place}", (f"A: {place}",), why) for place, why in enumerate(rationales))
    return TaskTrainingData(card, rows, (TaskRow("v", "a longer question", ("A: 9",)),), 0)


def fitted(base: Checkpoint, what: TaskTrainingData, **params: Any) -> Any:
    return registry.find_method("cot")(**params).fit(
        base.load(), what, BudgetTracker(BudgetLimits(epochs=1), len(what.train))
    )


@given(WORDS, WORDS)
def test_a_worked_answer_concludes_with_its_target(rationale: str, target: str) -> None:
    what = training_data()
    worked = what.completion(TaskRow("one", "sum", (target,), rationale), with_rationale=True)
    assert worked == f"\n{rationale}\n{target}"
    assert what.final_answer(worked + what.card.end + "Q: more\nof it") == target
    assert what.final_answer(worked) == target


@pytest.mark.parametrize(
    ("worked", "answer"),
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
def test_what_broke_off_before_the_last_line_is_no_answer(worked: str, answer: str) -> None:
    assert training_data().final_answer(worked) == answer


def test_shots_show_their_steps_on_one_line_and_the_answer_on_the_next() -> None:
    what = training_data("one\nby\n\n one", "at once")
    assert what.prompt("sum", what.train, with_rationale=True) == (
        "Name the feeling.\n\nQ: sum 0\none by one\nA: 0\n\nQ: sum 1\nat once\nA: 1\n\nQ: sum"
    )
    assert "at once" not in what.prompt("sum", what.train)


def test_only_examples_with_a_worked_solution_are_shown(tiny: Checkpoint) -> None:
    method = fitted(tiny, training_data(None, "one", "", "two", " "), k=4)
    assert sorted(shot.rationale for shot in method.shots_.examples) == ["one", "two"]


def test_an_example_whose_answer_cannot_be_told_from_its_steps_is_not_shown(tiny: Checkpoint) -> None:
    what = training_data("one", "two")
    what = replace(what, train=(*what.train, TaskRow("q9", "sum", ("A:\nnine",), "three")))
    assert {shot.id for shot in fitted(tiny, what, k=4).shots_.examples} == {"q0", "q1"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (training_data(None, None), "no training example has a worked solution"),
        (training_data("one", template="Q: {input}\nA: {target}\n"), "template ends an answer before"),
        (training_data("one " * 200), "context holds no worked example"),
    ],
)
def test_a_task_that_cannot_be_worked_is_unsupported_with_its_reason(
    tiny: Checkpoint, what: TaskTrainingData, reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        fitted(tiny, what)


def test_the_steps_are_not_part_of_the_answer(tiny: Checkpoint) -> None:
    method = fitted(tiny, training_data("one", "two"), k=2)
    asked: list[str] = []

    def answer(prompts: list[str]) -> list[str]:
        asked.extend(prompts)
        return ["\nso and so\nA: 7\n\n", "\nso and"]

    method.shots_ = replace(method.shots_, lm=SimpleNamespace(context=999, max_new_tokens=8, tokens=list))
    method.lm_.generate = answer
    assert method.predict(["sum 7", "sum 8"]) == ["A: 7", ""]
    assert all("one\nA: 0" in prompt and "two\nA: 1" in prompt for prompt in asked)


def test_the_saved_prompt_is_the_one_that_is_asked(tiny: Checkpoint, tmp_path: Path) -> None:
    method = fitted(tiny, training_data("one", "two"), k=2)
    method.save(tmp_path)
    saved = json.loads((tmp_path / "prompt.json").read_text("utf-8"))["prompt"]
    assert saved.replace("{input}", "sum 7") == method.shots_.prompt("sum 7")


def test_self_consistency_takes_the_commonest_conclusion(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    what = training_data(*["one and one"] * 4)
    method = fitted(lively, what, k=2, m=5)
    worked = ["\nx\nA: 2\n\n", "\nx\nA: 3\n\n", "\nbroke off", "\ny\nA: 3\n\n", "\nz\nA: 2\n\n"]
    assert method.vote(worked) == "A: 2", "of several commonest the first drawn"
    assert method.vote(worked[1:]) == "A: 3"
    assert method.vote(worked[2:3]) == ""
    asked = []

    def generate(prompts: list[str], **settings: Any) -> list[str]:
        asked.append(settings)
        return [worked[settings["sample_index"]]]

    monkeypatch.setattr(method.lm_, "generate", generate)
    assert method.predict(["sum 9"]) == ["A: 2"]
    assert asked == [{"temperature": 0.7, "sample_index": draw} for draw in range(5)]
