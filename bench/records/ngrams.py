"""Counts of BLEU of each answer of a run, and the score of any sums of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
from numpy.typing import NDArray

from bench.metrics.bleu import count_ngrams
from bench.task_card import trim_answer

NgramCounts = NDArray[numpy.float64]
"""Counts of `bench.metrics.bleu.count_ngrams` (questions, 10), or sums of them (sets, 10)."""


class AnsweredSample(Protocol):
    """A sample, as far as its texts are compared."""

    @property
    def references(self) -> Sequence[str]:
        """Accepted answers."""

    @property
    def raw(self) -> str:
        """Generated text."""


@dataclass(frozen=True)
class AnswerNgrams:
    """Rule by which the words of answers are compared with those of the references."""

    stop: tuple[str, ...]
    """Texts that end an answer."""

    def read_codes(self, samples: Iterable[AnsweredSample]) -> NgramCounts:
        """Return the counts of each sample.

        Raises:
            ValueError: A sample has no references.
        """
        counts = []
        for sample in samples:
            if not sample.references:
                raise ValueError("a sample without references cannot be compared")
            counts.append(count_ngrams(trim_answer(sample.raw, self.stop), sample.references))
        return numpy.array(counts, dtype=numpy.float64)


def bleu(counts: NgramCounts) -> NDArray[numpy.float64]:
    """Return BLEU from 0 to 1 of every set of answers, from the sums of their counts.

    It is that of sacrebleu: up to four tokens, brevity penalty, and n-grams without a match counted as a half, a
    quarter, … (smoothing `exp`). Source: Papineni et al. 2002, https://doi.org/10.3115/1073083.1073135; Post 2018,
    https://doi.org/10.18653/v1/W18-6319.

    Args:
        counts: Sums of counts (sets, 10). Smoothing depends on their size, so they are those of all questions.
    """
    length, reference_length, matches, totals = counts[:, 0], counts[:, 1], counts[:, 2:6], counts[:, 6:10]
    with numpy.errstate(divide="ignore", invalid="ignore"):
        brevity = numpy.where(length < reference_length, numpy.exp(1 - reference_length / length), 1.0)
        halvings = numpy.cumsum(matches == 0, axis=1)
        precisions = numpy.where(matches > 0, matches, 0.5**halvings) / totals
        score = brevity * numpy.exp(numpy.log(precisions).mean(axis=1))
    has_value = (length > 0) & (totals > 0).all(axis=1) & (matches > 0).any(axis=1)
    return numpy.where(has_value, numpy.minimum(score, 1.0), 0.0)
