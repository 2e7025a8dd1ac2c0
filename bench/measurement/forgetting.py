"""Forgetting: the increase of a model's loss on general text, unrelated to the task."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.method import LM
from bench.records import Forgetting

WINDOW_TOKENS = 128
MAX_TEXT_TOKENS = 8_000

Windows = list[tuple[list[int], list[int]]]
"""Beginnings of texts: the first token, and the tokens to predict after it."""


@dataclass(frozen=True)
class ForgettingProbe:
    """Windows of general text and the loss of the model on them before training."""

    text_sha256: str
    windows: Windows
    nats_before: float
    """Mean loss in nats per token."""

    @classmethod
    def measure_before(cls, lm: LM, file: Path) -> Self | None:
        """Measure the loss of the model as loaded.

        Args:
            lm: Model before training.
            file: JSONL file with a `text` per line.

        Returns:
            The probe; None if the file holds no text.
        """
        content = file.read_bytes()
        texts = [json.loads(line)["text"] for line in content.splitlines() if line.strip()]
        windows = cut_windows(lm, texts)
        if not windows:
            return None
        return cls(hashlib.sha256(content).hexdigest(), windows, lm.evaluate_loss(windows)[0])

    def measure_after(self, lm: LM) -> Forgetting:
        """Measure the loss of the trained model on the same windows."""
        tokens = sum(len(targets) for _, targets in self.windows)
        nats_after = lm.evaluate_loss(self.windows)[0]
        return Forgetting(
            text_sha256=self.text_sha256, tokens=tokens, nats_before=self.nats_before, nats_after=nats_after
        )


def cut_windows(lm: LM, texts: list[str]) -> Windows:
    """Cut windows from the beginnings of texts, up to `MAX_TEXT_TOKENS` predicted tokens."""
    # Half of the context is left for the virtual tokens that some adapters put before the text.
    window_tokens = min(WINDOW_TOKENS, lm.context // 2)
    windows = Windows()
    remaining_tokens = MAX_TEXT_TOKENS
    for text in texts:
        ids = lm.tokens(text)[: min(window_tokens, remaining_tokens + 1)]
        if len(ids) > 1:
            windows.append((ids[:1], ids[1:]))
            remaining_tokens -= len(ids) - 1
    return windows
