"""Continued pre-training: the task's text, whole, in blocks, under the same budget as the others."""

from __future__ import annotations

from typing import Any

import pytest

from bench import registry
from bench.execution.budget import Budget
from bench.execution.worker import seed_all
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Grant
from bench.testing import tiny_lesson
from bench.training.trainer import pairs

LESSON = tiny_lesson()


def fit(base: Checkpoint, grant: Grant, **params: Any) -> tuple[Any, Budget]:
    method: Any = registry.method("base-ft")(**params)
    seed_all(0)
    budget = Budget(grant, len(LESSON.train))
    method.fit(method.load(base), LESSON, budget)
    budget.stop()
    return method, budget


def test_blocks_hold_all_of_the_text_once(lively: Checkpoint) -> None:
    method, _ = fit(lively, Grant(steps=1, batch=2), block=64)
    lm, rows = method.lm_, method.rows()
    told = [LESSON.prompt(row.input) + LESSON.completion(row) + lm.tokenizer.eos_token for row in LESSON.train]
    assert "".join(lm.tokenizer.decode(block) for _, block in rows) == "".join(told)
    assert all(not read for read, _ in rows), "every token is learnt"
    assert {len(block) for _, block in rows[:-1]} == {64}


@pytest.mark.parametrize("passes", [1, 3])
def test_a_pass_shows_every_example_once_however_they_are_packed(lively: Checkpoint, passes: int) -> None:
    method, budget = fit(lively, Grant(passes=passes, batch=2), block=64)
    blocks = len(method.rows())
    assert blocks != len(LESSON.train), "packing changed nothing, so this test could not fail"
    assert budget.steps == passes * ((blocks + 1) // 2)
    assert budget.examples == passes * len(LESSON.train)


def test_the_text_of_the_questions_is_learnt_too(lively: Checkpoint) -> None:
    untrained: Any = lively.load()
    whole = [([head[0]], head[1:] + tail) for head, tail in pairs(untrained, LESSON, LESSON.train)]
    method, _ = fit(lively, Grant(steps=20, batch=4))
    assert method.lm_.measure(whole)[0] < 0.8 * untrained.measure(whole)[0]
