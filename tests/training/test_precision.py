"""Mixed precision: bfloat16 inputs of LoRA are not copied, and the gradients stay those with the copies."""

from __future__ import annotations

import dataclasses

import torch
from support import fit_method

from bench.measurement import memory_estimate
from bench.modeling.checkpoint import Checkpoint
from bench.training import compat, precision


def test_autocast_of_lora_saves_memory_and_keeps_gradients(lively: Checkpoint) -> None:
    base = dataclasses.replace(lively, dtype="bfloat16")
    method, _ = fit_method("lora", base, steps=1)
    lm = method.lm_
    rows = [([1, 2, 3, 4, 5, 6], [7, 8])] * 2

    def gradients() -> list[torch.Tensor]:
        lm.model.zero_grad()
        lm.loss(rows).backward()
        return [weight.grad.clone() for weight in lm.model.parameters() if weight.requires_grad]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, copied_bytes = gradients(), memory_estimate.training_bytes(lm.model, 1000, logit_tokens=0)
    with precision.autocast(lm.model):
        actual, bytes_now = gradients(), memory_estimate.training_bytes(lm.model, 1000, logit_tokens=0)
    assert all(map(torch.equal, actual, expected))
    assert bytes_now < 0.9 * copied_bytes
    assert all(layer.cast_input_dtype_enabled for layer in lm.model.modules() if hasattr(layer, "lora_variant"))


def test_lora_inputs_of_variants_are_cast(lively: Checkpoint) -> None:
    model = fit_method("dora", dataclasses.replace(lively, dtype="bfloat16"), steps=1)[0].lm_.model
    with compat.lora_inputs_not_cast(model):
        assert all(layer.cast_input_dtype_enabled for layer in model.modules() if hasattr(layer, "lora_variant"))
