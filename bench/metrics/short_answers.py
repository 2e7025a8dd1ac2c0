"""Exact match and F1 of short answers, normalized by one of four rules."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DecimalException
from functools import lru_cache
from typing import Literal, get_args

from bench.invisible import remove_invisible

Normalizer = Literal["text", "squad", "korquad", "ko"]

_REMOVE_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_KORQUAD_QUOTES_TO_SPACES = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
# Korean texts also use these as quotation marks, but Unicode classifies them as symbols (S*) and not punctuation (P*).
_QUOTING_SYMBOLS = frozenset("<>＜＞≪≫`´｀❛❜❝❞⌜⌝")

_QUOTES = ('""', "''", "``", "“”", "‘’", "„“", "‚‘", "«»", "‹›", "「」", "『』", "《》", "〈〉", "｢｣")
_MEANINGFUL_PUNCTUATION = "*/&%#@\\_"  # Unicode calls them punctuation, but they are part of C#, A* or 5%.
_FULL_STOPS = ".。．｡"
# A word processor writes a minus sign or an en dash for a hyphen; full-width and Arabic signs mean the same.
_NUMBER_SIGNS = str.maketrans("−–﹣－＋．，٫٬", "----+.,.,")
# Leading zeros are part of a name, a code or a telephone number, so such a text is no number.
_NUMBER = re.compile(r"[+-]?(?:(?P<whole>0|(?!0)\d{1,3}(?:,\d{3})+|(?!0)\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_KEPT_BY_TEXT_RULE = re.compile(r"[0-9A-Za-z가-힣]")
CHARACTER_SCRIPTS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that write words without spaces or with particles attached, so that their characters are compared."""
_CHARACTERS_AND_WORDS = re.compile(rf"[{CHARACTER_SCRIPTS}]|[^{CHARACTER_SCRIPTS}]+")


def normalize_text(text: str, rule: Normalizer) -> str:
    """Remove differences that do not count in scoring, such as case and extra spaces.

    Args:
        text: The text.
        rule: `text` keeps what can change the meaning: it ignores case, enclosing quotes, full stops at the end,
            invisible characters and the Unicode form, and writes a text that is wholly a number in one way
            (1,000 = 1000.0). The others remove more: `squad` as in the SQuAD v1.1 script (Rajpurkar et al. 2016),
            `korquad` as in the KorQuAD 1.0 script (Lim et al. 2019), and `ko`, which composes Unicode (NFC) and
            removes the punctuation of all scripts. `text` empties no text that can be seen; the others may.

    Raises:
        ValueError: There is no such rule.
    """
    if rule not in _NORMALIZERS:
        raise ValueError(f"unknown normalizer {rule!r}; valid: {', '.join(get_args(Normalizer))}")
    return " ".join(_NORMALIZERS[rule](text).split())


def score(
    prediction: str, references: str | Sequence[str], normalize: Normalizer, labels: Sequence[str] | None = None
) -> dict[str, float]:
    """Return exact match (`em`) and F1 (`f1`) of one answer, both from 0 to 1.

    F1 compares multisets: of words for `squad`, of characters without spaces for `korquad` and `ko`, and for `text`
    of characters in scripts such as Hangul or Chinese and of words in the others (as MLQA, Lewis et al. 2020). Two
    texts that are empty after normalization match (1); an empty and a non-empty text do not (0).

    Args:
        prediction: The answer.
        references: One or more correct answers. Each score is the maximum over them, so `em` and `f1` may come
            from different references.
        normalize: Normalization of answer and references.
        labels: All possible answers, if they are a closed set. With `text` an answer is then one of them or wrong,
            so `f1` equals `em` (see `match_label`); the other rules compare texts as without labels.

    Raises:
        ValueError: There is no reference, or no such normalizer.
    """
    reference_list = [references] if isinstance(references, str) else list(references)
    if not reference_list:
        raise ValueError("an answer cannot be scored without a reference")
    if labels is not None and normalize == "text":
        label = match_label(prediction, labels)
        is_correct = float(label is not None and label in reference_list)
        return {"em": is_correct, "f1": is_correct}
    answer = normalize_text(prediction, normalize)
    reference_list = [normalize_text(reference, normalize) for reference in reference_list]
    units = split_units(answer, normalize)
    return {
        "em": max(float(answer == reference) for reference in reference_list),
        "f1": max(_multiset_f1(units, split_units(reference, normalize)) for reference in reference_list),
    }


def match_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer names; None if it names none of them.

    An answer names the label with the same characters, or else the only label that is equal by the rule `text`:
    `positive.` names `Positive`, but not if there is a label `POSITIVE` too.
    """
    key, normalized = label_key(text, "text"), normalize_text(text, "text")
    for label in labels:
        if label_key(label, "text") == key:
            return label
    equal = [label for label in labels if normalize_text(label, "text") == normalized]
    return equal[0] if len(equal) == 1 else None


def matching_labels(answer: str, labels: Sequence[str], rule: Normalizer) -> list[int]:
    """Return the positions of the labels that an answer names, as `score` compares them.

    With `text` there is at most one (`match_label`). The other rules may name two labels that differ only in case or
    spaces.
    """
    if rule == "text":
        label = match_label(answer, labels)
        return [] if label is None else [list(labels).index(label)]
    normalized = normalize_text(answer, rule)
    return [position for position, label in enumerate(labels) if normalize_text(label, rule) == normalized]


def split_units(text: str, rule: Normalizer) -> Sequence[str]:
    """Return the units of a normalized text that F1 compares: words, characters or both."""
    return _UNIT_SPLITTERS[rule](text)


def is_emptied(text: str, rule: Normalizer) -> bool:
    """Return True if a rule leaves nothing of a text."""
    if rule == "text" and _KEPT_BY_TEXT_RULE.search(text):  # decides nearly all texts, without normalizing them
        return False
    return not normalize_text(text, rule)


def label_key(label: str, rule: Normalizer) -> str:
    """Return the part of a label that a rule compares; with `text` all its characters."""
    return compose_text(label) if rule == "text" else normalize_text(label, rule)


def canonical_number(text: str) -> str | None:
    """Return a text that is wholly a number in one spelling; None for any other text.

    Units, percent signs, dates, telephone numbers and leading zeros make a text that is no number.
    """
    number = "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text.translate(_NUMBER_SIGNS)
    )
    if not _NUMBER.fullmatch(number):
        return None
    exact = Context(prec=len(number), Emax=MAX_EMAX, Emin=MIN_EMIN)
    try:
        value = Decimal(number.replace(",", "")).normalize(exact)
    except DecimalException:  # the exponent is too large
        return None
    return str(value) if value else "0"


@lru_cache(maxsize=1024)
def _normalize_text(text: str) -> str:
    text = compose_text(text)
    trimmed = text
    while (shorter := _remove_quotes(trimmed).rstrip(_FULL_STOPS).strip()) != trimmed and shorter:
        trimmed = shorter
    number = canonical_number(trimmed)
    return unicodedata.normalize("NFC", trimmed.casefold()) if number is None else number


@lru_cache(maxsize=1024)
def compose_text(text: str) -> str:
    """Return a text in NFC with plain white space, without stray invisible characters."""
    composed = unicodedata.normalize("NFC", remove_invisible(unicodedata.normalize("NFC", text)))
    return " ".join(composed.split())


def _remove_quotes(text: str) -> str:
    """Return a text without the pair of quotes that encloses all of it."""
    is_enclosed = len(text) > 2 and text[0] + text[-1] in _QUOTES
    inner = text[1:-1]
    return inner if is_enclosed and not {text[0], text[-1]} & {*inner} else text


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


def _split_characters_and_words(text: str) -> Sequence[str]:
    """Return the units of F1 for `text`: numbers, words, and characters of some scripts."""
    units: list[str] = []
    for word in text.split():
        inner = _remove_edge_punctuation(word)
        number = canonical_number(word) or canonical_number(inner)
        units += [number] if number is not None else _CHARACTERS_AND_WORDS.findall(inner)
    return units


def _remove_edge_punctuation(word: str) -> str:
    """Return a word without punctuation at its ends; signs, decimal points and `...` stay."""
    begin, end = 0, len(word)
    while begin < end and _is_edge_punctuation(word[begin]):
        if canonical_number(word[begin:end]) or (word[begin] in "-–" and word[begin + 1 : begin + 2].isdigit()):
            break
        begin += 1
    while begin < end and _is_edge_punctuation(word[end - 1]):
        end -= 1
    return word[begin:end] or word


def _is_edge_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] == "P" and char not in _MEANINGFUL_PUNCTUATION


def _split_characters(text: str) -> Sequence[str]:
    return text.replace(" ", "")


_NORMALIZERS: dict[Normalizer, Callable[[str], str]] = {
    "text": _normalize_text,
    "squad": _normalize_squad,
    "korquad": _normalize_korquad,
    "ko": _normalize_ko,
}
_UNIT_SPLITTERS: dict[Normalizer, Callable[[str], Sequence[str]]] = {
    "text": _split_characters_and_words,
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
