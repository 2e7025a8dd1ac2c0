"""The metric judge: verdicts in both orders, consistency, and what the record says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bench.model_metrics.judge import TURNS, judge_answers

QUESTIONS = ["which city", "which sea", "which road"]


def make_judge(says_yes: Callable[[str], bool], chat: Any = None) -> Any:
    """A judge that prefers yes where a function of its prompt does."""

    def loglikelihoods(prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        assert [completion.strip() for completion in completions] == ["yes", "no"]
        return [[-1.0, -2.0] if says_yes(prompt) else [-2.0, -1.0] for prompt in prompts]

    return SimpleNamespace(loglikelihoods=loglikelihoods, chat=chat)


def fields(prompt: str) -> dict[str, str]:
    return dict(re.findall(r"^(Question|Reference answer|Answer): (.*)$", prompt, re.MULTILINE))


def is_same(prompt: str) -> bool:
    return fields(prompt)["Answer"].casefold() == fields(prompt)["Reference answer"].casefold()


def test_judge_answers_scores_the_verdicts_of_both_orders() -> None:
    judged = judge_answers(make_judge(is_same), QUESTIONS, ["Busan", "the East Sea", ""], [["busan"], ["Seto"], ["a"]])
    assert judged.scores == (1.0, 0.0, 0.0)
    assert judged.consistency == 1.0


def test_judge_answers_that_depend_on_the_order_count_half() -> None:
    def prefers_the_reference_first(prompt: str) -> bool:
        return prompt.index("Reference answer:") < prompt.index("\nAnswer:")

    judged = judge_answers(make_judge(prefers_the_reference_first), QUESTIONS[:2], ["x", "y"], [["z"], ["z"]])
    assert judged.scores == (0.5, 0.5)
    assert judged.consistency == 0.0


def test_judge_answers_takes_the_best_of_several_references() -> None:
    judged = judge_answers(make_judge(is_same), QUESTIONS[:1], ["Pusan"], [["Busan", "Pusan", "Fusan"]])
    assert judged.scores == (1.0,)


@pytest.mark.parametrize(("answer", "references", "score"), [("", ["", "x"], 1.0), (" ", ["x"], 0.0), ("x", [""], 0.0)])
def test_judge_answers_empty_texts_are_not_read(answer: str, references: list[str], score: float) -> None:
    def fail(prompt: str) -> bool:
        raise AssertionError(prompt)

    assert judge_answers(make_judge(fail), ["q"], [answer], [references]).scores == (score,)


def test_judge_answers_text_with_braces_is_read_as_it_stands() -> None:
    judged = judge_answers(make_judge(is_same), ["{question}"], ['{"a": 1}'], [['{"a": 1}']])
    assert judged.scores == (1.0,)


def test_judge_answers_of_a_chat_model_are_turns() -> None:
    seen: list[tuple[str, str]] = []

    def prompt(instruction: str, shots: Sequence[tuple[str, str]], question: str) -> str:
        assert not shots
        seen.append((instruction, question))
        return question

    chat = SimpleNamespace(prompt=prompt, answer_start="")
    assert judge_answers(make_judge(is_same, chat), ["q"], ["a"], [["a"]]).scores == (1.0,)
    assert len(seen) == len(TURNS)
    assert all(instruction.startswith("You grade answers.") for instruction, _ in seen)
