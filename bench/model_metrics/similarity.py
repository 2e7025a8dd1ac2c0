"""Similarity of meaning: the cosine of two texts in the space of a sentence encoder.

It is high for texts on the same subject, also if one contradicts the other, so it says that an answer is near the
reference and not that it is right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.method import LM
from bench.modeling.hidden_states import Pool, extract_features

POOLING_FILE = "1_Pooling/config.json"
"""Where sentence-transformers keeps the pooling of a model."""
_POOLS: dict[str, Pool] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_tokens": "mean",
}


def similarities(encoder: LM, pool: Pool, answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return for each answer the cosine with its nearest reference.

    A negative one counts as 0. Texts without any character have no meaning to compare: an empty answer is 1 if a
    reference is empty, too, and 0 otherwise.

    Args:
        encoder: Encoder, as the checkpoint loads it.
        pool: Hidden states of the last layer that make the vector of a text.
        answers: Answers.
        references: Accepted answers to the question of each answer.

    Source: Reimers and Gurevych (2019), https://arxiv.org/abs/1908.10084.
    """
    texts = sorted({text.strip() for group in (answers, *references) for text in group} - {""})
    if not texts:
        return [float(any(not text.strip() for text in group)) for group in references]
    vectors = dict(zip(texts, _unit_vectors(encoder, pool, texts), strict=True))
    return [
        max(_cosine(vectors, answer.strip(), reference.strip()) for reference in group)
        for answer, group in zip(answers, references, strict=True)
    ]


def read_pool(folder: Path) -> Pool:
    """Return the pooling that sentence-transformers stored; the mean if there is none."""
    file = folder / POOLING_FILE
    if not file.is_file():
        return "mean"
    settings = json.loads(file.read_text("utf-8"))
    return next((pool for name, pool in _POOLS.items() if settings.get(name)), "mean")


def _unit_vectors(encoder: LM, pool: Pool, texts: Sequence[str]) -> Any:
    from torch.nn.functional import normalize

    rows = [encoder.encode(text, "")[0] for text in texts]
    return normalize(extract_features(encoder, rows, pool=pool), dim=-1)


def _cosine(vectors: dict[str, Any], answer: str, reference: str) -> float:
    if not answer or not reference:
        return float(answer == reference)
    return min(max(float(vectors[answer] @ vectors[reference]), 0.0), 1.0)
