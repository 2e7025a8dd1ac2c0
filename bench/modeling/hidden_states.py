"""Hidden states of a frozen model: one vector for each text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from bench.measurement.memory_limit import run_halving_on_oom
from bench.method import LM

if TYPE_CHECKING:
    from bench.measurement.flops import FlopCounter

BATCH_SIZE = 32
Pool = Literal["first", "last", "mean"]
"""The hidden state of the first or the last token, or the mean over all tokens."""


def extract_features(
    lm: LM,
    rows: Sequence[list[int]],
    *,
    layer: float = 1.0,
    pool: Pool = "last",
    flop_counter: FlopCounter | None = None,
) -> Any:
    """Return hidden states of prompts as one vector each.

    A batch is halved whenever memory runs out.

    Args:
        lm: The model.
        rows: Token ids of the prompts.
        layer: Layer as a fraction of the depth: 0 for the embeddings, 1 for the last layer.
        pool: State of the first or the last token, or the mean over all tokens.
        flop_counter: Counts the operations of the first batch that fits.

    Returns:
        Float32 tensor (rows, width) on the CPU.
    """
    import torch

    def extract_batch(batch: Sequence[list[int]]) -> list[Any]:
        with flop_counter.count_once(sum(map(len, batch))) if flop_counter else nullcontext():
            return _batch_features(lm, batch, layer, pool)

    features: list[Any] = [None] * len(rows)
    lm.model.eval()
    for indices in lm.length_batches([len(row) for row in rows], BATCH_SIZE):
        batch_features = run_halving_on_oom(extract_batch, [rows[index] for index in indices])
        for index, row_features in zip(indices, batch_features, strict=True):
            features[index] = row_features
    return torch.stack(features)


def _batch_features(lm: LM, rows: Sequence[list[int]], layer: float, pool: Pool) -> list[Any]:
    """Return hidden states of prompts that the model reads together."""
    import torch

    # No real token attends to padding: it is masked, and for a decoder it lies in the future.
    with torch.no_grad():
        hidden_states = lm.model.base_model(**lm.model_inputs(rows), output_hidden_states=True).hidden_states
    layer_states = hidden_states[round(layer * (len(hidden_states) - 1))].float().cpu()
    features = []
    for row, token_states in zip(rows, layer_states, strict=True):
        # A layer that joins tokens has fewer states than the row has tokens; then no row is padded.
        real_states = token_states[-len(row) :] if lm.padding_side == "left" else token_states[: len(row)]
        features.append(real_states.mean(0) if pool == "mean" else real_states[0 if pool == "first" else -1])
    return features
