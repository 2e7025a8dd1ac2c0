"""Micro-batches: a step gives the same result in pieces, and finding their size leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask
from support import fit_method

from bench.execution import plan, worker
from bench.measurement import memory_limit
from bench.modeling import scoring
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.training import trainer


def search_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let micro-batches be tried as on a machine where running out of memory is an error, not the end."""
    monkeypatch.setattr(memory_limit, "can_recover_from_oom", lambda device: True)


def limit_loss_rows(monkeypatch: pytest.MonkeyPatch, max_rows: int) -> None:
    """Let the loss of more rows run out of memory; the dry run of a step calls it, the trainer does not."""
    loss = CausalLM.loss

    def loss_or_oom(lm: CausalLM, rows: Any) -> Any:
        if len(rows) > max_rows:
            raise MemoryError("not enough memory")
        return loss(lm, rows)

    monkeypatch.setattr(CausalLM, "loss", loss_or_oom)


@pytest.mark.parametrize("name", ["lora", "full", "prefix"])
def test_step_in_micro_batches_equals_whole_step(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # AdamW divides each gradient by its own size. A gradient that is only rounding error would move its weight by the
    # full learning rate, in a direction that depends on the processor. A large epsilon makes such steps negligible.
    default_arguments = trainer.training_arguments
    monkeypatch.setattr(
        trainer,
        "training_arguments",
        lambda *args, **kwargs: default_arguments(*args, **kwargs) | {"adam_epsilon": 1e-3},
    )
    whole, budget = fit_method(name, lively, steps=3)
    assert budget.micro_batch == 4
    search_micro_batch(monkeypatch)
    limit_loss_rows(monkeypatch, max_rows=2)
    pieces, budget = fit_method(name, lively, steps=3)
    assert budget.micro_batch == 2
    assert (budget.steps, budget.examples) == (3, 12)
    for weight, piece_weight in zip(whole.lm_.model.parameters(), pieces.lm_.model.parameters(), strict=True):
        assert torch.allclose(weight, piece_weight, atol=1e-5)
    losses = [[point.train_loss for point in method.curve_[1:]] for method in (whole, pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_micro_batch_search_leaves_random_state_unchanged(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    without_search, _ = fit_method("lora", lively, steps=3, dropout=0.1)
    search_micro_batch(monkeypatch)
    with_search, _ = fit_method("lora", lively, steps=3, dropout=0.1)
    weights, other_weights = (method.lm_.model.parameters() for method in (without_search, with_search))
    for weight, other_weight in zip(weights, other_weights, strict=True):
        assert torch.equal(weight, other_weight)


def test_micro_batch_single_row_too_large_is_out_of_memory(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    search_micro_batch(monkeypatch)
    limit_loss_rows(monkeypatch, max_rows=0)
    with pytest.raises(MemoryError, match="not enough memory"):
        fit_method("lora", lively, steps=3)


def limit_memory(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    search_micro_batch(monkeypatch)
    monkeypatch.setattr(memory_limit, "free_bytes", lambda device: free_bytes)


@pytest.mark.parametrize(("free_bytes", "tried"), [(2**40, False), (1, True)])
def test_micro_batch_is_searched_unless_estimate_leaves_room(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch, free_bytes: int, tried: bool
) -> None:
    plain, plain_budget = fit_method("lora", lively, steps=3, dropout=0.1)
    limit_memory(monkeypatch, free_bytes)
    method, budget = fit_method("lora", lively, steps=3, dropout=0.1)
    assert (plain_budget.tried_memory, budget.tried_memory) == (None, tried)
    assert (budget.micro_batch, budget.estimated_bytes) == (4, plain_budget.estimated_bytes)
    for weight, other_weight in zip(plain.lm_.model.parameters(), method.lm_.model.parameters(), strict=True):
        assert torch.equal(weight, other_weight)


def test_run_with_wrong_estimate_trains_again_in_smaller_micro_batches(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "feelings")
    budget = "steps=3,batch=4"
    jobs = plan.plan_jobs("lora", str(task), str(lively.folder), seeds=1, budget_text=budget, settings=[])
    job = next(job for job in jobs if job.spec.method.name == "lora")
    limit_memory(monkeypatch, 1)
    limit_summed_loss_rows(monkeypatch, max_rows=2)
    tried = worker.run_job(job, lambda event: None)
    limit_memory(monkeypatch, 2**40)
    assumed = worker.run_job(job, lambda event: None)
    for record in (tried, assumed):
        assert record.status == "ok", record.error
        assert record.cost and record.cost.budget_usage
        assert (record.cost.budget_usage.micro_batch, record.cost.budget_usage.tried_memory) == (2, True)
        assert record.cost.budget_usage.steps == 3
    assert [sample.raw for sample in tried.samples] == [sample.raw for sample in assumed.samples]
    assert [point.train_loss for point in tried.curve] == [point.train_loss for point in assumed.curve]


def limit_summed_loss_rows(monkeypatch: pytest.MonkeyPatch, max_rows: int) -> None:
    """Let the loss of more rows run out of memory, in a dry run and in training."""
    summed_loss = scoring.summed_loss

    def summed_loss_or_oom(lm: CausalLM, input_ids: Any, *args: Any) -> Any:
        if len(input_ids) > max_rows:
            raise MemoryError("not enough memory")
        return summed_loss(lm, input_ids, *args)

    monkeypatch.setattr(scoring, "summed_loss", summed_loss_or_oom)
