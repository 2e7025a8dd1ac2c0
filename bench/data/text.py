"""Normalized keys of texts, near duplicates, invisible characters, and excerpts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from bench import invisible
from bench.i18n import Message

NEAR_DUPLICATE_COSINE = 0.9
NGRAM_CHARS = 5
EXCERPT_COLUMNS = 44
ROWS_PER_CHUNK = 256  # rows compared with all others at once, which bounds the memory
# Unicode calls these punctuation, but they carry meaning in sums, code and names.
_MEANINGFUL_PUNCTUATION = frozenset("*/&%#@\\_")
# Chinese and Japanese write no spaces, so only other letters have word boundaries. Korean particles follow directly.
_WORD_START, _WORD_END = r"[^\W_\u2e80-\uabff]", r"[^\W_\u2e80-\ud7af]"
_PRIVATE_USE = re.compile(r"[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
_WHITE_SPACE_FAULTS = {
    "white space at an end": r"\A\s|\s\Z",
    "tab": r"\t",
    "carriage return": r"\r",
    "repeated space": r"(?<=\S)[^\S\n]{2,}",
    "space at the end of a line": r"[^\S\n]\n",
    "unusual space": r"[\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f]",
    "invisible character": invisible.FAULT,
}


def match_key(text: str) -> str:
    """Return a text without case, spaces, punctuation and Unicode form.

    Texts with the same key count as the same question. Signs and spaces between digits stay, because `1.5` is not `15`.
    """
    composed = unicodedata.normalize("NFC", text)
    # Full-width letters equal ordinary ones, but 10² is not 102.
    compatible = "".join(c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in composed)
    folded = unicodedata.normalize("NFC", compatible.casefold())
    return re.sub(r"[\W_]+", _keep_meaningful, folded) or "".join(folded.split())


def spelling_key(text: str) -> str:
    """Return a text without case and spaces, except a space between digits."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", folded).split())


def clean_text(text: str) -> str:
    """Return a text in NFC with plain white space, without stray invisible characters."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]", " ", text)
    text = _PRIVATE_USE.sub("", invisible.remove_invisible(text))
    text = unicodedata.normalize("NFC", text)  # Letters that an invisible character divided may compose now.
    text = re.sub(r"(?<=\S) {2,}", " ", text)
    return re.sub(r" +\n", "\n", text).strip()


def find_white_space_fault(text: str) -> tuple[str, int] | None:
    """Return the first fault in white space or invisible characters, and its position.

    None if the text has no such fault.
    """
    for name, pattern in _WHITE_SPACE_FAULTS.items():
        match = re.search(pattern, text)
        if match:
            return name, match.start()
    return None if unicodedata.is_normalized("NFC", text) else ("not NFC", 0)


def find_answer(answer: str, text: str) -> int | None:
    """Return the position of an answer in a text; None if the text does not contain it.

    The answer must stand as whole words; in Korean a particle may follow directly.
    """
    answer, text = unicodedata.normalize("NFC", answer), unicodedata.normalize("NFC", text)
    before = rf"(?<!{_WORD_START})" if re.match(_WORD_START, answer) else ""
    behind = rf"(?!{_WORD_END})" if re.search(rf"{_WORD_END}$", answer) else ""
    match = re.search(before + r"\s*".join(map(re.escape, answer.split())) + behind, text, re.IGNORECASE)
    return match.start() if match else None


def near_duplicates(texts: Sequence[tuple[str, str]]) -> dict[int, tuple[int, float]]:
    """Find texts that are nearly the same as an earlier text of another group, but not equal.

    Args:
        texts: Pairs of group and text.

    Returns:
        By the index of each such text: the index of the most similar earlier text, and their cosine similarity
        (character 5-grams, TF-IDF).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        vectors = TfidfVectorizer(analyzer="char", ngram_range=(NGRAM_CHARS, NGRAM_CHARS)).fit_transform(
            text for _, text in texts
        )
    except ValueError:  # every text is shorter than a 5-gram
        return {}
    near: dict[int, tuple[int, float]] = {}
    for start in range(0, len(texts), ROWS_PER_CHUNK):
        cosines = (vectors[start : start + ROWS_PER_CHUNK] @ vectors.T).tocoo()
        close = cosines.data >= NEAR_DUPLICATE_COSINE
        for row, earlier, cosine in zip(cosines.row[close], cosines.col[close], cosines.data[close], strict=True):
            index = start + int(row)
            (group, text), (other_group, other_text) = texts[index], texts[earlier]
            if earlier >= index or group == other_group or text == other_text:
                continue
            if cosine > near.get(index, (0, 0.0))[1]:
                near[index] = (int(earlier), float(cosine))
    return near


def excerpt(text: str, width: int = EXCERPT_COLUMNS, position: int = 0) -> str:
    """Return a part of a text in quotes, about `width` columns wide, around a position.

    Characters that cannot be printed are escaped.
    """
    num_wide_chars = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    length = int(width / (1 + num_wide_chars / max(len(text), 1)))
    begin = max(0, min(position - length // 2, len(text) - length))
    part = text[begin : begin + length]
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in part)
    return f'"{"…" * (begin > 0)}{shown}{"…" * (begin + length < len(text))}"'


def _keep_meaningful(match: re.Match[str]) -> str:
    """Return the meaningful ones of the characters between two words.

    These are symbols, and the signs between digits or before a digit.
    """
    run = match[0]
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    signs = [char for char in run if not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf")]
    if before.isdigit() and after.isdigit():
        return "".join(signs) or " " * any(map(str.isspace, run))
    kept = "".join(char for char in signs if unicodedata.category(char)[0] != "P" or char in _MEANINGFUL_PUNCTUATION)
    return kept + "-" * (after.isdigit() and run.endswith("-"))


def count_rows(number: int) -> Message:
    """Return a number with its noun: `1 row`, `1,200 rows`."""
    return Message("1 row") if number == 1 else Message("{number:,} rows", number=number)


def count_cells(number: int) -> Message:
    """Return a number with its noun: `1 cell`, `1,200 cells`."""
    return Message("1 cell") if number == 1 else Message("{number:,} cells", number=number)
