"""Exact match and F1 of short answers, normalized as SQuAD, KorQuAD or Korean text."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

Normalizer = Literal["squad", "korquad", "ko"]

_REMOVE_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_KORQUAD_QUOTES_TO_SPACES = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
# Korean texts also use these as quotation marks, but Unicode classifies them as symbols (S*) and not punctuation (P*).
_QUOTING_SYMBOLS = frozenset("<>＜＞≪≫`´｀❛❜❝❞⌜⌝")


def normalize_text(text: str, rule: Normalizer) -> str:
    """Remove differences that do not count in scoring, such as case and extra spaces.

    Args:
        text: The text.
        rule: `squad` as in the SQuAD v1.1 script (Rajpurkar et al. 2016), `korquad` as in the KorQuAD 1.0 script
            (Lim et al. 2019), or `ko`, which goes further for Korean: it composes Unicode (NFC) and removes the
            punctuation of all scripts.

    Raises:
        ValueError: There is no such rule.
    """
    if rule not in _NORMALIZERS:
        raise ValueError(f"unknown normalizer {rule!r}; valid: {', '.join(get_args(Normalizer))}")
    return " ".join(_NORMALIZERS[rule](text).split())


def score(prediction: str, references: str | Sequence[str], normalize: Normalizer) -> dict[str, float]:
    """Return exact match (`em`) and F1 (`f1`) of one answer, both from 0 to 1.

    F1 compares multisets: of words for `squad`, of characters without spaces for `korquad` and `ko`. Two texts that
    are empty after normalization match (1); an empty and a non-empty text do not (0).

    Args:
        prediction: The answer.
        references: One or more correct answers. Each score is the maximum over them, so `em` and `f1` may come
            from different references.
        normalize: Normalization of answer and references.

    Raises:
        ValueError: There is no reference, or no such normalizer.
    """
    reference_list = [references] if isinstance(references, str) else list(references)
    if not reference_list:
        raise ValueError("an answer cannot be scored without a reference")
    answer = normalize_text(prediction, normalize)
    reference_list = [normalize_text(reference, normalize) for reference in reference_list]
    split_units = _UNIT_SPLITTERS[normalize]
    return {
        "em": max(float(answer == reference) for reference in reference_list),
        "f1": max(_multiset_f1(split_units(answer), split_units(reference)) for reference in reference_list),
    }


def _normalize_squad(text: str) -> str:
    return _ARTICLES.sub(" ", text.lower().translate(_REMOVE_ASCII_PUNCTUATION))


def _normalize_korquad(text: str) -> str:
    return text.translate(_KORQUAD_QUOTES_TO_SPACES).lower().translate(_REMOVE_ASCII_PUNCTUATION)


def _normalize_ko(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    kept = (char for char in composed if unicodedata.category(char)[0] != "P" and char not in _QUOTING_SYMBOLS)
    return "".join(kept).casefold()


def _split_words(text: str) -> Sequence[str]:
    return text.split()


def _split_characters(text: str) -> Sequence[str]:
    return text.replace(" ", "")


_NORMALIZERS: dict[Normalizer, Callable[[str], str]] = {
    "squad": _normalize_squad,
    "korquad": _normalize_korquad,
    "ko": _normalize_ko,
}
_UNIT_SPLITTERS: dict[Normalizer, Callable[[str], Sequence[str]]] = {
    "squad": _split_words,
    "korquad": _split_characters,
    "ko": _split_characters,
}


def _multiset_f1(left: Sequence[str], right: Sequence[str]) -> float:
    """Return 2 |left ∩ right| / (|left| + |right|), the harmonic mean of precision and recall."""
    if not left or not right:
        return float(not left and not right)
    shared = (Counter(left) & Counter(right)).total()
    return 2 * shared / (len(left) + len(right))
