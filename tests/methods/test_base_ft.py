"""Continued pre-training: the task's text, whole, in blocks, under the same budget as the others."""

from __future__ import annotations

from typing import Any

import pytest

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits
from bench.testing import tiny_training_data
from bench.training.trainer import encode_examples

DATA = tiny_training_data()


def fit(base: Checkpoint, grant: BudgetLimits, **params: Any) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method("base-ft")(**params)
    seed_all(0)
    budget = BudgetTracker(grant, len(DATA.train))
    method.fit(method.load(base), DATA, budget)
    budget.stop()
    return method, budget


def test_blocks_hold_all_of_the_text_once(lively: Checkpoint) -> None:
    method, _ = fit(lively, BudgetLimits(steps=1, batch=2), block=64)
    lm, rows = method.lm_, method.training_rows()
    told = [DATA.prompt(row.input) + DATA.completion(row) + lm.tokenizer.eos_token for row in DATA.train]
    assert "".join(lm.tokenizer.decode(block) for _, block in rows) == "".join(told)
    assert all(not read for read, _ in rows), "every token is learnt"
    assert {len(block) for _, block in rows[:-1]} == {64}


@pytest.mark.parametrize("passes", [1, 3])
def test_a_pass_shows_every_example_once_however_they_are_packed(lively: Checkpoint, passes: int) -> None:
    method, budget = fit(lively, BudgetLimits(epochs=passes, batch=2), block=64)
    blocks = len(method.training_rows())
    assert blocks != len(DATA.train), "packing changed nothing, so this test could not fail"
    assert budget.steps == passes * ((blocks + 1) // 2)
    assert budget.examples == passes * len(DATA.train)


def test_the_text_of_the_questions_is_learnt_too(lively: Checkpoint) -> None:
    untrained: Any = lively.load()
    whole = [([head[0]], head[1:] + tail) for head, tail in encode_examples(untrained, DATA, DATA.train)]
    method, _ = fit(lively, BudgetLimits(steps=20, batch=4))
    assert method.lm_.evaluate_loss(whole)[0] < 0.8 * untrained.evaluate_loss(whole)[0]
