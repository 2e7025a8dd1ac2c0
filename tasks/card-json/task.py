"""How an answer of card-json is scored: as the object it is, not as the text it is written in."""

import json
from collections.abc import Sequence
from typing import Any

KEYS = frozenset({"name", "title", "copies", "day", "act", "desk"})
Pairs = frozenset[tuple[str, str]]


def score(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """Scores of one answer; em and f1 are each the best over the references."""
    said = pairs(prediction)
    wanted = [pairs(reference) for reference in references]
    keys = sorted(key for key, _ in said or ())
    return {
        "em": float(said is not None and said in wanted),
        "f1": max((_overlap(said or frozenset(), gold or frozenset()) for gold in wanted), default=0.0),
        "parsed": float(said is not None),
        "format": float(keys == sorted(KEYS) and len(prediction.strip().splitlines()) == 1),
    }


def pairs(text: str) -> Pairs | None:
    """The keys of a JSON object with their values in one spelling, in which 2, 2.0, "2" and true differ.

    None if the text as a whole is no JSON object, or one that gives a key twice.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
        if not isinstance(content, dict):
            return None
        return frozenset((key, json.dumps(value, sort_keys=True)) for key, value in content.items())
    except (ValueError, RecursionError):  # text without end or depth is no answer either
        return None


def _once(content: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(content)) < len(content):
        raise ValueError("a key is given twice")
    return dict(content)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _overlap(left: Pairs, right: Pairs) -> float:
    return 2 * len(left & right) / (len(left) + len(right)) if left and right else 0.0
