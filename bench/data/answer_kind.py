"""Kind of the answers of a task, which decides its main metric."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Literal

from bench.i18n import Message
from bench.metrics import canonical_number

MAX_LABELS = 20
MIN_ROWS_PER_LABEL = 5
MIN_SHARE = 0.95
"""Share of the rows whose answers have to be numbers, or JSON, for the task to be of that kind."""
MIN_SENTENCE_WORDS = 8
"""Median number of words from which answers are texts and not short answers; Korean words are longer and count more."""
MIN_SENTENCE_CHARS = 40
"""Median number of characters from which they are, for languages that write no spaces between words."""

MIN_IMBALANCE = 5.0
"""Rows of the most frequent label per row of the rarest from which labels count as strongly imbalanced.

Then em would lose at most a sixth of its value if no question of the rarest label were answered right, so the main
metric is macro-F1, which counts all labels alike.
"""

AnswerKind = Literal["labels", "numbers", "JSON", "short answers", "texts"]
METRICS: dict[AnswerKind, str] = {
    "labels": "em",
    "numbers": "em",
    "JSON": "em",
    "short answers": "em",
    "texts": "f1",
}
"""Main metric of a task by the kind of its answers; of strongly imbalanced labels it is macro-F1."""
KIND_WORDS: dict[AnswerKind, Message] = {
    "labels": Message("labels"),
    "numbers": Message("numbers"),
    "JSON": Message("JSON"),
    "short answers": Message("short answers"),
    "texts": Message("texts"),
}


def find_answer_kind(answer_counts: Counter[str]) -> AnswerKind:
    """Return the kind of answers.

    Args:
        answer_counts: Number of rows by answer; not empty.
    """
    if len(answer_counts) <= MAX_LABELS and min(answer_counts.values()) >= MIN_ROWS_PER_LABEL:
        return "labels"
    if _share(answer_counts, lambda answer: canonical_number(answer) is not None) >= MIN_SHARE:
        return "numbers"
    if _share(answer_counts, _is_json) >= MIN_SHARE:
        return "JSON"
    answers = list(answer_counts.elements())
    words = median(len(answer.split()) for answer in answers)
    chars = median(map(len, answers))
    return "texts" if words >= MIN_SENTENCE_WORDS or chars >= MIN_SENTENCE_CHARS else "short answers"


def choose_metric(kind: AnswerKind, answer_counts: Counter[str]) -> str:
    """Return the main metric that fits the answers."""
    if kind == "labels" and _imbalance(answer_counts) >= MIN_IMBALANCE:
        return "macro-f1"
    return METRICS[kind]


def describe_metric(kind: AnswerKind, answer_counts: Counter[str]) -> Message:
    """Say in a sentence which main metric fits the answers, and why."""
    match kind:
        case "labels" if choose_metric(kind, answer_counts) == "macro-f1":
            return Message(
                "main metric macro-f1, with em (accuracy) beside it: the most frequent label has {ratio:.0f} times as "
                "many rows as the rarest, so em would hardly tell if the rarest were never answered right",
                ratio=_imbalance(answer_counts),
            )
        case "labels":
            return Message("main metric em: the share of exactly right labels (accuracy), with macro-f1 beside it")
        case "numbers":
            return Message("main metric em: numbers are compared by value, so 1,000 equals 1000.0")
        case "JSON":
            return Message("main metric em: the whole JSON text has to be equal; f1 beside it counts equal parts")
        case "short answers":
            return Message(
                "main metric em: short answers have to be equal but for case, white space and a final full stop"
            )
        case "texts":
            words = median(len(answer.split()) for answer in answer_counts.elements())
            return Message(
                "main metric f1: the answers are texts (median {words:.0f} words), and exact match would call nearly "
                "every one wrong; f1 counts the words, in Korean the characters, that an answer shares with the "
                "reference. It does not judge if a reply is right: read the answers in bench report",
                words=words,
            )


def _imbalance(answer_counts: Counter[str]) -> float:
    """Return how many rows the most frequent answer has per row of the rarest."""
    return max(answer_counts.values()) / min(answer_counts.values())


def _share(answer_counts: Counter[str], has_kind: Callable[[str], bool]) -> float:
    """Return the share of the rows whose answer has a kind."""
    return sum(count for answer, count in answer_counts.items() if has_kind(answer)) / answer_counts.total()


def _is_json(text: str) -> bool:
    """Return True for a JSON object or array."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
