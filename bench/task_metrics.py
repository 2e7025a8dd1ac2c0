"""Checks of the metrics that a task card names, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.metrics import (
    ANSWER_TEXT_METRICS,
    CORPUS_METRICS,
    CORPUS_TEXT_METRICS,
    EVALUATE_PREFIX,
    MODEL_METRICS,
    split_model_metric,
)
from bench.metrics.evaluate_module import PERCENT_SUFFIX, EvaluateMetric, LoadedMetric
from bench.metrics.structured import read_json_fields, read_number
from bench.task_card import TaskCard, parse_answer
from bench.user_code import report_user_code

BLEU_TOKENS = 4
"""Tokens of the longest n-grams of BLEU; shorter answers have none of them."""


def check_metric_names(card: TaskCard, location: str, scores: Iterable[str]) -> None:
    """Check that there is every metric that a card names.

    Args:
        card: The card.
        location: File of the card.
        scores: Names of the scores that the task has in any case.

    Raises:
        UserError: A metric is unknown, or needs closed labels.
    """
    named = [("metric", card.metric), *(("metrics", metric) for metric in card.metrics)]
    names = [*scores, *ANSWER_TEXT_METRICS, *CORPUS_TEXT_METRICS, *(CORPUS_METRICS if card.labels else ())]
    for key, metric in named:
        if metric in names or metric.startswith(EVALUATE_PREFIX) or split_model_metric(metric):
            continue
        if metric.rstrip(":") in MODEL_METRICS:
            raise UserError(
                Message("key '{key}': '{metric}' needs a model", key=key, metric=metric),
                location=location,
                hint=Message("write {metric}:MODEL, with a folder or a name as of --model", metric=metric.rstrip(":")),
            )
        if metric in CORPUS_METRICS:
            raise UserError(
                Message(
                    "key '{key}': '{metric}' needs a task with labels, and this one has open answers",
                    key=key,
                    metric=metric,
                ),
                location=location,
                hint=Message("add labels: [first, second], or write metric: em"),
            )
        with_values = [f"{EVALUATE_PREFIX}NAME", *(f"{name}:MODEL" for name in MODEL_METRICS)]
        suggestion = did_you_mean(metric, [*names, *with_values])
        hint = Message("{suggestion}; or return it from score in task.py", suggestion=suggestion)
        raise UserError(
            Message("key '{key}': there is no score '{metric}'", key=key, metric=metric), location=location, hint=hint
        )


def check_text_references(card: TaskCard, metrics: Sequence[str], rows: Iterable[tuple[Sequence[str], str]]) -> None:
    """Check that right answers are what the metrics of a card compare.

    Args:
        card: The card.
        metrics: Metrics of texts that the card names, without those that `task.py` returns.
        rows: References of each question that is scored, and its location.

    Raises:
        UserError: A reference of `number` is no number, or one of `json-fields` no JSON object; or all are too short
            for `bleu`.
    """
    longest = 0
    for references, location in rows:
        for reference in references:
            parsed = parse_answer(card, reference) or reference
            if "number" in metrics and read_number(parsed) is None:
                problem = Message("metric number: the target '{text}' is no number", text=parsed)
                hint = Message(
                    "key 'answer' of task.yaml is a regular expression whose group is the number: (-?[0-9.,]+)"
                )
                raise UserError(problem, location=location, hint=hint)
            if "json-fields" in metrics and read_json_fields(parsed, card.normalize) is None:
                problem = Message("metric json-fields: the target '{text}' is no JSON object", text=parsed)
                raise UserError(problem, location=location, hint=Message('write an object: {{"key": "value"}}'))
        if "bleu" in metrics and longest < BLEU_TOKENS:
            longest = max(longest, *(_count_tokens(reference) for reference in references))
    if "bleu" in metrics and longest < BLEU_TOKENS:
        raise UserError(
            Message("metric bleu: all answers have fewer than four words, so that even right ones would have 0"),
            hint=Message("write chrf, which compares characters"),
        )


def load_evaluate_metrics(
    metrics: Sequence[str], folder: Path, references: Sequence[Sequence[str]], tried: Sequence[Sequence[str]]
) -> tuple[LoadedMetric, ...]:
    """Load the metrics of `evaluate` that a card names, and try them on right answers.

    Args:
        metrics: Metrics that the card names.
        folder: Folder of the task.
        references: References of all questions that are scored.
        tried: References of some test questions.

    Raises:
        UserError: A metric cannot be loaded or fails; it takes one reference, and a question has several; it is not
            from 0 to 1, or gives right answers less than wrong ones.
    """
    names = [name for name in metrics if name.startswith(EVALUATE_PREFIX)]
    location = str(folder / "task.yaml")
    parsed = [EvaluateMetric.parse(name) for name in names]
    loaded = tuple(metric.load(folder) for metric in parsed)
    for each in loaded:
        name = each.metric.name
        if not each.takes_lists and any(len(texts) > 1 for texts in references):
            raise UserError(
                Message("'{name}' takes one reference, and some questions have several", name=name),
                location=location,
                hint=Message("name a metric that takes lists, such as chrf, or call it in corpus_score of a task.py"),
            )
        _try_on_right_answers(each, tried, location)
    return loaded


def _try_on_right_answers(loaded: LoadedMetric, references: Sequence[Sequence[str]], location: str) -> None:
    """Check that a metric gives right answers a valid value, not lower than wrong ones."""
    name, right = loaded.metric.name, [texts[0] for texts in references]
    place = next((file for file in loaded.metric.scripts(Path(location).parent)), None)
    with report_user_code(
        place, Message("'{name}' fails on right answers", name=name), place=location, keep=(UserError,)
    ):
        value = loaded.compute(right, references)
        wrong_value = loaded.compute([*right[1:], right[0]], references)
    if not (math.isfinite(value) and 0 <= value <= 1):
        is_percentage = 1 < value <= 100 and not loaded.metric.is_percentage
        raise UserError(
            Message("'{name}' gives right answers {value:.4g}, which is not from 0 to 1", name=name, value=value),
            location=location,
            hint=Message("write {name}, which divides it by 100", name=f"{name}{PERCENT_SUFFIX}")
            if is_percentage
            else Message("call it in corpus_score of a task.py, which can convert its values"),
        )
    if wrong_value > value:
        raise UserError(
            Message(
                "'{name}' gives right answers {value:.4g} and wrong ones {wrong:.4g}; more must be better",
                name=name,
                value=value,
                wrong=wrong_value,
            ),
            location=location,
            hint=Message("return 1 minus the error from corpus_score in task.py"),
        )


def _count_tokens(text: str) -> int:
    from bench.metrics.bleu import count_ngrams

    return count_ngrams(text, [text])[0]
