"""Estimates of the memory of loading, training and generating, computed before they run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import chain
from typing import Any, Self

import torch

from bench.measurement import memory_limit
from bench.measurement.compat import fused_attention_on_meta, storage_id, unread_masks_on_meta

PROBE_LENGTHS = 16, 32, 48
"""Tokens of the rows whose forward passes are observed, in equal steps; a mask is aligned at all of them."""
FLOAT32_BYTES = 4
ADAMW_MOMENTS = 2
"""Float32 numbers that AdamW keeps for every trained weight."""
LOGIT_COPIES = 3
"""Float32 copies of the logits that the loss holds at once: its input, their log-softmax, and the gradient of one."""
BLOCK_WIDTHS = 12
"""Numbers per token that a transformer block holds at once without training, in multiples of its width."""
TRAINING_LIBRARY_BYTES = 100 * 2**20
"""Bytes that libraries and their buffers take in the memory of a process once it trains."""
HOST_FRAGMENTATION = 1.3
"""Resident memory of a process per byte of activations in it: freed tensors of other sizes leave gaps in the heap."""
MIN_GENERATION_BYTES = 2**29
"""Bytes that generating may add to a small model; a large one may add as much as its weights take."""
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 8, 128


def model_bytes(model: Any) -> int:
    """Return the bytes of a model's weights and buffers as stored, quantized ones included."""
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return sum(_tensor_bytes(tensor) for tensor in tensors.values())


def unquantized_bytes(model: Any) -> int:
    """Return the bytes of a model's weights in its data type, as if none were quantized."""
    return torch.finfo(model.dtype).bits // 8 * (sum(map(unpacked_size, model.parameters())) + packed_weights(model))


def packed_weights(model: Any) -> int:
    """Return the number of weights that are packed into buffers, as by GPTQ and AWQ."""
    return sum(
        int(layer.in_features) * int(layer.out_features)
        for layer in model.modules()
        if "qweight" in dict(layer.named_buffers(recurse=False))
    )


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


def training_bytes(model: Any, tokens: int, rows: int = 1, logit_tokens: int | None = None) -> int:
    """Return the bytes of tensors that training adds to a loaded model (`training_estimator`)."""
    return training_estimator(model)(tokens, rows, tokens if logit_tokens is None else logit_tokens)


def training_estimator(
    model: Any, optimizer_bytes: int | None = None, *, on_host: bool = False
) -> Callable[[int, int, int], int]:
    """Return a function that estimates the bytes that training adds to a loaded model.

    They are the gradients of the trained weights, the state of the optimizer, and the activations saved for the
    backward pass. The activations of short rows are measured and extrapolated: some grow with the tokens, and the
    masks of attention, or its weights, with the square of a row's length.

    Args:
        model: Model in which the weights to train require gradients.
        optimizer_bytes: Bytes that the optimizer keeps between steps; None for the two float32 moments of AdamW.
        on_host: Estimate the resident memory of the process, which is more than its tensors.

    Returns:
        A function of the tokens of a micro-batch, padding included, of the rows that they are divided into, and of the
        tokens whose logits the loss needs. Several rows are padded, so that attention needs a mask, and kernels that
        take a mask need a copy of shared keys and values for each head.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    vocabulary = model.config.get_text_config().vocab_size if model.can_generate() else 0
    logit_bytes = LOGIT_COPIES * FLOAT32_BYTES * vocabulary
    # A model that cannot leave logits out computes all of them, and their gradient.
    unused_logit_bytes = 0 if _computes_last_logits_alone(model) else 2 * model.dtype.itemsize * vocabulary
    if optimizer_bytes is None:
        optimizer_bytes = ADAMW_MOMENTS * FLOAT32_BYTES * trained
    constant_bytes = FLOAT32_BYTES * trained + optimizer_bytes + (TRAINING_LIBRARY_BYTES if on_host else 0)
    resident_per_byte = HOST_FRAGMENTATION if on_host else 1.0
    measure = cache(lambda padded: _Activations.measure(model, padded=padded))

    def estimate(tokens: int, rows: int, logit_tokens: int) -> int:
        activations = measure(rows > 1)
        bytes_per_token = activations.bytes_per_token + activations.bytes_per_pair * tokens / rows
        activation_bytes = (
            activations.fixed_bytes
            + tokens * bytes_per_token
            + logit_tokens * logit_bytes
            + (tokens - logit_tokens) * unused_logit_bytes
        )
        return int(constant_bytes + resident_per_byte * activation_bytes)

    return estimate


def generation_bytes(model: Any, rows: int, length: int, *, prefix_tokens: int = 0, scored_tokens: int = 0) -> int:
    """Return the bytes that generating or scoring adds to a loaded model.

    They are the key/value cache, the hidden states of one block, the mask of attention, the keys and values of one
    layer copied for heads that share them, which kernels need that take a mask, and the logits.

    Args:
        model: Decoder, or an encoder that reads a label off.
        rows: Rows in a batch.
        length: Tokens of a row, prompt and answer together, without a prefix that is stored once.
        prefix_tokens: Tokens of that prefix.
        scored_tokens: Tokens of a row that are scored; 0 if the row is generated, which needs the last logits alone.
    """
    dimensions = _Dimensions.of(model)
    value_bytes = torch.finfo(model.dtype).bits // 8
    mask_bytes = length * (length * value_bytes + prefix_tokens + length)  # numbers to add, made from truth values
    bytes_per_token = dimensions.hidden_bytes + value_bytes * dimensions.repeated_values
    if not model.can_generate():
        return int(rows * (length * bytes_per_token + mask_bytes))
    bytes_per_token += value_bytes * dimensions.cached_values
    # Scores are computed in float32. Scoring also joins the logits of the prompt's last token and of the completion.
    logit_bytes = dimensions.vocabulary * (value_bytes + FLOAT32_BYTES) * (2 * scored_tokens or 1)
    if not _computes_last_logits_alone(model):
        logit_bytes += length * value_bytes * dimensions.vocabulary
    return int(rows * (length * bytes_per_token + mask_bytes + logit_bytes))


def max_batch_rows(model: Any, length: int, *, prefix_tokens: int = 0, scored_tokens: int = 0) -> int:
    """Return the number of rows to generate or score at once.

    Longer rows make smaller batches. The number depends on the model and the rows alone and not on the machine,
    so that answers do not depend on the machine. A quantized model gets as many rows as the model that it was made
    from, because it leaves more memory and not less.

    Args:
        model: Decoder, or an encoder that reads a label off.
        length: Tokens of the longest row, as for `generation_bytes`.
        prefix_tokens: Tokens of a shared prefix.
        scored_tokens: Tokens of a row that are scored.
    """
    row_bytes = generation_bytes(model, 1, length, prefix_tokens=prefix_tokens, scored_tokens=scored_tokens)
    available = max(MIN_GENERATION_BYTES, unquantized_bytes(model))
    return min(MAX_BATCH_ROWS, max(MIN_BATCH_ROWS, available // row_bytes))


def length_batches(model: Any, lengths: Sequence[int], *, prefix_tokens: int = 0) -> Iterator[range]:
    """Split rows into batches for generation; yields the indices of each batch.

    Args:
        model: Model that generates.
        lengths: Number of tokens of each row, in ascending order.
        prefix_tokens: Tokens of a prefix that all rows share and that is stored once.
    """
    start = 0
    while start < len(lengths):
        stop = min(start + MAX_BATCH_ROWS, len(lengths))
        # A smaller batch has a shorter longest row, so more rows may fit than were allowed before.
        while stop - start > (max_rows := max_batch_rows(model, lengths[stop - 1], prefix_tokens=prefix_tokens)):
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
    repeated_values: int
    """Numbers per token in one layer's keys and values with a copy for each head; 0 if no heads share them."""

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
            repeated_values=_repeated_values(config),
        )


def _cached_values(config: Any) -> int:
    """Return the numbers per token in the key/value cache.

    A model without attention keeps a state that does not grow with the tokens: 0. A hybrid model counts as if every
    layer had attention, so its estimate is too high.
    """
    heads = _largest_size(config, "num_attention_heads")
    if not heads:
        return 0
    return int(config.num_hidden_layers * _key_value_heads(config) * _key_value_width(config))


def _repeated_values(config: Any) -> int:
    """Return the numbers per token in keys and values of one layer with a copy for each head.

    0 if every head has its own.
    """
    heads = _largest_size(config, "num_attention_heads")
    return heads * _key_value_width(config) if heads > _key_value_heads(config) else 0


def _key_value_heads(config: Any) -> int:
    """Return the heads of keys and values, which several heads of queries may share."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1  # Falcon and GPT-BigCode
    sizes = (_largest_size(config, name) for name in ("num_key_value_heads", "num_kv_heads", "num_attention_heads"))
    return next((size for size in sizes if size), 0)


def _key_value_width(config: Any) -> int:
    """Return the numbers per token in one head's key and value together."""
    head_width = _largest_size(config, "head_dim") or config.hidden_size // _largest_size(config, "num_attention_heads")
    key_width = (_largest_size(config, "qk_nope_head_dim") + _largest_size(config, "qk_rope_head_dim")) or head_width
    return key_width + (_largest_size(config, "v_head_dim") or head_width)


def _largest_size(config: Any, name: str) -> int:
    """Return a size of a configuration, the largest where layers differ; 0 without one."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # transformers raises it for a size that differs between layers
        value = [getattr(layer, name, None) for layer in config.per_layer_config]
    sizes = value if isinstance(value, list | tuple) else [value]
    return max((size for size in sizes if isinstance(size, int)), default=0)


def unpacked_size(weight: Any) -> int:
    """Return the numbers in a weight; bitsandbytes packs two of them into a byte."""
    quantization = getattr(weight, "quant_state", None)
    return math.prod(quantization.shape) if quantization is not None else int(weight.numel())


def _computes_last_logits_alone(model: Any) -> bool:
    """Tell if a model can leave out the logits of all tokens but the last."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in signature(base.forward).parameters


@dataclass(frozen=True)
class _Activations:
    """Bytes that a forward pass saves for the backward pass."""

    fixed_bytes: float
    bytes_per_token: float
    bytes_per_pair: float
    """Bytes per pair of tokens in a row, of masks or weights of attention."""

    @classmethod
    def measure(cls, model: Any, *, padded: bool) -> Self:
        """Fit the bytes to passes of short rows.

        Args:
            model: Model in which the weights to train require gradients.
            padded: Read two rows, one of them padded. A model on the meta device that looks at the values of a mask
                cannot do that, and one without a mask needs none; both read a row without padding.
        """
        rows = 2 if padded else 1
        try:
            first, second, third = (_held_activation_bytes(model, rows, length) for length in PROBE_LENGTHS)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            if not padded or memory_limit.is_out_of_memory(error):
                raise
            return cls.measure(model, padded=False)
        begin, middle, end = PROBE_LENGTHS
        per_pair = max((third - 2 * second + first) / (2 * (middle - begin) ** 2), 0.0)
        per_token = (third - first) / (end - begin) - per_pair * (begin + end)
        fixed = first - begin * per_token - begin**2 * per_pair
        return cls(fixed, per_token / rows, per_pair / rows)


def _held_activation_bytes(model: Any, rows: int, length: int) -> int:
    """Return the number of bytes that a backward pass holds of the forward pass.

    With activation checkpointing they are what the layers keep, and one layer that is computed again.
    """
    if not getattr(model, "is_activation_checkpointing", False):
        return _saved_activation_bytes(model, rows, length)
    layers = [layer for layer in model.modules() if getattr(layer, "gradient_checkpointing", False) is True]
    kept = _saved_activation_bytes(model, rows, length)
    for layer in layers:
        layer.gradient_checkpointing = False
    try:
        saved = _saved_activation_bytes(model, rows, length)
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True
    return kept + (saved - kept) // int(model.config.get_text_config().num_hidden_layers)


def _saved_activation_bytes(model: Any, rows: int, length: int) -> int:
    """Return the number of bytes that a forward pass saves for backward.

    The last of several rows has padding.
    """
    weight_storages = {storage_id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    saved_bytes: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if storage_id(tensor) not in weight_storages:
            saved_bytes[storage_id(tensor)] = (
                _tensor_bytes(tensor) if tensor.is_sparse else tensor.untyped_storage().nbytes()
            )
        # An operation that saved its own output with its history would hold itself, and its memory would never be
        # freed. Nor may the dictionary hold tensors, because the history holds this function.
        return tensor.detach()

    ids = torch.ones((rows, length), dtype=torch.long, device=model.device)
    inputs: dict[str, Any] = {"input_ids": ids}
    if rows > 1:
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["attention_mask"][-1, -1] = 0
    was_training = model.training
    cuda_devices = [model.device] if model.device.type == "cuda" else []
    model.train()
    try:
        with (
            torch.random.fork_rng(devices=cuda_devices),
            fused_attention_on_meta(model.device),
            unread_masks_on_meta(model.device),
            torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        ):
            if model.can_generate() and _computes_last_logits_alone(model):
                inputs["logits_to_keep"] = 1  # the memory of logits is computed and not measured
            if model.can_generate() and getattr(model, "is_activation_checkpointing", False):
                inputs["use_cache"] = False  # else transformers warns that it does so itself
            model(**inputs)
    finally:
        model.train(was_training)
    return sum(saved_bytes.values())


def _tensor_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's values; those of a sparse tensor include its indices."""
    if tensor.is_sparse:
        return _tensor_bytes(tensor._indices()) + _tensor_bytes(tensor._values())
    return int(tensor.numel()) * int(tensor.element_size())
