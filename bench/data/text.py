"""When two texts are the same, or nearly so, whatever their spelling; and what a reader of a text does not see."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NEAR, GRAM, WIDTH = 0.9, 5, 44
CHUNK = 256  # rows compared with all others at once, to bound the memory
# Punctuation to Unicode, but meaning in sums, code and names.
_MEANT = frozenset("*/&%#@\\_")
# Chinese and Japanese write no spaces, so only other letters have a word's edge; Korean particles follow without one.
_EDGED, _EDGED_BEHIND = r"[^\W_\u2e80-\uabff]", r"[^\W_\u2e80-\ud7af]"
_OTHER_SCRIPT = r"[^\x00-\u024f\uac00-\ud7a3]"
_BLEMISHES = {
    "white space at an end": r"\A\s|\s\Z",
    "tab": r"\t",
    "carriage return": r"\r",
    "doubled space": r"(?<=\S)[^\S\n]{2,}",
    "space at the end of a line": r"[^\S\n]\n",
    "unusual space": r"[\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f]",
    "invisible character": r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f"
    r"\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb]"
    # Zero-width joiners spell some scripts and emoji; beside Latin or Korean letters they are litter.
    rf"|(?<!{_OTHER_SCRIPT})[\u200c\u200d]|[\u200c\u200d](?!{_OTHER_SCRIPT})",
}


def match_key(text: str) -> str:
    """A text without case, spaces, punctuation and Unicode form; what keeps numbers apart stays."""
    composed = unicodedata.normalize("NFC", text)
    # Full-width letters are the same letters, but 10² is not 102.
    plain = "".join(c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in composed)
    folded = unicodedata.normalize("NFC", plain.casefold())
    return re.sub(r"[\W_]+", _gap, folded) or "".join(folded.split())


def form(text: str) -> str:
    """A text without case and without spaces, but for one between digits."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", folded).split())


def plain(text: str) -> str:
    """A text in NFC, with plain spaces and line ends, and nothing hidden in it."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[\t\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]", " ", text)
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    text = re.sub(r"(?<=\S) {2,}", " ", text)
    return re.sub(r" +\n", "\n", text).strip()


def blemish(text: str) -> tuple[str, int] | None:
    """The first kind of white space or hidden character that does not belong into a text, and where it stands."""
    for name, pattern in _BLEMISHES.items():
        if found := re.search(pattern, text):
            return name, found.start()
    return None if unicodedata.is_normalized("NFC", text) else ("not NFC", 0)


def find_answer(answer: str, text: str) -> int | None:
    """Where an answer stands in a text as words of its own; in Korean with or without particles behind it."""
    answer, text = unicodedata.normalize("NFC", answer), unicodedata.normalize("NFC", text)
    before = rf"(?<!{_EDGED})" if re.match(_EDGED, answer) else ""
    behind = rf"(?!{_EDGED_BEHIND})" if re.search(rf"{_EDGED_BEHIND}$", answer) else ""
    found = re.search(before + r"\s*".join(map(re.escape, answer.split())) + behind, text, re.IGNORECASE)
    return found.start() if found else None


def near_duplicates(texts: Sequence[tuple[str, str]]) -> dict[int, tuple[int, float]]:
    """For places in (group, text) that are near an earlier one of another group, not equal: the nearest, its cosine."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        vectors = TfidfVectorizer(analyzer="char", ngram_range=(GRAM, GRAM)).fit_transform(text for _, text in texts)
    except ValueError:  # no text is as long as a 5-gram
        return {}
    near: dict[int, tuple[int, float]] = {}
    for start in range(0, len(texts), CHUNK):
        cosines = (vectors[start : start + CHUNK] @ vectors.T).tocoo()
        close = cosines.data >= NEAR
        for row, there, cosine in zip(cosines.row[close], cosines.col[close], cosines.data[close], strict=True):
            here = start + int(row)
            (group, text), (other_group, other_text) = texts[here], texts[there]
            if there < here and group != other_group and text != other_text and cosine > near.get(here, (0, 0.0))[1]:
                near[here] = (int(there), float(cosine))
    return near


def excerpt(text: str, width: int = WIDTH, at: int = 0) -> str:
    """A part of a text in quotes, about `width` columns around a place; what cannot be seen stands as its code."""
    double = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    length = int(width / (1 + double / max(len(text), 1)))
    begin = max(0, min(at - length // 2, len(text) - length))
    part = text[begin : begin + length]
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in part)
    return f'"{"…" * (begin > 0)}{shown}{"…" * (begin + length < len(text))}"'


def _gap(found: re.Match[str]) -> str:
    """What stays of the characters between two words: symbols, and between or before digits their signs."""
    run, before, after = found[0], found.string[: found.start()][-1:], found.string[found.end() :][:1]
    signs = [char for char in run if not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf")]
    if before.isdigit() and after.isdigit():
        return "".join(signs) or " " * any(map(str.isspace, run))
    kept = "".join(char for char in signs if unicodedata.category(char)[0] != "P" or char in _MEANT)
    return kept + "-" * (after.isdigit() and run.endswith("-"))
