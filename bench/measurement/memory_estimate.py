"""How much memory loading, training and answering should take, told before they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

PROBE_LENGTHS = 16, 48  # tokens of the rows that are passed through the model
FLOAT32_BYTES = 4  # bytes
TRAINING_COPIES = 3  # of every trained weight: its gradient, and the two moments of AdamW
LOGIT_COPIES = 2  # times the logits: what the loss makes of them on the way back
BLOCK_WIDTHS = 12  # times a block's width: what a block holds at once where nothing is kept for training
MIN_GENERATION_BYTES = (
    2**29
)  # bytes that answering may add to a small model; to a large one, as much as its weights take
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 8, 128  # rows answered at once


def model_bytes(model: Any) -> int:
    """Bytes of a model's weights as they lie in memory, packed ones included."""
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return sum(_bytes(tensor) for tensor in tensors.values())


def quantized_bytes(model: Any) -> int:
    """The same once its linear layers but the last are held in 4 bits, doubly quantized (https://arxiv.org/abs/2305.14314),
    and all else in float32.
    """
    last = model.get_output_embeddings()
    packed = sum(
        layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not last
    )
    rest = {id(tensor): tensor.numel() for tensor in chain(model.parameters(), model.buffers())}
    return int(packed * (0.5 + 1 / 64 + FLOAT32_BYTES / (64 * 256)) + (sum(rest.values()) - packed) * FLOAT32_BYTES)


def training_bytes(model: Any, tokens: int) -> int:
    """Bytes that training on `tokens` at once, padding included, adds to a model of which some weights are trained.

    Gradients and AdamW's states for what is trained, and what the backward pass needs again, as seen in two short
    rows; that grows with the tokens in proportion, but for an attention that keeps all its weights.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    loss = LOGIT_COPIES * FLOAT32_BYTES * model.config.get_text_config().vocab_size if model.can_generate() else 0
    few, more = (_kept(model, length) for length in PROBE_LENGTHS)
    each = (more - few) / (PROBE_LENGTHS[1] - PROBE_LENGTHS[0])
    return int(trained * TRAINING_COPIES * FLOAT32_BYTES + few - PROBE_LENGTHS[0] * each + tokens * (each + loss))


def generation_bytes(model: Any, rows: int, length: int) -> int:
    """Bytes that answering `rows` at once adds, each of `length` tokens with its answer: keys, values, a block's states
    and the last logits.
    """
    config = model.config.get_text_config()
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    if not model.can_generate():
        return int(rows * length * FLOAT32_BYTES * (BLOCK_WIDTHS * width + 2 * inner))
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    cache = 2 * config.num_hidden_layers * shared * (getattr(config, "head_dim", None) or width // heads)
    size = torch.finfo(model.dtype).bits // 8
    each = size * cache + FLOAT32_BYTES * (BLOCK_WIDTHS * width + 2 * inner)
    return int(rows * (length * each + FLOAT32_BYTES * config.vocab_size))


def max_batch_rows(model: Any, length: int) -> int:
    """Rows of so many tokens to answer at once: the longer, the fewer.

    It depends on the model and the rows alone, and not on the machine, so that answers do neither.
    """
    room = max(MIN_GENERATION_BYTES, model_bytes(model))
    return min(MAX_BATCH_ROWS, max(MIN_BATCH_ROWS, room // generation_bytes(model, 1, length)))


def length_batches(model: Any, lengths: Sequence[int]) -> Iterator[range]:
    """Places of rows of these tokens, shortest first, as they are answered at once."""
    start = 0
    while start < len(lengths):
        stop = min(start + MAX_BATCH_ROWS, len(lengths))
        while stop - start > (fits := max_batch_rows(model, lengths[stop - 1])):
            stop = start + fits  # whose longest is shorter
        yield range(start, stop)
        start = stop


def encoding_bytes(model: Any, rows: int, length: int) -> int:
    """Bytes that reading `rows` of `length` tokens at once adds where the states of all layers are asked for."""
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    states = (config.num_hidden_layers + 1) * torch.finfo(model.dtype).bits // 8 * config.hidden_size
    return int(rows * length * (states + FLOAT32_BYTES * (BLOCK_WIDTHS * config.hidden_size + 2 * inner)))


def _kept(model: Any, length: int) -> int:
    """Bytes, weights aside, that a pass of one row of so many tokens keeps for the way back."""
    weights = {_storage(tensor) for tensor in chain(model.parameters(), model.buffers())}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in weights:
            found[_storage(tensor)] = tensor
        return tensor

    # No mask: every token counts, and on torch's meta device none could be looked at.
    ids = torch.ones((1, length), dtype=torch.long, device=model.device)
    training, devices = model.training, [model.device] if model.device.type == "cuda" else []
    model.train()
    with (
        torch.random.fork_rng(devices=devices),
        _fused(model),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept),
    ):
        logits = model(input_ids=ids).logits
        logits.float().logsumexp(-1).sum()
    model.train(training)
    return sum(_bytes(tensor) if tensor.is_sparse else tensor.untyped_storage().nbytes() for tensor in found.values())


@contextmanager
def _fused(model: Any) -> Iterator[None]:
    """Let attention on torch's meta device keep what the fused kernels of real devices keep; by itself it keeps all
    of its weights.
    """
    plain = functional.scaled_dot_product_attention
    if model.device.type == "meta":
        functional.scaled_dot_product_attention = _attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _attend(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    return Attention.apply(query, key, value)  # type: ignore[no-untyped-call]


class Attention(torch.autograd.Function):
    """Shapes only: what attention takes, makes and needs again on the way back."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        rows, heads, length, _ = query.shape
        made = query.new_empty((rows, length, heads, value.shape[-1])).transpose(1, 2)  # as the kernels lay it out
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, made, sums)
        return made


def _storage(tensor: torch.Tensor) -> int:
    """What tells one stretch of memory from another, on devices without addresses too."""
    return id(tensor) if tensor.is_sparse else int(tensor.untyped_storage()._cdata)


def _bytes(tensor: torch.Tensor) -> int:
    """What a tensor's numbers take; of a sparse one those that are there, and their places."""
    if tensor.is_sparse:
        return _bytes(tensor._indices()) + _bytes(tensor._values())
    return int(tensor.numel()) * int(tensor.element_size())
