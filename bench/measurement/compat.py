"""Uses of PyTorch that go beyond its documented interface, gathered in one file.

Check each of them when PyTorch is upgraded; `tests/measurement/test_compat_torch.py` has a test for every one.

- PyTorch (>=2.13): `torch.nn.functional.scaled_dot_product_attention` is replaced for the time of one forward pass on
  the meta device. There it falls back to a plain implementation that saves the attention weights for the backward
  pass, while the fused kernels of CPU and CUDA save none. An estimate made on the meta device would be far too large.
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


def storage_id(tensor: torch.Tensor) -> int:
    """Return a number that two tensors have in common if they share memory."""
    return id(tensor) if tensor.is_sparse else int(tensor.untyped_storage()._cdata)


def _attend_without_weights(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return _FusedAttentionShapes.apply(query, key, value)  # type: ignore[no-untyped-call]


class _FusedAttentionShapes(torch.autograd.Function):
    """Shapes of a fused attention kernel: its output and what it saves for backward."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        """Return an output without values; save it, the inputs and the log-sum-exp of each query."""
        rows, heads, length, _ = query.shape
        # The kernels lay the output out as (rows, length, heads, width).
        output = query.new_empty((rows, length, heads, value.shape[-1])).transpose(1, 2)
        log_sum_exp = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, log_sum_exp)
        return output
