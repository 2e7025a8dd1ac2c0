"""Activation checkpointing: the rung of the memory ladder after micro-batches of one row; answers stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import fit_method, tiny_encoder

from bench.measurement import memory_estimate, memory_limit
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.encoder import Encoder
from bench.training.checkpointing import PROBE_TOKENS, disable_checkpointing, enable_unchecked


def limit_memory(monkeypatch: pytest.MonkeyPatch, checkpointed_rows: int) -> None:
    """Let steps of whole rows run out of memory, except that many with activation checkpointing."""
    monkeypatch.setattr(memory_limit, "can_recover_from_oom", lambda device: True)
    for lm_class in (CausalLM, Encoder):

        def loss_or_oom(lm: Any, rows: Any, loss: Any = lm_class.loss) -> Any:
            longest = max(len(prompt) + len(completion) for prompt, completion in rows)
            max_rows = checkpointed_rows if lm.model.is_activation_checkpointing else 0
            if longest > 2 * PROBE_TOKENS and len(rows) > max_rows:
                raise MemoryError("not enough memory")
            return loss(lm, rows)

        monkeypatch.setattr(lm_class, "loss", loss_or_oom)


@pytest.mark.parametrize("name", ["lora", "qlora", "full", "bitfit", "dpo", "prompt-tuning"])
def test_step_with_checkpointing_equals_plain_step(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    params = {"share": 0.5} if name == "dpo" else {}
    plain, budget = fit_method(name, lively, steps=4, **params)
    assert (budget.micro_batch, budget.activation_checkpointing) == (4, False)
    assert budget.estimated_bytes
    limit_memory(monkeypatch, checkpointed_rows=8)  # a pair of DPO has two rows
    checkpointed, budget = fit_method(name, lively, steps=4, **params)
    assert (budget.micro_batch, budget.activation_checkpointing) == (4, True)
    assert budget.usage().activation_checkpointing is True
    assert not checkpointed.lm_.model.is_activation_checkpointing
    losses = [[point.validation_loss for point in method.curve_] for method in (plain, checkpointed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_step_with_checkpointing_of_an_encoder_equals_plain_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder(tmp_path / "bert")
    plain, _ = fit_method("full", encoder, steps=3)
    limit_memory(monkeypatch, checkpointed_rows=4)
    checkpointed, budget = fit_method("full", encoder, steps=3)
    assert (budget.micro_batch, budget.activation_checkpointing) == (4, True)
    losses = [[point.validation_loss for point in method.curve_] for method in (plain, checkpointed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_checkpointing_is_not_used_where_it_would_drop_a_prefix(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, checkpointed_rows=4)
    with pytest.raises(MemoryError, match="not enough memory"):
        fit_method("prefix", lively, steps=3)


@pytest.mark.parametrize("name", ["lora", "full"])
def test_training_bytes_with_checkpointing_grows_less_with_tokens(lively: Checkpoint, name: str) -> None:
    model = fit_method(name, lively, steps=1)[0].lm_.model

    def bytes_per_token() -> float:
        few, many = (memory_estimate.training_bytes(model, tokens, logit_tokens=0) for tokens in (100, 300))
        return (many - few) / 200

    plain = bytes_per_token()
    enable_unchecked(model)
    checkpointed = bytes_per_token()
    disable_checkpointing(model)
    assert checkpointed < 0.75 * plain  # of two layers, one is kept
    assert bytes_per_token() == plain
