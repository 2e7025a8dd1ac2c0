"""Metrics of single answers: chrF, ROUGE, edit similarity, JSON fields and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.metrics.short_answers import Normalizer, compose_text, normalize_text, split_units
from bench.metrics.structured import Tolerance, json_field_share, numbers_match


@dataclass(frozen=True)
class TextAnswer:
    """An answer and its references, as metrics of texts compare them."""

    text: str
    """The whole answer, trimmed."""
    references: Sequence[str]
    parsed: str | None
    """The part of the answer that the card's `answer` finds; None if there is none."""
    parsed_references: Sequence[str]
    normalize: Normalizer = "text"
    """Normalization of the texts in JSON fields."""
    tolerance: Tolerance | None = None
    """Difference by which a number may be wrong; None for equal numbers."""


def score_text_metrics(metrics: Iterable[str], answer: TextAnswer) -> dict[str, float]:
    """Return metrics of `bench.metrics.ANSWER_TEXT_METRICS` of one answer, each from 0 to 1.

    With several references each metric is the maximum over them.

    - `chrf`: chrF2 of sacrebleu, characters up to six at a time (Popović 2015).
    - `rouge-1`, `rouge-2`, `rouge-l`: F-measure of rouge-score (Lin 2004). Its units are those of `f1` with
      `normalize: text`: characters in scripts such as Hangul, and words in the others.
    - `edit`: 1 minus the Levenshtein distance in characters divided by the length of the longer text.
    - `json-fields`: see `bench.metrics.structured.json_field_share`.
    - `number`: 1 if the parsed part is the number of the reference, within the tolerance.

    The first three kinds compare whole answers in Unicode NFC without invisible characters and repeated white space;
    ROUGE ignores case, as `f1` does.

    Raises:
        KeyError: There is no such metric.
    """
    return {name: min(_METRICS[name](answer), 1.0) for name in metrics}


def _chrf(answer: TextAnswer) -> float:
    references = [compose_text(reference) for reference in answer.references]
    score: float = _chrf_scorer().sentence_score(compose_text(answer.text), references).score
    return score / 100


@cache
def _chrf_scorer() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _rouge(kind: str) -> Callable[[TextAnswer], float]:
    def compute(answer: TextAnswer) -> float:
        scores = _rouge_scorer(kind).score_multi(list(answer.references), answer.text)
        return float(scores[kind].fmeasure)

    return compute


class _UnitTokenizer:
    """Tokenizer of rouge-score that returns the units of `f1`."""

    def tokenize(self, text: str) -> list[str]:
        return list(split_units(normalize_text(text, "text"), "text"))


@cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_UnitTokenizer())


def _edit_similarity(answer: TextAnswer) -> float:
    from rapidfuzz.distance import Levenshtein

    text = compose_text(answer.text)
    return max(Levenshtein.normalized_similarity(text, compose_text(reference)) for reference in answer.references)


def _json_fields(answer: TextAnswer) -> float:
    if answer.parsed is None:
        return 0.0
    return max(json_field_share(answer.parsed, text, answer.normalize) for text in answer.parsed_references)


def _number(answer: TextAnswer) -> float:
    if answer.parsed is None:
        return 0.0
    parsed, tolerance = answer.parsed, answer.tolerance
    return float(any(numbers_match(parsed, text, tolerance) for text in answer.parsed_references))


_METRICS: dict[str, Callable[[TextAnswer], float]] = {
    "chrf": _chrf,
    "rouge-1": _rouge("rouge1"),
    "rouge-2": _rouge("rouge2"),
    "rouge-l": _rouge("rougeL"),
    "edit": _edit_similarity,
    "json-fields": _json_fields,
    "number": _number,
}
