"""Limits on the inputs of an encoder, found on the loaded model: positions and padding."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch

from bench.measurement import memory_limit
from bench.method import Unsupported
from bench.modeling.loaded_model import PaddingSide

PROBE_TOKENS = 13
"""Length of the row that is read with and without padding."""
PROBE_PADDING = 5
PADDING_TOLERANCE = {torch.float32: 1e-3}
"""Allowed change of a state by padding, as a share of the largest state; by dtype, with a default for the others."""
DEFAULT_PADDING_TOLERANCE = 0.05


def max_positions(model: Any) -> int:
    """Return the tokens that a model has positions for; `sys.maxsize` without limit.

    A table of position embeddings with a padding index (as in RoBERTa) is used from the position after that index on.
    """
    configured = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    limits = [configured] if configured > 0 else []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "position" in name.rpartition(".")[2] and isinstance(weight, torch.Tensor) and weight.ndim == 2:
            padding_index = getattr(module, "padding_idx", None)
            limits.append(len(weight) - (0 if padding_index is None else padding_index + 1))
    return min(limits, default=sys.maxsize)


def accepts_attention_mask(model: Any) -> bool:
    """Tell if the forward pass of a model takes `attention_mask`."""
    return "attention_mask" in inspect.signature(model.forward).parameters


def find_padding_side(model: Any) -> PaddingSide | None:
    """Return the side on which rows can be padded without any effect on their states.

    A row is read alone and with padding on either side. On the meta device, where nothing is computed, the side is
    `right`.

    Returns:
        None if padding has an effect on both sides, e.g. by convolutions over tokens or without attention mask.

    Raises:
        Unsupported: The model cannot read a row of tokens.
    """
    if not accepts_attention_mask(model):
        return None
    if any(weight.is_meta for weight in model.parameters()):
        return "right"
    try:
        cuda_devices = [model.device] if model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=cuda_devices):
            return _probe_padding(model)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        if memory_limit.is_out_of_memory(error):
            raise
        raise Unsupported(f"the model cannot read a row of tokens: {error}") from error


def _probe_padding(model: Any) -> PaddingSide | None:
    config = model.config.get_text_config()
    pad_token_id = getattr(config, "pad_token_id", None) or 0
    vocabulary_size = getattr(config, "vocab_size", None) or 2 * PROBE_TOKENS
    token_ids = [index for index in range(vocabulary_size) if index != pad_token_id][-PROBE_TOKENS:]
    padding = [pad_token_id] * PROBE_PADDING
    tolerance = PADDING_TOLERANCE.get(model.dtype, DEFAULT_PADDING_TOLERANCE)
    alone = list(_outputs(model, token_ids, [1] * len(token_ids)))
    if any(len(states) != len(token_ids) for states in alone[1:]):
        return None  # the model joins tokens, so its states cannot be told from those of padding
    ones, zeros = [1] * len(token_ids), [0] * PROBE_PADDING
    rows: dict[PaddingSide, tuple[list[int], list[int], slice]] = {
        "right": (token_ids + padding, ones + zeros, slice(len(token_ids))),
        "left": (padding + token_ids, zeros + ones, slice(PROBE_PADDING, None)),
    }
    for side, (padded_ids, mask, real) in rows.items():
        logits, *layers = _outputs(model, padded_ids, mask)
        padded = [logits, *(states[real] for states in layers)]
        pairs = zip(alone, padded, strict=True)
        if all((a - b).abs().max() <= tolerance * a.abs().max() for a, b in pairs):
            return side
    return None


def _outputs(model: Any, token_ids: list[int], mask: list[int]) -> Iterator[Any]:
    """Yield the logits of a row, then the states (tokens, width) of each layer."""
    inputs = {"input_ids": [token_ids], "attention_mask": [mask]}
    tensors = {name: torch.tensor(values, device=model.device) for name, values in inputs.items()}
    output = model(**tensors, output_hidden_states=True)
    yield output.logits[0].float()
    yield from (states[0].float() for states in output.hidden_states or ())
