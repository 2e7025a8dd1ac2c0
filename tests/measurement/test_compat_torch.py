"""Uses of PyTorch beyond its documented interface."""

from __future__ import annotations

import torch
from torch.nn import functional

from bench.measurement import compat


def saved_bytes(device: str, length: int, *, masked: bool = False) -> int:
    """Bytes that one attention call saves for the backward pass, its inputs included."""
    rows = torch.ones((1, 2, length, 8), device=device, requires_grad=True)
    query, key, value = rows * 1, rows * 2, rows * 3
    saved: dict[int, torch.Tensor] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[compat.storage_id(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        mask = torch.ones((1, 1, length, length), dtype=torch.bool, device=device).tril() if masked else None
        functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=not masked)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def test_fused_attention_on_meta_saves_what_the_cpu_kernel_saves() -> None:
    with compat.fused_attention_on_meta(torch.device("meta")):
        sizes = [saved_bytes("meta", length) for length in (64, 128)]
        masked_sizes = [saved_bytes("meta", length, masked=True) for length in (64, 128)]
    assert sizes == [saved_bytes("cpu", length) for length in (64, 128)]
    assert masked_sizes == [saved_bytes("cpu", length, masked=True) for length in (64, 128)]
    assert masked_sizes[1] == sizes[1] + 4 * 128**2
    assert sizes[1] == 2 * sizes[0]
    assert saved_bytes("meta", 128) > 2 * saved_bytes("meta", 64)  # without the patch the attention weights are saved


def test_fused_attention_on_meta_is_undone_afterwards() -> None:
    original = functional.scaled_dot_product_attention
    with compat.fused_attention_on_meta(torch.device("cpu")):
        assert functional.scaled_dot_product_attention is original
    with compat.fused_attention_on_meta(torch.device("meta")):
        assert functional.scaled_dot_product_attention is not original
    assert functional.scaled_dot_product_attention is original


def test_storage_id_is_shared_by_views_on_meta_too() -> None:
    for device in ("cpu", "meta"):
        tensor = torch.empty(4, 4, device=device)
        assert compat.storage_id(tensor) == compat.storage_id(tensor.T)
        assert compat.storage_id(tensor) != compat.storage_id(torch.empty(4, 4, device=device))
    sparse = torch.eye(3).to_sparse()
    assert compat.storage_id(sparse) == id(sparse)
