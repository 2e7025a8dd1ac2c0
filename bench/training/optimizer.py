"""AdamW with moments of 32 or 8 bits on each kind of device, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bench.method import Unsupported

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]
"""AdamW with float32 moments; with moments in 8 bits by blocks (https://arxiv.org/abs/2110.02861); and with these in
pages that move to the memory of the machine while the GPU needs its own (https://arxiv.org/abs/2305.14314)."""

FLOAT32_BYTES = 4
MOMENTS = 2
"""Numbers of every trained weight that AdamW keeps between steps."""
MIN_8BIT_SIZE = 4096
"""Numbers in the smallest weight whose moments bitsandbytes keeps in 8 bits."""
BLOCK_SIZE = 256
"""Numbers that share one float32 scale in 8-bit moments."""
LOOP_TEMPORARIES = 2
"""Float32 copies of one weight at a time that AdamW makes in a step that is not fused: the denominator and its root."""


def check_optimizer(name: OptimizerName, device: str) -> None:
    """Check that an optimizer can be used on a device.

    Args:
        name: The optimizer.
        device: Torch device name.

    Raises:
        Unsupported: bitsandbytes is missing, or has no such optimizer for the device.
    """
    if name == "adamw":
        return
    device_type = device.partition(":")[0]
    if device_type not in ("cuda", "cpu"):
        raise Unsupported(f"bitsandbytes has no 8-bit optimizer for {device_type}; use optimizer=adamw")
    if name == "paged_adamw_8bit" and device_type != "cuda":
        raise Unsupported(
            "a paged optimizer moves pages between the memory of a GPU and that of the machine, and there is no GPU; "
            "optimizer=adamw_8bit takes as little memory"
        )
    try:
        import bitsandbytes  # type: ignore[import-untyped,unused-ignore] # noqa: F401 (importing it is the check)
    except ImportError as error:
        raise Unsupported(f"optimizer={name} needs bitsandbytes, which cannot be imported: {error}") from error


def trainer_option(device_type: str, name: OptimizerName = "adamw") -> str:
    """Return the value of `optim` of a transformers trainer.

    On CUDA, AdamW is fused into one kernel. torch's default there updates all weights at once, with copies of all of
    them, which one step would hold beside the moments.

    Args:
        device_type: Torch device type.
        name: The optimizer.
    """
    if name != "adamw":
        return {"adamw_8bit": "adamw_bnb_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}[name]
    return "adamw_torch_fused" if device_type == "cuda" else "adamw_torch"


def state_bytes(model: Any, name: OptimizerName = "adamw") -> int:
    """Return the bytes that an optimizer keeps between steps for a model."""
    return sum(state_bytes_by_weight(model, name))


def state_bytes_by_weight(model: Any, name: OptimizerName = "adamw") -> list[int]:
    """Return the bytes that an optimizer keeps between steps, by trained weight.

    Embeddings keep float32 moments, as bitsandbytes recommends and the trainer of transformers sets.
    """
    from torch.nn import Embedding

    embeddings = {id(layer.weight) for layer in model.modules() if isinstance(layer, Embedding)}
    sizes = []
    for weight in model.parameters():
        if not weight.requires_grad:
            continue
        size = int(weight.numel())
        is_8bit = name != "adamw" and id(weight) not in embeddings and size >= MIN_8BIT_SIZE
        sizes.append(MOMENTS * (size + FLOAT32_BYTES * -(-size // BLOCK_SIZE) if is_8bit else FLOAT32_BYTES * size))
    return sizes


def temporary_bytes(weights: Sequence[Any], device_type: str) -> int:
    """Return the bytes that a step of AdamW holds beside weights, gradients and moments.

    Args:
        weights: Trained weights.
        device_type: Torch device type.
    """
    if device_type == "cuda":
        return 0
    return LOOP_TEMPORARIES * FLOAT32_BYTES * max((weight.numel() for weight in weights), default=0)
