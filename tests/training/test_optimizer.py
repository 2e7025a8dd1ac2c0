"""AdamW with moments of 8 bits: where it can be used, what it trains, and the memory that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import fit_method

from bench.method import Unsupported
from bench.modeling.checkpoint import Checkpoint
from bench.training.optimizer import check_optimizer, state_bytes


@pytest.mark.parametrize(
    ("name", "device", "reason"),
    [("paged_adamw_8bit", "cpu", "there is no GPU; optimizer=adamw_8bit"), ("adamw_8bit", "mps", "for mps")],
)
def test_check_optimizer_without_support_is_unsupported(name: Any, device: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        check_optimizer(name, device)
    check_optimizer("adamw", device)
    check_optimizer(name, "cuda:1")


def test_full_with_unsupported_optimizer_loads_no_model(lively: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    for name in ("full", "base-ft", "random-weights"):
        with pytest.raises(Unsupported, match="no GPU"):
            fit_method(name, lively, steps=1, optimizer="paged_adamw_8bit")


def test_full_with_8_bit_moments_trains_as_adamw_does(lively: Checkpoint) -> None:
    exact, _ = fit_method("full", lively, steps=4)
    rounded, _ = fit_method("full", lively, steps=4, optimizer="adamw_8bit")
    losses = [[point.validation_loss for point in method.curve_] for method in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    model = rounded.lm_.model
    small = state_bytes(model, "adamw_8bit")
    embedding = model.get_input_embeddings().weight.numel()
    assert state_bytes(model) == 8 * sum(weight.numel() for weight in model.parameters())
    assert 8 * embedding < small < 0.6 * state_bytes(model)


def test_state_bytes_is_what_the_optimizer_keeps() -> None:
    import bitsandbytes

    # Otherwise it takes these weights for those of another test with the same id.
    bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()
    layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64, bias=False))
    layers.requires_grad_(True)
    optimizer = bitsandbytes.optim.AdamW8bit(layers.parameters())
    for weight in layers.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    kept = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for name, value in state.items()
        if torch.is_tensor(value) and not name.startswith("qmap")
    )
    assert state_bytes(layers, "adamw_8bit") == kept
