"""base-ft: continued pre-training on the text of a task, packed into blocks."""

from __future__ import annotations

from typing import Any

import pytest

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import tiny_training_data
from bench.training.trainer import encode_examples

DATA = tiny_training_data()


def fit(base: Checkpoint, limits: BudgetLimits, **params: Any) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method("base-ft")(**params)
    seed_all(0)
    budget = BudgetTracker(limits, len(DATA.train))
    method.fit(method.load(base), DATA, budget)
    budget.stop()
    return method, budget


def test_training_rows_blocks_contain_the_whole_text_once(lively: Checkpoint) -> None:
    method, _ = fit(lively, BudgetLimits(steps=1, batch=2), block=64)
    lm, rows = method.lm_, method.training_rows()
    texts = [DATA.prompt(row.input) + DATA.completion(row) + lm.tokenizer.eos_token for row in DATA.train]
    assert "".join(lm.tokenizer.decode(block) for _, block in rows) == "".join(texts)
    assert all(not prompt for prompt, _ in rows), "every token must be a target"
    assert {len(block) for _, block in rows[:-1]} == {64}


@pytest.mark.parametrize("epochs", [1, 3])
def test_fit_one_epoch_shows_every_example_once_when_packed(lively: Checkpoint, epochs: int) -> None:
    method, budget = fit(lively, BudgetLimits(epochs=epochs, batch=2), block=64)
    blocks = len(method.training_rows())
    assert blocks != len(DATA.train), "packing must change the number of rows, or this test cannot fail"
    assert budget.steps == epochs * ((blocks + 1) // 2)
    assert budget.examples == epochs * len(DATA.train)


def test_fit_learns_the_text_of_the_questions_too(lively: Checkpoint) -> None:
    untrained: Any = lively.load()
    all_tokens = [
        ([prompt[0]], prompt[1:] + completion) for prompt, completion in encode_examples(untrained, DATA, DATA.train)
    ]
    method, _ = fit(lively, BudgetLimits(steps=20, batch=4))
    assert method.lm_.evaluate_loss(all_tokens)[0] < 0.8 * untrained.evaluate_loss(all_tokens)[0]
