"""Activation checkpointing: layers keep only their inputs and are computed again.

They are computed again in the backward pass. That takes less memory and about a third more computation; losses and
gradients stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.measurement import determinism, memory_limit
from bench.method import LM

PROBE_TOKENS = 8
"""Tokens of prompt and of completion that the comparison with plain training reads."""
RELATIVE_TOLERANCE = 1e-2
"""Of losses and gradients; bfloat16 keeps three digits. A layer that loses its cache differs by far more."""
ABSOLUTE_TOLERANCE = 1e-4
"""Of gradients, in multiples of the largest; smaller ones may be rounding errors alone."""
CHECKPOINT_ARGUMENTS = {"use_reentrant": False}
"""Arguments of `torch.utils.checkpoint.checkpoint`: its older form would need gradients of the inputs."""


def enable_checkpointing(lm: LM, row: tuple[list[int], list[int]]) -> bool:
    """Turn on activation checkpointing, if training with it computes the same.

    Adapters that put a cache before the layers, such as prefix tuning, lose it under activation checkpointing without
    an error. So loss and gradient of one short row are compared with those of plain training.

    Args:
        lm: Model to train.
        row: Token ids (prompt, completion) of a training row.

    Returns:
        False if the architecture cannot do it, or would be trained in another way; nothing is turned on then.
    """
    if not getattr(lm.model, "supports_gradient_checkpointing", False):
        return False
    prompt, completion = row
    rows = [(prompt[-PROBE_TOKENS:], completion[:PROBE_TOKENS])]
    try:
        expected = _loss_and_gradient(lm, rows)
        enable_unchecked(lm.model)
        actual = _loss_and_gradient(lm, rows)
    except (ValueError, RuntimeError, MemoryError) as error:
        if not isinstance(error, ValueError) and memory_limit.is_out_of_memory(error):
            raise
        actual = expected = torch.empty(0)
    is_same = len(actual) == len(expected) > 0 and torch.allclose(
        actual, expected, rtol=RELATIVE_TOLERANCE, atol=float(expected.max()) * ABSOLUTE_TOLERANCE
    )
    if not is_same:
        disable_checkpointing(lm.model)
    return is_same


def enable_unchecked(model: Any) -> None:
    """Turn on activation checkpointing of every layer."""
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=CHECKPOINT_ARGUMENTS)


def is_enabled(model: Any) -> bool:
    """Tell if activation checkpointing is on."""
    return bool(getattr(model, "is_activation_checkpointing", False))


def disable_checkpointing(model: Any) -> None:
    """Turn off activation checkpointing, if it is on."""
    if is_enabled(model):
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()  # which is left on for adapters


def _loss_and_gradient(lm: LM, rows: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Return the loss of rows and the norms of its gradients, with the same dropout each time."""
    device = lm.model.device
    lm.model.train()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):

            def backward() -> float:
                torch.manual_seed(0)
                loss = lm.loss(rows)
                loss.backward()
                return float(loss)

            loss = determinism.run_strictly(backward, lambda: lm.model.zero_grad(set_to_none=True))
        gradients = [weight.grad for weight in lm.model.parameters() if weight.requires_grad]
        return torch.tensor([loss, *(0.0 if gradient is None else float(gradient.norm()) for gradient in gradients)])
    finally:
        lm.model.zero_grad(set_to_none=True)
        lm.model.eval()
