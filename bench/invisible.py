"""Characters that nobody sees: which of them are spelling, and removal of the others."""

from __future__ import annotations

import re

# Zero-width joiners belong to some scripts and to emoji. Persian endings follow Latin letters and digits, so one
# neighbor in such a script is enough; between two Latin or Korean letters, or at the end of a word, they are a fault.
_OTHER_SCRIPT = r"[^\x00-\u024f\u200b-\u200f\uac00-\ud7a3]"
_STRAY_JOINER = (
    r"(?<!\S)[\u200c\u200d]|[\u200c\u200d](?!\S)"
    rf"|(?<!{_OTHER_SCRIPT})[\u200c\u200d](?!{_OTHER_SCRIPT})"
)
_STRAY_VOWEL_SEPARATOR = r"(?<![\u1820-\u18aa])\u180e"  # Mongolian writes it before the last vowel of some words
_CONTROLS = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u200b\u200e\u200f"
    r"\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb]"
)
FAULT = rf"{_CONTROLS}|{_STRAY_JOINER}|{_STRAY_VOWEL_SEPARATOR}"
"""Regular expression of an invisible character that is not spelling."""
_LINE_SEPARATORS = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_FLAG_OR_TAG = re.compile(r"(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e0fff]")
_REMOVED = re.compile(_CONTROLS)
_STRAY = re.compile(rf"{_STRAY_JOINER}|{_STRAY_VOWEL_SEPARATOR}")


def remove_invisible(text: str) -> str:
    """Remove the characters that nobody sees and that are not spelling.

    Zero-width joiners stay between letters of scripts that use them (Persian, Hindi) and within emoji, and so do the
    tags of the flags of regions. A separator of lines other than a line feed becomes a space, because it divides words.
    """
    text = _REMOVED.sub("", _LINE_SEPARATORS.sub(" ", text))
    text = _FLAG_OR_TAG.sub(lambda match: match[1] or "", text)
    # Without the first of two joiners the second may have become a stray one.
    while (without := _STRAY.sub("", text)) != text:
        text = without
    return text
