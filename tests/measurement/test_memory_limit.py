"""The memory cap: it holds, training goes on in pieces of the same step, and what cannot fit says what it wanted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from bench import registry
from bench.errors import UserError
from bench.execution import budget
from bench.execution.budget import BudgetTracker
from bench.measurement import memory_limit
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits
from bench.testing import QUESTIONS, tiny_training_data
from bench.training import micro_batch

LESSON = tiny_training_data()
PROMPTS = [LESSON.prompt(question) for question in QUESTIONS]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the cap is the kernel's")


def fit(base: Checkpoint, name: str = "lora", **params: Any) -> tuple[Any, BudgetTracker]:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    purse = BudgetTracker(BudgetLimits(steps=3, batch=4), len(LESSON.train))
    return method.fit(method.load(base), LESSON, purse), purse


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2**31), ("1.5 gib", 3 * 2**29), ("500MB", 500_000_000), ("4096", 4096)]
)
def test_a_budget_of_memory_is_told_in_the_usual_units(text: str, size: int) -> None:
    assert budget.parse_budget(f"standard,memory={text}").memory == size


@pytest.mark.parametrize("text", ["lots", "2 apples", "-1GiB", "0"])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="memory"):
        budget.parse_budget(f"standard,memory={text}")


@linux
@pytest.mark.parametrize(("room", "fits"), [(300, True), (60, False)])
def test_the_cap_lets_in_what_fits_and_no_more(room: int, fits: bool) -> None:
    script = f"""
import torch
from bench.measurement import memory_limit
from bench.measurement.environment import own_memory
torch.ones(10)
memory_limit.limit(own_memory("VmRSS") + {room} * 2**20, "cpu")
try:
    torch.ones(100 * 2**18)
    print("fits")
except RuntimeError as error:
    print(memory_limit.out_of_memory(error), memory_limit.wanted(error))
memory_limit.lift()
torch.ones(100 * 2**18)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.startswith("fits" if fits else "True")
    assert fits or told.rstrip().endswith("and 100 MiB more wanted")


@linux
def test_a_cap_below_what_is_held_is_out_of_memory_at_once() -> None:
    with pytest.raises(MemoryError, match="before a model is loaded"):
        memory_limit.set_memory_limit(2**20, "cpu")


@pytest.mark.parametrize("name", ["lora", "full", "prefix"])
def test_a_step_in_pieces_is_the_same_step(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole, purse = fit(lively, name)
    assert purse.micro_batch == 4
    monkeypatch.setattr(memory_limit, "limited", lambda device: True)
    rehearse = micro_batch._rehearse

    def scant(lm: Any, rows: Any) -> None:
        if len(rows) > 2:
            raise MemoryError
        rehearse(lm, rows)

    monkeypatch.setattr(micro_batch, "_rehearse", scant)
    pieces, purse = fit(lively, name)
    assert purse.micro_batch == 2
    assert (purse.steps, purse.examples) == (3, 12)
    for one, other in zip(whole.lm_.model.parameters(), pieces.lm_.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)
    losses = [[point.train_loss for point in method.curve_[1:]] for method in (whole, pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_trying_what_fits_leaves_no_trace(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = fit(lively, dropout=0.1)
    monkeypatch.setattr(memory_limit, "limited", lambda device: True)
    tried, _ = fit(lively, dropout=0.1)
    for one, other in zip(plain.lm_.model.parameters(), tried.lm_.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_does_not_fit_row_by_row_is_out_of_memory(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(lm: Any, rows: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(memory_limit, "limited", lambda device: True)
    monkeypatch.setattr(micro_batch, "_rehearse", never)
    with pytest.raises(MemoryError, match="no room"):
        fit(lively)


def test_answers_and_losses_are_the_same_in_parts(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    lm: Any = lively.load()
    pairs = [lm.encode(prompt, " warm") for prompt in PROMPTS]
    answers, losses = lm.answer(PROMPTS), lm.measure(pairs)
    go_on, tell = CausalLM._continue, CausalLM._losses
    sizes = []

    def scant(self: Any, rows: Any, *rest: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return go_on(self, rows, *rest) if rest else tell(self, rows)

    monkeypatch.setattr(CausalLM, "_continue", scant)
    monkeypatch.setattr(CausalLM, "_losses", scant)
    assert lm.answer(PROMPTS) == answers
    assert lm.measure(pairs) == pytest.approx(losses, rel=1e-4)
    assert max(sizes) > 2 and min(sizes) <= 2


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def broken(rows: Any) -> Any:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        memory_limit.run_halving_on_oom(broken, [1, 2])
