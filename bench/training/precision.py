"""Training below float32: what is trained is kept in float32; what is computed is computed in the run's precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from bench.method import Unsupported

FULL = torch.float32


def training_dtype(model: Any) -> torch.dtype:
    """The precision that a model was loaded in, whatever has become of its weights."""
    loaded = getattr(model.config, "dtype", None)
    return loaded if isinstance(loaded, torch.dtype) else FULL


def check_precision(model: Any) -> None:
    """Raise `Unsupported` for a precision in which gradients vanish."""
    if training_dtype(model) is torch.float16:
        raise Unsupported(
            "gradients of float16 are rounded to nothing without a scaling of the loss, which is not done here; "
            "--dtype bfloat16 takes the same memory"
        )


def autocast(model: Any) -> AbstractContextManager[Any]:
    """A context in which weights of float32 are used in the precision of the run (automatic mixed precision)."""
    dtype = training_dtype(model)
    return nullcontext() if dtype is FULL else torch.autocast(model.device.type, dtype=dtype)


def cast_trainable_to_float32(model: Any) -> int:
    """Turn what is trained into float32, so that small steps are not rounded away; returns the bytes that takes.

    TRL turns the adapters of a quantized base into bfloat16: here all methods train in equal precision.
    """
    grown = 0
    for weight in model.parameters():
        if weight.requires_grad and weight.dtype is not FULL:
            grown += weight.numel() * (FULL.itemsize - weight.element_size())
            weight.data = weight.data.float()
    return grown


def cast_trained_to_model_dtype(model: Any) -> None:
    """Turn the trained weights of the model itself back into the run's precision: in that it is kept and answers.

    Adapters stay float32: PEFT's layers bring what they read and write into their precision and back.
    """
    adapter, dtype = hasattr(model, "peft_config"), training_dtype(model)
    for name, weight in model.named_parameters():
        own = not adapter or "modules_to_save" in name or "ln_tuning" in name
        if weight.requires_grad and own and weight.dtype is FULL:
            weight.data = weight.data.to(dtype)
