"""A language model as judge: does an answer mean the same as a reference?

Models prefer what they read first, and some say yes to everything. So each answer is judged twice, with reference and
answer in both orders, and the record holds how often the two verdicts agree, and how often they agree with exact match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.modeling.causal_lm import CausalLM

INSTRUCTION = (
    "You grade answers. Reply yes if the answer means the same as the reference answer to the question, "
    "and no if it does not."
)
TURNS = (
    "Question: {question}\nReference answer: {reference}\nAnswer: {answer}\n"
    "Does the answer mean the same as the reference answer? Reply yes or no.",
    "Question: {question}\nAnswer: {answer}\nReference answer: {reference}\n"
    "Does the answer mean the same as the reference answer? Reply no or yes.",
)
"""The question to the judge, in both orders."""
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Judgement:
    """Verdicts of a judge on the answers of a run."""

    scores: tuple[float, ...]
    """Of each answer: 1 if both orders say yes, 0.5 if one does, 0 if none does."""
    consistency: float
    """Share of the answers on which both orders agree."""


def rubric_digest() -> str:
    """Return the SHA-256 of instruction and questions to the judge."""
    return hashlib.sha256(json.dumps([INSTRUCTION, *TURNS, YES, NO]).encode()).hexdigest()


def judge_answers(
    judge: CausalLM, questions: Sequence[str], answers: Sequence[str], references: Sequence[Sequence[str]]
) -> Judgement:
    """Judge answers by the likelier of yes and no.

    Of several references the best verdict counts. An empty answer is wrong without being read, unless a
    reference is empty, too.

    Args:
        judge: Language model, with its chat template if it has one.
        questions: Question of each answer.
        answers: Answers.
        references: Accepted answers to each question.

    Source: Zheng et al. (2023), https://arxiv.org/abs/2306.05685.
    """
    cases = [
        (position, {"question": question, "answer": answer, "reference": reference})
        for position, (question, answer, group) in enumerate(zip(questions, answers, references, strict=True))
        for reference in group
        if answer.strip() and reference.strip()
    ]
    verdicts = [(_is_empty_match(answer, group),) * 2 for answer, group in zip(answers, references, strict=True)]
    both_orders = [_says_yes(judge, [turn.format(**fields) for _, fields in cases]) for turn in TURNS]
    for (position, _), first, second in zip(cases, *both_orders, strict=True):
        verdicts[position] = max(verdicts[position], (first, second), key=sum)
    return Judgement(
        tuple(sum(verdict) / 2 for verdict in verdicts),
        sum(first == second for first, second in verdicts) / max(len(verdicts), 1),
    )


def _is_empty_match(answer: str, references: Sequence[str]) -> bool:
    return not answer.strip() and any(not reference.strip() for reference in references)


def _says_yes(judge: CausalLM, questions: Sequence[str]) -> list[bool]:
    """Return for each question if the judge finds yes likelier than no."""
    if judge.chat is not None:
        prompts = [judge.chat.prompt(INSTRUCTION, [], question) for question in questions]
        start = judge.chat.answer_start
    else:
        prompts = [f"{INSTRUCTION}\n\n{question}\nReply:" for question in questions]
        start = " "
    loglikelihoods = judge.loglikelihoods(prompts, [start + YES, start + NO])
    return [yes > no for yes, no in loglikelihoods]
