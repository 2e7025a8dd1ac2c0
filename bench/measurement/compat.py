"""Uses of PyTorch and transformers beyond their documented interfaces, in one file.

Check each of them when one of them is upgraded; `tests/measurement/test_compat_torch.py` has a test for every one.

- PyTorch (>=2.13): `torch.nn.functional.scaled_dot_product_attention` is replaced for the time of one forward pass on
  the meta device. There it falls back to a plain implementation that saves the attention weights for the backward
  pass, while the fused kernels of CPU and CUDA save none. An estimate made on the meta device would be far too large.
- transformers (>=5.23): a mask without padding is left out, which it finds out by the values of the mask. On the meta
  device there are none, so its private `is_tracing` is replaced: while a graph is traced, a mask is always made.
- PyTorch (>=2.13): `UntypedStorage._cdata` is private, but tensors on the meta device have no data pointer, and nothing
  public tells if two of them share their storage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional


@contextmanager
def fused_attention_on_meta(device: torch.device) -> Iterator[None]:
    """Make attention on the meta device save what a fused kernel saves.

    On other devices nothing is changed. The replacement holds for the whole process while the context is open.
    """
    original = functional.scaled_dot_product_attention
    if device.type == "meta":
        functional.scaled_dot_product_attention = _attend_without_weights
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


@contextmanager
def unread_masks_on_meta(device: torch.device) -> Iterator[None]:
    """Let transformers make masks of padding on the meta device, where they have no values.

    On other devices nothing is changed. The replacement holds for the whole process while the context is open.
    """
    if device.type != "meta":
        yield
        return
    from transformers import masking_utils, modeling_attn_mask_utils

    modules: tuple[Any, ...] = masking_utils, modeling_attn_mask_utils
    originals = [module.is_tracing for module in modules]
    for module in modules:
        module.is_tracing = lambda tensor=None: True
    try:
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.is_tracing = original


def storage_id(tensor: torch.Tensor) -> int:
    """Return a number that two tensors have in common if they share memory."""
    return id(tensor) if tensor.is_sparse else int(tensor.untyped_storage()._cdata)


def _attend_without_weights(query: Any, key: Any, value: Any, attn_mask: Any = None, *_: Any, **__: Any) -> Any:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = attn_mask.to(query.dtype)  # each call makes numbers to add from truth values
    return _FusedAttentionShapes.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call]


class _FusedAttentionShapes(torch.autograd.Function):
    """Shapes of a fused attention kernel: its output and what it saves for backward."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        """Return an output without values; save it, all inputs and the log-sum-exp of each query."""
        rows, heads, length, _ = query.shape
        # The kernels lay the output out as (rows, length, heads, width).
        output = query.new_empty((rows, length, heads, value.shape[-1])).transpose(1, 2)
        log_sum_exp = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, log_sum_exp)
        return output
