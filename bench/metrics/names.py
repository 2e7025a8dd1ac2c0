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
SIMILARITY, JUDGE = "similarity", "judge"
MODEL_METRICS = (SIMILARITY, JUDGE)
"""Metrics of single answers by a model, which a card names after a colon; `bench.model_metrics` computes them."""


def split_model_metric(metric: str) -> tuple[str, str] | None:
    """Return metric and model of a name such as `similarity:FOLDER`; None for any other name."""
    name, _, model = metric.partition(":")
    return (name, model) if name in MODEL_METRICS and model else None


def score_name(metric: str) -> str:
    """Return the name that a metric of a card has among the scores of a record."""
    parts = split_model_metric(metric)
    return metric if parts is None else parts[0]


def is_text_metric(metric: str) -> bool:
    """Tell if a metric compares texts, and a card has to name it."""
    is_known = score_name(metric) in (*ANSWER_TEXT_METRICS, *CORPUS_TEXT_METRICS, *MODEL_METRICS)
    return is_known or metric.startswith(EVALUATE_PREFIX)


def metric_of_single_answers(metric: str, scores: Iterable[str]) -> str:
    """Return the score that tells if a single answer is right.

    It is the main metric if answers have it. For a metric of all answers together, or by a model, it is `em`, or `f1`
    if that metric compares texts, and the first score of answers that have neither.

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
