"""Mixed precision: float32 weights to train, computation in the precision of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.method import Unsupported
from bench.training import compat


def compute_dtype(model: Any) -> torch.dtype:
    """Return the precision that a model was loaded in, even if weights have been cast since."""
    dtype = getattr(model.config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def check_precision(model: Any) -> None:
    """Check that gradients do not vanish in the precision of a model.

    Raises:
        Unsupported: If the model was loaded in float16.
    """
    if compute_dtype(model) is torch.float16:
        raise Unsupported(
            "gradients in float16 underflow without loss scaling, which is not implemented; "
            "--dtype bfloat16 takes the same memory"
        )


@contextmanager
def autocast(model: Any) -> Iterator[None]:
    """Compute in the precision of the model; nothing changes for float32.

    Frozen weights have that precision already, so only trained ones are cast, once per step. LoRA layers keep their
    inputs as they are: a float32 copy for each of them would be cast back by the product that follows.
    """
    dtype = compute_dtype(model)
    if dtype is torch.float32:
        yield
        return
    with torch.autocast(model.device.type, dtype=dtype), compat.lora_inputs_not_cast(model):
        yield


def cast_trainable_to_float32(model: Any) -> int:
    """Cast the weights to train to float32.

    Small updates would be rounded away in lower precision. TRL casts the adapters of a quantized base to bfloat16; here
    all methods train in the same precision.

    Returns:
        The bytes that the weights have grown by.
    """
    grown_bytes = 0
    for weight in model.parameters():
        if weight.requires_grad and weight.dtype is not torch.float32:
            grown_bytes += weight.numel() * (torch.float32.itemsize - weight.element_size())
            weight.data = weight.data.float()
    return grown_bytes


def cast_trained_to_model_dtype(model: Any) -> None:
    """Cast trained weights of the model itself back to the precision of the model.

    The model is saved and generates in this precision. Adapters stay float32: PEFT casts their inputs and outputs.
    """
    has_adapter, dtype = hasattr(model, "peft_config"), compute_dtype(model)
    for name, weight in model.named_parameters():
        # Copies of modules and LayerNorm tuning are weights of the model, although PEFT manages them.
        is_model_weight = not has_adapter or "modules_to_save" in name or "ln_tuning" in name
        if weight.requires_grad and is_model_weight and weight.dtype is torch.float32:
            weight.data = weight.data.to(dtype)
