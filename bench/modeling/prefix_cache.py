"""Key/value cache of the common prompt prefix, computed and stored once for all rows.

An ordinary cache repeats the prefix for each row. With few-shot prompts these copies are most of the memory that
generation has to read. Here attention to the prefix and attention to the tokens of the row are computed separately;
the log-sum-exp of both gives the exact joint result (Hydragen, https://arxiv.org/abs/2402.05099).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bench.modeling import compat

PREFIX_ATTENTION = "sdpa_shared_prefix"
MIN_SHARED_PREFIX_TOKENS = 24  # a shorter prefix is not worth a forward pass of its own
CACHE_GROWTH_TOKENS = 32  # the buffers of a layer grow by so many tokens at once
SEPARATE_PREFIX_DEVICES = "cpu", "cuda"  # of torch, those with kernels that return the log-sum-exp
# Arguments that change attention scores by position: the scores of all keys have to be computed together.
SCORE_BIAS_ARGUMENTS = "position_bias", "softcap", "s_aux"

# Configuration of attention that sees only some of the tokens before. Most caches tell their window themselves, but not
# that of GPT-Neo.
SPAN_ATTRIBUTES = "sliding_window", "attention_chunk_size", "window_size", "attention_window_size", "local_attention"


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values of the tokens that all prompts begin with."""

    ids: list[int]
    """Token ids, without virtual tokens."""
    num_virtual_tokens: int
    """Virtual tokens of a prompt-learning adapter; they come before `ids`."""
    past_key_values: DynamicCache
    """Cache with one row."""
    separate: bool
    """True if attention reads the prefix from the one row of the cache; False if every row gets a copy of it."""

    def new_cache(self) -> DynamicCache:
        """Return a cache for a batch whose rows continue after the prefix."""
        cache = DynamicCache()
        layers: list[Any] = self.past_key_values.layers
        cache.layers = [PrefixedLayer((layer.keys, layer.values), self.separate) for layer in layers]
        return cache


def read_prefix(
    model: Any, ids: list[int], num_virtual_tokens: int, filler_token_id: int, max_length: int, *, separate: bool = True
) -> SharedPrefix | None:
    """Compute keys and values of a prefix and of an adapter's virtual tokens.

    Args:
        model: The model, or the PEFT model if it has virtual tokens.
        ids: Token ids of the prefix, as `common_prefix` returns them; may be empty if there are virtual tokens.
        num_virtual_tokens: Virtual tokens that the adapter puts before every prompt.
        filler_token_id: Any token; it is read, and then removed, where there are only virtual tokens.
        max_length: Tokens of the longest row, with virtual and generated tokens.
        separate: Attention may read the prefix from one row, if the device has a function for it.

    Returns:
        The prefix; None if the model does not keep all keys and values of so many tokens.
    """
    model.eval()
    with torch.inference_mode():
        input_ids = torch.tensor([ids or [filler_token_id]], device=model.device)
        cache = getattr(model(input_ids=input_ids, use_cache=True), "past_key_values", None)
    length = num_virtual_tokens + input_ids.shape[1]
    if type(cache) is not DynamicCache or not _keeps_all_tokens(cache, length, max_length):
        return None
    if attention_span(model) <= max_length:
        return None
    if not ids:
        cache.crop(-1)  # virtual tokens do not depend on the filler token after them
    return SharedPrefix(ids, num_virtual_tokens, cache, separate and _supports_separate_prefix(model))


def attention_span(model: Any) -> int:
    """Return the width in tokens of the narrowest attention window; `sys.maxsize` if none.

    In longer rows the padding after a shared prefix would push tokens out of the window.
    """
    config = model.config.get_text_config()
    spans = [getattr(config, name, None) for name in SPAN_ATTRIBUTES]
    return min((span for span in spans if isinstance(span, int) and span > 0), default=sys.maxsize)


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all prompts begin with.

    Every prompt keeps at least one token of its own. The result is empty if there are fewer than two prompts or fewer
    than `MIN_SHARED_PREFIX_TOKENS` shared tokens.
    """
    if len(prompts) < 2:
        return []
    # All prompts share what the first and the last in lexicographic order share.
    first, last = min(prompts), max(prompts)
    max_length = min(map(len, prompts)) - 1
    pairs = enumerate(zip(first, last, strict=False))
    length = next((index for index, (a, b) in pairs if a != b or index == max_length), 0)
    return first[:length] if length >= MIN_SHARED_PREFIX_TOKENS else []


@contextmanager
def prefix_attention(model: Any) -> Iterator[None]:
    """Let the model attend to a separate prefix inside the context, if it supports that."""
    usual_attention = compat.attention_implementation(model)
    if not _supports_separate_prefix(model):
        yield
        return
    model.set_attn_implementation(PREFIX_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(usual_attention)


class PrefixedLayer(DynamicLayer):
    """Cache layer of a batch, for the tokens after a shared prefix.

    Args:
        prefix: Keys and values (1, heads, prefix tokens, width) of the prefix.
        separate: If True, `update` returns the keys without the prefix, which is attached to them for
            `prefix_attention_forward`; if False, it returns them behind a copy of the prefix per row.
    """

    def __init__(self, prefix: tuple[Any, Any], separate: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._prefix, self._separate, self._length = prefix, separate, 0
        self._buffers: list[Any] = []  # of keys and of values, with room for further tokens

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append tokens (rows, heads, tokens, width); return the keys and values to attend to."""
        begin, end = self._length, self._length + key_states.shape[-2]
        if not self._buffers or end > self._buffers[0].shape[-2]:
            sources = self._buffers or [key_states, value_states]
            self._buffers = [_grow_buffer(source, begin, end + CACHE_GROWTH_TOKENS) for source in sources]
        for buffer, new_states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., begin:end, :] = new_states
        self._length, self.is_initialized = end, True
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        if not self._separate:
            return _concat_prefix(self._prefix, self.keys, self.values)
        compat.attach_prefix(self.keys, self._prefix)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens, those of the prefix included."""
        return int(self._prefix[0].shape[-2]) + self._length

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        self._buffers = [buffer.repeat_interleave(repeats, dim=0) for buffer in self._buffers]

    def batch_select_indices(self, indices: Any) -> None:
        """Keep only the rows at `indices`."""
        self._buffers = [buffer[indices] for buffer in self._buffers]


def prefix_attention_forward(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Attend to an attached prefix and to the keys; without a prefix, like `sdpa`.

    Args:
        module: The attention module.
        query: Tensor (rows, heads, tokens, width).
        key: Tensor (rows, key/value heads, keys, width); `compat.attach_prefix` adds the prefix to it.
        value: Tensor (rows, key/value heads, keys, width).
        attention_mask: True where a query sees a key (rows, 1, tokens, prefix and keys); None for causal attention.
        **kwargs: Other arguments of attention functions in transformers, such as `scaling`.

    Returns:
        The output (rows, tokens, heads, width), and None for the attention weights.
    """
    prefix = compat.attached_prefix(key)
    if prefix is None or any(kwargs.get(name) is not None for name in SCORE_BIAS_ARGUMENTS):
        if prefix is not None:
            key, value = _concat_prefix(prefix, key, value)
        output: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output
    rows, heads, length, width = query.shape
    kv_heads, scale = key.shape[1], kwargs.get("scaling")
    heads_per_kv_head = heads // kv_heads
    # Every query sees the whole prefix, so the queries of all rows and of all heads that share a key/value head are
    # treated as the tokens of one row.
    folded = query.reshape(rows, kv_heads, -1, width).transpose(0, 1).reshape(1, kv_heads, -1, width)
    prefix_output, prefix_lse = (
        part.view(kv_heads, rows, -1, *part.shape[3:]).transpose(0, 1).reshape(rows, heads, length, -1)
        for part in compat.attention_with_lse(folded, *prefix, scale=scale)
    )
    # No key is copied for heads that share it. With one query each, the heads of a group are treated as tokens of one
    # head. With several, they take turns: one mask for all heads at once would be that many times as large.
    grouped = query.reshape(rows, kv_heads, heads_per_kv_head, length, width)
    turns = [grouped.squeeze(3)] if length == 1 else grouped.unbind(2)
    mask = _additive_mask(attention_mask, length, key)
    results = [compat.attention_with_lse(turn, key, value, mask=mask, scale=scale) for turn in turns]
    own_output, own_lse = (
        torch.stack(parts, 2).reshape(rows, heads, length, -1) for parts in zip(*results, strict=True)
    )
    own_share = torch.sigmoid(own_lse - prefix_lse).to(query.dtype)
    return torch.lerp(prefix_output, own_output, own_share).transpose(1, 2).contiguous(), None


compat.register_attention(PREFIX_ATTENTION, prefix_attention_forward)


def _additive_mask(attention_mask: Any, length: int, key: Any) -> Any:
    """Return a mask (rows, 1, tokens, keys) for the scores of keys after the prefix.

    `length` is the number of tokens with a query. Without an attention mask it is causal. None if nothing is masked.
    """
    if attention_mask is None and length == 1:
        return None
    key_length = key.shape[-2]
    if attention_mask is None:
        visible = key.new_ones(1, 1, length, key_length, dtype=torch.bool).tril(key_length - length)
    else:
        visible = attention_mask[..., -key_length:]
    # Half of the smallest number, because kernels multiply scores by log2(e), which must not make them infinite.
    return key.new_zeros(visible.shape).masked_fill_(~visible, torch.finfo(key.dtype).min / 2)


def _supports_separate_prefix(model: Any) -> bool:
    """Tell if attention can read the prefix from one row: `sdpa` on a CPU or on CUDA."""
    if not compat.supports_registered_attention(model) or model.device.type not in SEPARATE_PREFIX_DEVICES:
        return False
    if model.device.type == "cuda" and model.dtype is torch.bfloat16 and not compat.has_bfloat16_kernels(model.device):
        return False
    return compat.attention_implementation(model) in ("sdpa", PREFIX_ATTENTION)


def _keeps_all_tokens(cache: DynamicCache, length: int, max_length: int) -> bool:
    """Tell if a cache keeps all `length` tokens, and would keep `max_length` tokens.

    False for layers with another state and for sliding windows shorter than that.
    """
    return cache.get_seq_length() == length and all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window > max_length)
        for layer in cache.layers
    )


def _concat_prefix(prefix: tuple[Any, Any], keys: Any, values: Any) -> tuple[Any, Any]:
    """Put a copy of the prefix before the keys and values of every row."""
    prefix_keys, prefix_values = (part.expand(len(keys), -1, -1, -1) for part in prefix)
    return torch.cat([prefix_keys, keys], -2), torch.cat([prefix_values, values], -2)


def _grow_buffer(source: Any, filled: int, length: int) -> Any:
    """Allocate a buffer of `length` tokens and copy the first `filled` tokens into it."""
    rows, heads, _, width = source.shape
    buffer = source.new_empty((rows, heads, length, width))
    buffer[..., :filled, :] = source[..., :filled, :]
    return buffer
