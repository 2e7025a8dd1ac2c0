"""Estimates of the memory of loading, training and generating, computed before they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch

from bench.measurement.compat import fused_attention_on_meta, storage_id

PROBE_LENGTHS = 16, 48
"""Tokens of the two rows whose forward passes are observed."""
FLOAT32_BYTES = 4
TRAINING_COPIES = 3
"""Float32 copies of every trained weight: its gradient and the two moments of AdamW."""
LOGIT_COPIES = 2
"""Float32 copies of the logits that the loss makes for the backward pass."""
BLOCK_WIDTHS = 12
"""Numbers per token that a transformer block holds at once without training, in multiples of its width."""
MIN_GENERATION_BYTES = 2**29
"""Bytes that generating may add to a small model; a large one may add as much as its weights take."""
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 8, 128


def model_bytes(model: Any) -> int:
    """Return the bytes of a model's weights and buffers as stored, quantized ones included."""
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return sum(_tensor_bytes(tensor) for tensor in tensors.values())


def quantized_bytes(model: Any) -> int:
    """Return the bytes of a model's weights if it were loaded as QLoRA loads it.

    Linear layers except the last take 4 bits per weight with double quantization (https://arxiv.org/abs/2305.14314);
    everything else is float32.
    """
    output_layer = model.get_output_embeddings()
    quantized = sum(
        layer.weight.numel()
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output_layer
    )
    sizes = {id(tensor): tensor.numel() for tensor in chain(model.parameters(), model.buffers())}
    # Per weight: half a byte, an 8-bit constant per 64 weights, and a float32 constant per 256 of those.
    bytes_per_weight = 0.5 + 1 / 64 + FLOAT32_BYTES / (64 * 256)
    return int(quantized * bytes_per_weight + (sum(sizes.values()) - quantized) * FLOAT32_BYTES)


def training_bytes(model: Any, tokens: int) -> int:
    """Return the bytes that training adds to a loaded model.

    They are the gradients and AdamW's moments of the trained weights, and the activations saved for the backward
    pass. The activations of two short rows are measured and extrapolated linearly, which holds for every attention
    except one that saves its weights.

    Args:
        model: Model in which the weights to train require gradients.
        tokens: Tokens of a micro-batch, padding included.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    vocabulary = model.config.get_text_config().vocab_size if model.can_generate() else 0
    logit_bytes = LOGIT_COPIES * FLOAT32_BYTES * vocabulary
    short, long = (_saved_activation_bytes(model, length) for length in PROBE_LENGTHS)
    bytes_per_token = (long - short) / (PROBE_LENGTHS[1] - PROBE_LENGTHS[0])
    fixed_bytes = trained * TRAINING_COPIES * FLOAT32_BYTES + short - PROBE_LENGTHS[0] * bytes_per_token
    return int(fixed_bytes + tokens * (bytes_per_token + logit_bytes))


def generation_bytes(model: Any, rows: int, length: int) -> int:
    """Return the bytes that generating adds to a loaded model.

    They are the key/value cache, the hidden states of one block and the last logits.

    Args:
        model: Decoder, or an encoder that reads a label off.
        rows: Rows in a batch.
        length: Tokens of a row, prompt and answer together.
    """
    dimensions = _Dimensions.of(model)
    hidden_bytes = dimensions.hidden_bytes
    if not model.can_generate():
        return int(rows * length * hidden_bytes)
    cache_bytes = torch.finfo(model.dtype).bits // 8 * dimensions.cached_values
    bytes_per_token = cache_bytes + hidden_bytes
    return int(rows * (length * bytes_per_token + FLOAT32_BYTES * dimensions.vocabulary))


def max_batch_rows(model: Any, length: int) -> int:
    """Return the number of rows of `length` tokens to generate at once.

    Longer rows make smaller batches. The number depends on the model and the rows alone and not on the machine,
    so that answers do not depend on the machine.
    """
    available = max(MIN_GENERATION_BYTES, model_bytes(model))
    return min(MAX_BATCH_ROWS, max(MIN_BATCH_ROWS, available // generation_bytes(model, 1, length)))


def length_batches(model: Any, lengths: Sequence[int]) -> Iterator[range]:
    """Split rows into batches for generation; yields the indices of each batch.

    Args:
        model: Model that generates.
        lengths: Number of tokens of each row, in ascending order.
    """
    start = 0
    while start < len(lengths):
        stop = min(start + MAX_BATCH_ROWS, len(lengths))
        # A smaller batch has a shorter longest row, so more rows may fit than were allowed before.
        while stop - start > (max_rows := max_batch_rows(model, lengths[stop - 1])):
            stop = start + max_rows
        yield range(start, stop)
        start = stop


def encoding_bytes(model: Any, rows: int, length: int) -> int:
    """Return the bytes that a forward pass adds if it returns all hidden states.

    Args:
        model: Decoder or encoder.
        rows: Rows in the batch.
        length: Tokens of a row.
    """
    dimensions = _Dimensions.of(model)
    layers = model.config.get_text_config().num_hidden_layers
    state_bytes = (layers + 1) * torch.finfo(model.dtype).bits // 8 * dimensions.width
    return int(rows * length * (state_bytes + dimensions.hidden_bytes))


@dataclass(frozen=True)
class _Dimensions:
    """Sizes of a transformer that decide the memory of a forward pass."""

    width: int
    inner_width: int
    vocabulary: int
    cached_values: int
    """Numbers per token in the key/value cache; 0 for an encoder."""

    @property
    def hidden_bytes(self) -> int:
        """Bytes per token that one block holds at once."""
        return FLOAT32_BYTES * (BLOCK_WIDTHS * self.width + 2 * self.inner_width)

    @classmethod
    def of(cls, model: Any) -> Self:
        config = model.config.get_text_config()
        width = config.hidden_size
        return cls(
            width=width,
            inner_width=_largest_size(config, "intermediate_size") or 4 * width,
            vocabulary=getattr(config, "vocab_size", 0),
            cached_values=_cached_values(config) if model.can_generate() else 0,
        )


def _cached_values(config: Any) -> int:
    """Return the numbers per token in the key/value cache.

    A model without attention keeps a state that does not grow with the tokens: 0. A hybrid model counts as if every
    layer had attention, so its estimate is too high.
    """
    heads = _largest_size(config, "num_attention_heads")
    if not heads:
        return 0
    key_value_heads = _largest_size(config, "num_key_value_heads") or heads
    head_width = _largest_size(config, "head_dim") or config.hidden_size // heads
    key_width = (_largest_size(config, "qk_nope_head_dim") + _largest_size(config, "qk_rope_head_dim")) or head_width
    value_width = _largest_size(config, "v_head_dim") or head_width
    return int(config.num_hidden_layers * key_value_heads * (key_width + value_width))


def _largest_size(config: Any, name: str) -> int:
    """Return a size of a configuration, the largest where layers differ; 0 without one."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # transformers raises it for a size that differs between layers
        value = [getattr(layer, name, None) for layer in config.per_layer_config]
    sizes = value if isinstance(value, list | tuple) else [value]
    return max((size for size in sizes if isinstance(size, int)), default=0)


def _saved_activation_bytes(model: Any, length: int) -> int:
    """Return the number of bytes that a forward pass of one row saves for backward."""
    weight_storages = {storage_id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if storage_id(tensor) not in weight_storages:
            saved[storage_id(tensor)] = tensor
        return tensor

    # No attention mask is passed: all tokens count, and on the meta device a mask has no values to look at.
    ids = torch.ones((1, length), dtype=torch.long, device=model.device)
    was_training = model.training
    cuda_devices = [model.device] if model.device.type == "cuda" else []
    model.train()
    with (
        torch.random.fork_rng(devices=cuda_devices),
        fused_attention_on_meta(model.device),
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
    ):
        logits = model(input_ids=ids).logits
        logits.float().logsumexp(-1).sum()
    model.train(was_training)
    return sum(
        _tensor_bytes(tensor) if tensor.is_sparse else tensor.untyped_storage().nbytes() for tensor in saved.values()
    )


def _tensor_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's values; those of a sparse tensor include its indices."""
    if tensor.is_sparse:
        return _tensor_bytes(tensor._indices()) + _tensor_bytes(tensor._values())
    return int(tensor.numel()) * int(tensor.element_size())
