"""Change of the loss on general text, in words and columns; one column for each text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench import units
from bench.analysis.summary import MethodSummary
from bench.i18n import Translate, untranslated

MAX_PERCENT = 1_000_000
"""A larger rise of the perplexity is written as more than this."""


@dataclass(frozen=True)
class MeasuredText:
    """A general text on which some methods of a table were measured."""

    sha256: str
    name: str
    """Name of the user's file, with a part of its digest where others share it; or that of the shipped text."""

    def loss_change(self, row: MethodSummary) -> float | None:
        """Return the change of a method's loss on this text (nats per token), if measured."""
        return row.forgetting_nats if row.general_text_sha256 == self.sha256 else None


def measured_texts(rows: Sequence[MethodSummary], translate: Translate = untranslated) -> list[MeasuredText]:
    """Return the general texts on which methods were measured, that of the most methods first."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for row in rows:
        if row.forgetting_nats is not None and row.general_text_sha256 is not None:
            names[row.general_text_sha256] = row.general_text or translate("shipped text")
            counts[row.general_text_sha256] = counts.get(row.general_text_sha256, 0) + 1
    texts = list(names.values())
    return [
        MeasuredText(sha256, f"{names[sha256]} {sha256[:6]}" if texts.count(names[sha256]) > 1 else names[sha256])
        for sha256 in sorted(counts, key=lambda sha256: -counts[sha256])
    ]


def perplexity_change(nats: float) -> str:
    """Format exp(nats) - 1, the relative change of the perplexity, without its sign."""
    percent = abs(100 * math.expm1(min(nats, 100.0)))
    if percent > MAX_PERCENT:
        return f"> {MAX_PERCENT:,} %"
    return f"{percent:,.0f} %" if percent >= 10 or percent < 0.05 else f"{percent:.1f} %"


def format_loss_change(nats: float | None, translate: Translate = untranslated) -> str:
    """Format a change of the loss in nats and in per cent of perplexity; lower is better."""
    if nats is None:
        return units.UNMEASURED
    if nats < 0:
        return translate("better by {percent} ({nats} nats)", percent=perplexity_change(nats), nats=f"{-nats:.2f}")
    return f"{nats:+.2f} (+{perplexity_change(nats)})"


def describe_loss_change(name: str, nats: float, text: str, translate: Translate = untranslated) -> str:
    """Describe in a sentence what training has done to a method's model on a general text."""
    amounts = {"name": name, "text": text, "percent": perplexity_change(nats), "nats": f"{abs(nats):.2f}"}
    if nats < 0:
        return translate(
            "On general text ({text}) the model got better by training with {name}: perplexity {percent} lower "
            "({nats} nats per token).",
            **amounts,
        )
    return translate(
        "On general text ({text}) the model got worse by training with {name}: perplexity {percent} higher "
        "({nats} nats per token).",
        **amounts,
    )


def list_loss_changes(rows: Sequence[MethodSummary], translate: Translate = untranslated) -> list[str]:
    """Return a sentence for each general text with the changes of perplexity by method."""
    sentences = []
    texts = measured_texts(rows, translate)
    for number, text in enumerate(texts, start=1):
        changes = [(row.label, nats) for row in rows if (nats := text.loss_change(row)) is not None]
        parts = [
            translate("{name} better by {percent}", name=name, percent=perplexity_change(nats))
            if nats < 0
            else f"{name} +{perplexity_change(nats)}"
            for name, nats in changes
        ]
        sentences.append(
            translate(
                "Perplexity on general text ({text}): {changes}.",
                text=text.name if len(texts) == 1 else f"{number}: {text.name}",
                changes=", ".join(parts),
            )
        )
    if len(texts) > 1:
        sentences.append(translate("Changes on different texts are not comparable."))
    return sentences
