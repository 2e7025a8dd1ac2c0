"""Training whose loss is not finite ends as `diverged`, and answers without an end are counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask

from bench import registry
from bench.execution import phases, plan, worker
from bench.execution.budget import BudgetTracker
from bench.method import Diverged
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, CurvePoint
from bench.testing import tiny_training_data

DATA = tiny_training_data()
HUGE_LR = 1e30


def fit(name: str, base: Checkpoint, steps: int = 3, **params: Any) -> Any:
    method: Any = registry.find_method(name)(**params)
    lm: Any = method.load(base)
    return method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(DATA.train)))


@pytest.mark.parametrize("name", ["full", "lora"])
def test_fit_infinite_loss_raises_diverged_with_step(lively: Checkpoint, name: str) -> None:
    with pytest.raises(Diverged, match=r"is not finite at step [1-3]; a smaller learning rate"):
        fit(name, lively, lr=HUGE_LR)


def test_fit_head_on_labels_infinite_loss_raises_diverged(lively: Checkpoint) -> None:
    with pytest.raises(Diverged, match=r"training loss is not finite at step [2-4]"):
        fit("head", lively, steps=4, lr=1e36)


def test_fit_weights_lost_in_last_step_raises_diverged(lively: Checkpoint) -> None:
    """The loss of the only step is finite; the weights after it are not."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def lose_weights(optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["params"][0].data.fill_(torch.nan)

    hook = register_optimizer_step_post_hook(lose_weights)
    try:
        with pytest.raises(Diverged, match="validation loss is not finite at step 1"):
            fit("full", lively, steps=1)
    finally:
        hook.remove()


def test_fit_model_without_finite_loss_raises_diverged(lively: Checkpoint) -> None:
    method: Any = registry.find_method("lora")()
    lm: Any = method.load(lively)
    lm.model.get_input_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(Diverged, match="validation loss is not finite at step 0"):
        method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=1, batch=4), len(DATA.train)))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_check_training_curve_of_any_loop_raises_diverged(loss: float) -> None:
    point = CurvePoint(step=7, tokens=1, seconds=1.0, train_loss=loss, validation_loss=loss, next_token_accuracy=None)
    method: Any = registry.find_method("majority")()
    method.curve_ = [point]
    with pytest.raises(Diverged, match="step 7"):
        phases.check_training(method, None, 9)


def test_check_training_weight_of_any_loop_raises_diverged(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    weight = lm.model.get_input_embeddings().weight.requires_grad_(True)
    phases.check_training(registry.find_method("full")(), lm, 9)
    weight.data[0, 0] = torch.inf
    with pytest.raises(Diverged, match="a trained weight is not finite at step 9"):
        phases.check_training(registry.find_method("full")(), lm, 9)


def test_run_job_diverged_training_has_status_and_no_scores(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "feelings")
    settings = [f"full.lr={HUGE_LR}"]
    jobs = plan.plan_jobs(
        "full", str(task), str(lively.folder), seeds=1, budget_text="steps=3,batch=4", settings=settings
    )
    record = worker.run_job(jobs[0], lambda state: None)
    assert record.status == "diverged"
    assert record.error is not None and "step" in record.error.message
    assert not record.scores and not record.samples
