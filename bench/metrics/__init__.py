"""Metrics of answers: exact match and F1, metrics of texts, and those of `evaluate`."""

from bench.metrics.names import (
    ANSWER_TEXT_METRICS,
    CORPUS_METRICS,
    CORPUS_TEXT_METRICS,
    EVALUATE_PREFIX,
    JUDGE,
    MODEL_METRICS,
    SIMILARITY,
    is_text_metric,
    metric_of_single_answers,
    score_name,
    split_model_metric,
)
from bench.metrics.short_answers import (
    Normalizer,
    canonical_number,
    is_emptied,
    label_key,
    match_label,
    matching_labels,
    normalize_text,
    score,
    split_units,
)

__all__ = [
    "ANSWER_TEXT_METRICS",
    "CORPUS_METRICS",
    "CORPUS_TEXT_METRICS",
    "EVALUATE_PREFIX",
    "JUDGE",
    "MODEL_METRICS",
    "SIMILARITY",
    "Normalizer",
    "canonical_number",
    "is_emptied",
    "is_text_metric",
    "label_key",
    "match_label",
    "matching_labels",
    "metric_of_single_answers",
    "normalize_text",
    "score",
    "score_name",
    "split_model_metric",
    "split_units",
]
