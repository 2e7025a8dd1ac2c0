"""What a model forgets while it adapts: its loss on general text that has nothing to do with the task."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.method import LM
from bench.records.record import Forgetting

WINDOW = 128
TOKENS = 8_000

Windows = list[tuple[list[int], list[int]]]


@dataclass(frozen=True)
class ForgettingProbe:
    """The windows that a model has read before it was adapted, and how well it did, in nats per token."""

    text_sha256: str
    windows: Windows
    nats: float

    @classmethod
    def before(cls, lm: LM, file: Path) -> Self | None:
        """What the model makes of the texts in a file of general text; None if there are none."""
        content = file.read_bytes()
        windows = cut(lm, [json.loads(line)["text"] for line in content.splitlines() if line.strip()])
        if not windows:
            return None
        return cls(hashlib.sha256(content).hexdigest(), windows, lm.evaluate_loss(windows)[0])

    def after(self, lm: LM) -> Forgetting:
        """What the adapted model makes of the very same windows."""
        tokens = sum(len(tail) for _, tail in self.windows)
        after = lm.evaluate_loss(self.windows)[0]
        return Forgetting(text_sha256=self.text_sha256, tokens=tokens, nats_before=self.nats, nats_after=after)


def cut(lm: LM, texts: list[str]) -> Windows:
    """The beginning of each text as its first token and those to be predicted, until there are enough of them."""
    # Half the context leaves room for what an adapted model puts before the text.
    window, windows, room = min(WINDOW, lm.context // 2), Windows(), TOKENS
    for text in texts:
        ids = lm.tokens(text)[: min(window, room + 1)]
        if len(ids) > 1:
            windows.append((ids[:1], ids[1:]))
            room -= len(ids) - 1
    return windows
