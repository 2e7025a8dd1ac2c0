"""Memory of training: what the optimizer takes, and what is held once training has ended."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import fit_method
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.execution import phases
from bench.execution.budget import BudgetTracker
from bench.measurement import memory_limit
from bench.measurement.meter import Meter
from bench.method import Diverged
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits
from bench.testing import tiny_training_data
from bench.training import trainer
from bench.training.optimizer import temporary_bytes

DATA = tiny_training_data()


def added_mib(meter: Meter, name: str) -> float:
    phase = meter.phases[name]
    assert phase.peak_mib is not None
    assert phase.start_mib is not None
    return phase.peak_mib - phase.start_mib


class OptimizerLog:
    """Optimizers that stepped, and the tensors of their states, without keeping either alive."""

    def __init__(self) -> None:
        self.optimizers: list[weakref.ref[Any]] = []
        self.states: list[weakref.ref[Any]] = []

    def note_step(self, optimizer: Any, *_: Any) -> None:
        self.optimizers.append(weakref.ref(optimizer))
        for state in optimizer.state.values():
            self.states += [weakref.ref(tensor) for tensor in state.values() if torch.is_tensor(tensor)]


@contextmanager
def logged_optimizers() -> Iterator[OptimizerLog]:
    log = OptimizerLog()
    hook = register_optimizer_step_post_hook(log.note_step)
    was_enabled = gc.isenabled()
    gc.disable()  # or a collection that happens to run would free what the code does not
    try:
        yield log
    finally:
        hook.remove()
        if was_enabled:
            gc.enable()


def alive(references: list[weakref.ref[Any]]) -> int:
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("name", ["full", "lora", "dpo"])
def test_fit_frees_optimizer_state_without_garbage_collection(lively: Checkpoint, name: str) -> None:
    with logged_optimizers() as log:
        method, _ = fit_method(name, lively, steps=3)
        assert log.states
        assert alive(log.states) == 0
    assert all(weight.grad is None for weight in method.lm_.model.parameters())


def test_fit_that_diverges_frees_optimizer_state(lively: Checkpoint) -> None:
    with logged_optimizers() as log:
        with pytest.raises(Diverged):
            fit_method("full", lively, steps=3, lr=1e30)
        assert log.states
        assert alive(log.states) == 0


@pytest.mark.parametrize("name", ["full", "head"])
def test_fit_phase_frees_optimizers_and_gradients(lively: Checkpoint, name: str) -> None:
    from bench import registry

    method: Any = registry.find_method(name)()
    lm: Any = method.load(lively)
    state: Any = phases.RunState(SimpleNamespace(spec=SimpleNamespace(seed=0)), lambda event: None)  # type: ignore[arg-type]
    task: Any = None
    with logged_optimizers() as log:
        phases.fit(state, phases.LoadedRun(method, lm, task, DATA, lively), BudgetLimits(steps=3, batch=4))
        assert log.optimizers
        assert alive(log.optimizers) == 0
    assert all(weight.grad is None for weight in lm.model.parameters())


@pytest.mark.parametrize(("device", "option"), [("cuda", "adamw_torch_fused"), ("cpu", "adamw_torch")])
def test_training_arguments_optimizer_is_fused_on_cuda_only(device: str, option: str) -> None:
    budget = BudgetTracker(BudgetLimits(steps=1, batch=4), 8)
    arguments = trainer.training_arguments(budget, 0, "unused", device, steps=1, lr=1e-3, warmup=0.0, weight_decay=0.0)
    assert arguments["optim"] == option


def test_temporary_bytes_is_two_copies_of_largest_weight_unless_fused() -> None:
    weights = [torch.empty(10, 20, device="meta"), torch.empty(30, device="meta")]
    assert temporary_bytes(weights, "cpu") == 2 * 4 * 200
    assert temporary_bytes(weights, "cuda") == 0
    assert temporary_bytes([], "cpu") == 0


def test_temporary_bytes_on_cpu_is_what_a_step_allocates() -> None:
    weight = torch.nn.Parameter(torch.zeros(5000, 2000))
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight])
    optimizer.step()
    meter = Meter()
    with meter.phase("step"):
        optimizer.step()
    assert added_mib(meter, "step") == pytest.approx(temporary_bytes([weight], "cpu") / 2**20, abs=8)


def test_rehearsal_of_training_is_left_out_of_fit_peak(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed_mib, loss = 300, CausalLM.loss

    def loss_with_more_memory(lm: CausalLM, rows: Any) -> Any:
        torch.ones(rehearsed_mib, 2**20, dtype=torch.uint8)
        return loss(lm, rows)  # only the rehearsal of a step calls it

    monkeypatch.setattr(memory_limit, "can_recover_from_oom", lambda device: True)
    monkeypatch.setattr(CausalLM, "loss", loss_with_more_memory)
    meter = Meter()
    with meter.phase("fit"):
        fit_method("lora", lively, steps=3)
    assert added_mib(meter, "fit") < rehearsed_mib / 2
