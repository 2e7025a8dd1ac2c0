"""AdamW as each kind of device computes it, and the memory that one of its steps takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FLOAT32_BYTES = 4
MOMENT_COPIES = 2
"""Float32 copies of every trained weight that AdamW keeps between steps."""
LOOP_TEMPORARIES = 2
"""Float32 copies of one weight at a time that AdamW makes in a step that is not fused: the denominator and its root."""


def trainer_option(device_type: str) -> str:
    """Return the value of `optim` of a transformers trainer.

    On CUDA, AdamW is fused into one kernel. torch's default there updates all weights at once, with copies of all of
    them, which one step would hold beside the moments.

    Args:
        device_type: Torch device type.
    """
    return "adamw_torch_fused" if device_type == "cuda" else "adamw_torch"


def temporary_bytes(weights: Sequence[Any], device_type: str) -> int:
    """Return the bytes that a step of AdamW holds beside weights, gradients and moments.

    Args:
        weights: Trained weights.
        device_type: Torch device type.
    """
    if device_type == "cuda":
        return 0
    return LOOP_TEMPORARIES * FLOAT32_BYTES * max((weight.numel() for weight in weights), default=0)
