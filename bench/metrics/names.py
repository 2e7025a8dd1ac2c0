"""Names of the metrics that a task card may name."""

from __future__ import annotations

from collections.abc import Iterable

CORPUS_METRICS = ("macro-f1", "weighted-f1", "mcc", "balanced-accuracy")
"""Metrics of closed labels that all answers are needed for; `bench.records.corpus_metrics` computes them."""
CORPUS_TEXT_METRICS = ("bleu",)
"""Metrics of texts that all answers are needed for; `bench.records.ngrams` computes them."""
ANSWER_TEXT_METRICS = ("chrf", "rouge-1", "rouge-2", "rouge-l", "edit", "json-fields", "number")
"""Metrics of single answers that a card names; `bench.metrics.text` computes them."""
EVALUATE_PREFIX = "evaluate:"
"""Beginning of the name of a metric of the library `evaluate`."""


def is_text_metric(metric: str) -> bool:
    """Tell if a metric compares texts, and a card has to name it."""
    return metric in (*ANSWER_TEXT_METRICS, *CORPUS_TEXT_METRICS) or metric.startswith(EVALUATE_PREFIX)


def metric_of_single_answers(metric: str, scores: Iterable[str]) -> str:
    """Return the score that tells if a single answer is right.

    It is the main metric if answers have it. For a metric of all answers together it is `em`, or `f1` if that metric
    compares texts, and the first score of answers that have neither.

    Args:
        metric: The main metric.
        scores: Names of the scores of an answer.

    Raises:
        KeyError: There are no scores.
    """
    names = list(scores)
    if not names:
        raise KeyError(metric)
    stand_in = "f1" if is_text_metric(metric) else "em"
    return next((name for name in (metric, stand_in) if name in names), names[0])
