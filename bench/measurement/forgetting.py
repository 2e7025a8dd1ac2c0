"""Forgetting: the increase of a model's loss on general text, unrelated to the task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bench.measurement import general_text_cache
from bench.measurement.general_text import GeneralText
from bench.measurement.general_text_cache import CachedLoss, Windows
from bench.method import LM
from bench.records import Forgetting, Phase

WINDOW_TOKENS = 128
MAX_TEXT_TOKENS = 4_000


@dataclass(frozen=True)
class ForgettingProbe:
    """Windows of general text and the loss of the model on them before training."""

    text_sha256: str
    windows: Windows
    nats_before: float
    """Mean loss in nats per token."""
    key: str
    """Digest of the model and the text, under which the loss is kept for later runs."""
    earlier: CachedLoss | None = None
    """The loss as an earlier run has measured it; None if this run did."""
    text_name: str | None = None
    """Name of the user's file; None for the shipped text."""

    @classmethod
    def measure_before(cls, lm: LM, text: GeneralText) -> Self | None:
        """Measure the loss of the model as loaded, or take it from an earlier run.

        Args:
            lm: Model before training.
            text: The general text.

        Returns:
            The probe; None if the text has too few tokens.
        """
        windows = cut_windows(lm, text.texts)
        if not windows:
            return None
        key = general_text_cache.loss_key(lm, windows, text.sha256)
        earlier = general_text_cache.read(key)
        nats = earlier.nats if earlier else lm.evaluate_loss(windows)[0]
        return cls(text.sha256, windows, math.nan if nats is None else nats, key, earlier, text.name)

    def keep(self, started: str, phase: Phase) -> None:
        """Keep the loss for later runs, if this run has measured it.

        Args:
            started: Start of this run, ISO 8601, UTC.
            phase: What measuring the loss cost.
        """
        if self.earlier is None:
            general_text_cache.write(self.key, CachedLoss(nats=self.nats_before, measured=started, phase=phase))

    def measure_after(self, lm: LM) -> Forgetting:
        """Measure the loss of the trained model on the same windows."""
        tokens = sum(len(targets) for _, targets in self.windows)
        nats_after = lm.evaluate_loss(self.windows)[0]
        return Forgetting(
            text=self.text_name,
            text_sha256=self.text_sha256,
            tokens=tokens,
            nats_before=self.nats_before,
            nats_after=nats_after,
            before_measured=self.earlier.measured if self.earlier else None,
            before_cost=self.earlier.phase if self.earlier else None,
        )


def cut_windows(lm: LM, texts: Sequence[str]) -> Windows:
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
