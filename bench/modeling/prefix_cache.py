"""What all prompts begin with: read once, kept once, and attended to there by every row.

Repeated for each row, as caches usually are, a head of some length is most of what answering moves through memory.
Attention over two stretches of keys follows exactly from what each gives by itself and the logarithm of its sum of
weights (Hydragen, https://arxiv.org/abs/2402.05099).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bench.method import Unsupported

APART = "sdpa_after_a_head"
MIN_SHARED_PREFIX_TOKENS = 24  # tokens that prompts must share for reading them apart to pay
GROWTH = 32  # tokens for which room is made at once
BIASES = "position_bias", "softcap", "s_aux"  # of attention weights, for which all keys have to lie together


@dataclass(frozen=True)
class SharedPrefix:
    """The keys and values of what stands before every row."""

    ids: list[int]
    """Its tokens."""
    num_virtual_tokens: int
    """Positions of an adapter's own that stand before them."""
    cache: DynamicCache
    separate: bool
    """Whether attention finds it where it lies; else every row has a copy."""

    def begin(self) -> DynamicCache:
        """A cache in which rows go on from here."""
        begun = DynamicCache()
        known: list[Any] = self.cache.layers
        begun.layers = [PrefixedLayer((layer.keys, layer.values), self.separate) for layer in known]
        return begun


def read_prefix(model: Any, rows: Sequence[list[int]], ahead: int, filler: int, more: int) -> SharedPrefix | None:
    """What stands before every row: `ahead` positions of an adapter's own, and the tokens that all rows begin with.

    None where that is nothing, or nothing that rows of unequal length, padded and with `more` tokens to come, could go
    on from; raises `Unsupported` if that concerns an adapter's positions. `filler` is any token.
    """
    ids = common_prefix(rows)
    if not ids and not ahead:
        return None
    model.eval()
    with torch.inference_mode():
        given = torch.tensor([ids or [filler]], device=model.device)
        cache = getattr(model(input_ids=given, use_cache=True), "past_key_values", None)
    longest = ahead + max(map(len, rows), default=0) + more
    if not isinstance(cache, DynamicCache) or not _whole(cache, ahead + given.shape[1], longest):
        if ahead:
            raise Unsupported("the model does not keep all keys and values, so nothing can stand before its prompts")
        return None
    if not ids:
        cache.crop(-1)  # what stands before a token does not depend on it
    return SharedPrefix(ids, ahead, cache, _apart(model))


def common_prefix(rows: Sequence[list[int]]) -> list[int]:
    """What all of several rows begin with, if that is much; each keeps at least one token of its own."""
    if len(rows) < 2:
        return []
    first, last = min(rows), max(rows)
    longest = min(map(len, rows)) - 1
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b or n == longest), 0)
    return first[:length] if length >= MIN_SHARED_PREFIX_TOKENS else []


@contextmanager
def prefix_attention(model: Any) -> Iterator[None]:
    """Have attention look for a head where it lies apart from its rows."""
    usual = model.config._attn_implementation
    if not _apart(model):
        yield
        return
    model.set_attn_implementation(APART)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


class PrefixedLayer(DynamicLayer):
    """Keys and values (rows, heads, tokens, width) of a layer, after a head (1, heads, tokens, width) of all rows."""

    def __init__(self, head: tuple[Any, Any], apart: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._head, self._apart, self._length = head, apart, 0
        self._room: list[Any] = []

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Take new tokens up; returns what they attend to, with the head or, where attention finds it, without."""
        begin, end = self._length, self._length + key_states.shape[-2]
        if not self._room or end > self._room[0].shape[-2]:
            parts = self._room or [key_states, value_states]
            self._room = [_roomier(part, begin, end + GROWTH) for part in parts]
        for room, fresh in zip(self._room, (key_states, value_states), strict=True):
            room[..., begin:end, :] = fresh
        self._length, self.is_initialized = end, True
        self.keys, self.values = (room[..., :end, :] for room in self._room)
        if not self._apart:
            return _joined(self._head, self.keys, self.values)
        self.keys.head = self._head  # type: ignore[union-attr]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens of the head and after it."""
        return int(self._head[0].shape[-2]) + self._length

    def batch_repeat_interleave(self, repeats: int) -> None:
        """So many rows in place of each."""
        self._room = [room.repeat_interleave(repeats, dim=0) for room in self._room]

    def batch_select_indices(self, indices: Any) -> None:
        """Some of the rows alone."""
        self._room = [room[indices] for room in self._room]


def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **how: Any) -> tuple[Any, None]:
    """Attention (rows, tokens, heads, width) to keys, and to the head before them if there is one apart from them."""
    head = getattr(key, "head", None)
    if head is None or any(how.get(bias) is not None for bias in BIASES):
        key, value = _joined(head, key, value) if head else (key, value)
        whole: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **how)
        return whole
    rows, heads, length, width = query.shape
    groups, alike = key.shape[1], heads // key.shape[1]
    # To the head, all queries of a group of heads are as the tokens of one row: every one of them sees all of it.
    folded = query.reshape(rows, groups, -1, width).transpose(0, 1).reshape(1, groups, -1, width)
    before, weight = (
        part.view(groups, rows, -1, *part.shape[3:]).transpose(0, 1).reshape(rows, heads, length, -1)
        for part in _flash(folded, *head, scale=how.get("scaling"))
    )
    # No key is copied for heads that share it: where each has one query these are as tokens of one head, else the heads
    # of a group take turns, since a mask for all of them at once would be so many times as large.
    shared = query.reshape(rows, groups, alike, length, width)
    turns = [shared.squeeze(3)] if length == 1 else shared.unbind(2)
    bias = _bias(attention_mask, length, key.shape[-2], query.dtype)
    found = [_flash(turn, key, value, attn_mask=bias, scale=how.get("scaling")) for turn in turns]
    after, own = (torch.stack(parts, 2).reshape(rows, heads, length, -1) for parts in zip(*found, strict=True))
    share = torch.sigmoid(own - weight).to(query.dtype)
    return torch.lerp(before, after, share).transpose(1, 2).contiguous(), None


def _bias(mask: Any, length: int, known: int, dtype: Any) -> Any:
    """What is added to attention weights (rows, 1, tokens, known): of tokens before it each sees those of the mask, or
    all; None where nothing is hidden.
    """
    if mask is None and length == 1:
        return None
    seen = torch.ones(1, 1, length, known, dtype=torch.bool).tril(known - length) if mask is None else mask
    seen = seen[..., -known:]
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


AttentionInterface.register(APART, attend)
AttentionMaskInterface.register(APART, sdpa_mask)
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which tells the logarithm of the sum of weights


def _apart(model: Any) -> bool:
    """Whether attention can take a head that lies apart."""
    known = model._supports_attention_backend and model.config._attn_implementation in ("sdpa", APART)
    return bool(known and model.device.type == "cpu")


def _whole(cache: DynamicCache, now: int, longest: int) -> bool:
    """Whether a cache has kept every one of so many tokens, and will up to `longest`: nothing but keys and values."""
    return cache.get_seq_length() == now and all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window > longest)
        for layer in cache.layers
    )


def _joined(head: tuple[Any, Any], *own: Any) -> tuple[Any, Any]:
    keys, values = (
        torch.cat([first.expand(len(rest), -1, -1, -1), rest], -2) for first, rest in zip(head, own, strict=True)
    )
    return keys, values


def _roomier(part: Any, filled: int, length: int) -> Any:
    """Room for so many tokens, with those that are there already."""
    rows, heads, _, width = part.shape
    room = part.new_empty((rows, heads, length, width))
    room[..., :filled, :] = part[..., :filled, :]
    return room
