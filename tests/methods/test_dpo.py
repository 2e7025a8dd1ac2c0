"""DPO: the second data begins where LoRA's ends, within one budget, and moves away from the wrong answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data

DATA = tiny_training_data()
REJECTED = replace(DATA, train=tuple(replace(row, rejected="never") for row in DATA.train))


def fit(
    base: Checkpoint, grant: BudgetLimits, data: TaskTrainingData = DATA, **params: Any
) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method("dpo")(**params)
    seed_all(0)
    budget = BudgetTracker(grant, len(data.train))
    method.fit(method.load(base), data, budget)
    return method, budget


def margin(lm: CausalLM, row: Any) -> float:
    """By how much (nats per token) the wanted answer is likelier than the rejected one."""
    good, bad = lm.loglikelihood(DATA.prompt(row.input), [DATA.completion(row), " " + row.rejected])
    return good - bad


@pytest.mark.parametrize(
    "grant", [BudgetLimits(steps=9, batch=4), BudgetLimits(epochs=4, batch=4), BudgetLimits(epochs=2, batch=3)]
)
def test_both_lessons_share_one_budget(lively: Checkpoint, grant: BudgetLimits) -> None:
    method, budget = fit(lively, grant, REJECTED, share=0.67)
    first = round(0.67 * budget.planned_steps)
    assert first < budget.steps <= budget.planned_steps
    assert [point.step for point in method.curve_] == sorted(point.step for point in method.curve_)
    assert all(point.train_loss is None for point in method.curve_ if point.step > first)


def test_it_moves_away_from_what_the_task_rejects(lively: Checkpoint) -> None:
    lora, _ = fit(lively, BudgetLimits(steps=10, batch=4), DATA, share=0.99)
    tuned, _ = fit(lively, BudgetLimits(steps=40, batch=4), REJECTED, share=0.25, pace=1.0)
    before, after = (sum(margin(method.lm_, row) for row in REJECTED.train) for method in (lora, tuned))
    assert after > before + len(REJECTED.train)


def test_without_rejected_answers_the_own_wrong_ones_are_taken(lively: Checkpoint) -> None:
    method, _ = fit(lively, BudgetLimits(steps=3, batch=4))
    lm = method.lm_
    choices = method.choices(lm, DATA)
    said = [DATA.trim(answer) for answer in lm.generate([DATA.prompt(row.input) for row in DATA.train])]
    wrong = [(row, answer) for row, answer in zip(DATA.train, said, strict=True) if answer != row.target]
    assert wrong, "the model makes no mistake, so this test could not fail"
    assert [lm.tokenizer.decode(bad) for _, _, bad in choices] == [
        f" {answer}{lm.tokenizer.eos_token}" for _, answer in wrong
    ]


def test_one_adapter_is_kept_and_gives_the_same_answers(lively: Checkpoint, tmp_path: Path) -> None:
    from peft import PeftModel

    method, _ = fit(lively, BudgetLimits(steps=6, batch=4), REJECTED)
    assert list(method.lm_.model.peft_config) == ["default"]
    method.save(tmp_path)
    base: Any = method.load(lively)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate([DATA.prompt(question) for question in QUESTIONS]) == method.predict(QUESTIONS)
