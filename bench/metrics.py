"""Exact match and F1 of short answers, in the normalizations that SQuAD, KorQuAD and Korean text need."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

Normalizer = Literal["squad", "korquad", "ko"]

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_KORQUAD_QUOTES = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
# Writers quote with these too, but Unicode files them under symbols (S*), where a rule for P* does not see them.
_QUOTING_SYMBOLS = frozenset("<>＜＞≪≫`´｀❛❜❝❞⌜⌝")


def normalize_text(text: str, rule: Normalizer) -> str:
    """Strip `text` of what must not decide whether an answer is right.

    `squad` is the SQuAD v1.1 script (Rajpurkar et al. 2016), `korquad` the KorQuAD 1.0 script (Lim et al. 2019);
    `ko` goes further for Korean: one Unicode form (NFC) and no punctuation of any script.
    Raises ValueError for any other name.
    """
    if rule not in _RULES:
        raise ValueError(f"unknown normalizer {rule!r}; valid: {', '.join(get_args(Normalizer))}")
    return " ".join(_RULES[rule](text).split())


def score(prediction: str, references: str | Sequence[str], normalize: Normalizer) -> dict[str, float]:
    """Score one answer: `em` and `f1`, each from 0 to 1 and each the best over the references by itself.

    F1 is the overlap of multisets: of words for `squad`, of characters without spaces for `korquad` and `ko`.
    Two empty sides agree (1), an empty and a filled one do not (0).
    Raises ValueError for an unknown normalizer or when there is no reference.
    """
    golds = [references] if isinstance(references, str) else list(references)
    if not golds:
        raise ValueError("an answer cannot be scored without a reference")
    answer = normalize_text(prediction, normalize)
    golds = [normalize_text(gold, normalize) for gold in golds]
    units = _UNITS[normalize]
    return {
        "em": max(float(answer == gold) for gold in golds),
        "f1": max(_overlap(units(answer), units(gold)) for gold in golds),
    }


def _squad(text: str) -> str:
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION))


def _korquad(text: str) -> str:
    return text.translate(_KORQUAD_QUOTES).lower().translate(_ASCII_PUNCTUATION)


def _ko(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    kept = (char for char in composed if unicodedata.category(char)[0] != "P" and char not in _QUOTING_SYMBOLS)
    return "".join(kept).casefold()


def _words(text: str) -> Sequence[str]:
    return text.split()


def _characters(text: str) -> Sequence[str]:
    return text.replace(" ", "")


_RULES: dict[Normalizer, Callable[[str], str]] = {"squad": _squad, "korquad": _korquad, "ko": _ko}
_UNITS: dict[Normalizer, Callable[[str], Sequence[str]]] = {"squad": _words, "korquad": _characters, "ko": _characters}


def _overlap(left: Sequence[str], right: Sequence[str]) -> float:
    """F1 of two multisets: 2 |left ∩ right| / (|left| + |right|), the harmonic mean of precision and recall."""
    if not left or not right:
        return float(not left and not right)
    shared = (Counter(left) & Counter(right)).total()
    return 2 * shared / (len(left) + len(right))
