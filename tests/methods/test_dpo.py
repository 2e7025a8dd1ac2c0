"""DPO: it continues LoRA within one budget and makes wrong answers less likely."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.task import TaskTrainingData
from bench.testing import QUESTIONS, tiny_training_data

DATA = tiny_training_data()
REJECTED = replace(DATA, train=tuple(replace(row, rejected="never") for row in DATA.train))


def fit(
    base: Checkpoint, limits: BudgetLimits, data: TaskTrainingData = DATA, **params: Any
) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method("dpo")(**params)
    seed_all(0)
    budget = BudgetTracker(limits, len(data.train))
    method.fit(method.load(base), data, budget)
    return method, budget


def margin(lm: CausalLM, row: Any) -> float:
    """Log-likelihood of the correct answer minus that of the rejected one, in nats per token."""
    chosen, rejected = lm.loglikelihood(DATA.prompt(row.input), [DATA.completion(row), " " + row.rejected])
    return chosen - rejected


@pytest.mark.parametrize(
    "limits", [BudgetLimits(steps=9, batch=4), BudgetLimits(epochs=4, batch=4), BudgetLimits(epochs=2, batch=3)]
)
def test_fit_lora_and_dpo_steps_share_one_budget(lively: Checkpoint, limits: BudgetLimits) -> None:
    method, budget = fit(lively, limits, REJECTED, share=0.67)
    lora_steps = round(0.67 * budget.planned_steps)
    assert lora_steps < budget.steps <= budget.planned_steps
    assert [point.step for point in method.curve_] == sorted(point.step for point in method.curve_)
    assert all(point.train_loss is None for point in method.curve_ if point.step > lora_steps)


def test_fit_makes_rejected_answers_less_likely(lively: Checkpoint) -> None:
    lora, _ = fit(lively, BudgetLimits(steps=10, batch=4), DATA, share=0.99)
    tuned, _ = fit(lively, BudgetLimits(steps=40, batch=4), REJECTED, share=0.25, pace=1.0)
    before, after = (sum(margin(method.lm_, row) for row in REJECTED.train) for method in (lora, tuned))
    assert after > before + len(REJECTED.train)


def test_preference_pairs_without_rejected_use_the_models_errors(lively: Checkpoint) -> None:
    method, _ = fit(lively, BudgetLimits(steps=3, batch=4))
    lm = method.lm_
    pairs = method.preference_pairs(lm, DATA)
    answers = [DATA.trim(answer) for answer in lm.generate([DATA.prompt(row.input) for row in DATA.train])]
    wrong = [(row, answer) for row, answer in zip(DATA.train, answers, strict=True) if answer != row.target]
    assert wrong, "the model must make an error, or this test cannot fail"
    assert [lm.tokenizer.decode(rejected) for _, _, rejected in pairs] == [
        f" {answer}{lm.tokenizer.eos_token}" for _, answer in wrong
    ]


def test_save_one_adapter_gives_the_same_answers_with_peft(lively: Checkpoint, tmp_path: Path) -> None:
    from peft import PeftModel

    method, _ = fit(lively, BudgetLimits(steps=6, batch=4), REJECTED)
    assert list(method.lm_.model.peft_config) == ["default"]
    method.save(tmp_path)
    base: Any = method.load(lively)
    saved = CausalLM(PeftModel.from_pretrained(base.model, tmp_path), base.tokenizer, lively.decoding)
    assert saved.generate([DATA.prompt(question) for question in QUESTIONS]) == method.predict(QUESTIONS)
