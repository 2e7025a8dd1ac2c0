"""Texts to copy, with any character of Unicode, any Hangul syllable and all byte tokens."""

import sys
from random import Random

from words import invent_word, mark

_CODE_POINT_RANGES = (
    (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x700), (0xE00, 0x1200),
    (0x2000, 0x2C00), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0x1F300, 0x1FA00),
)  # fmt: skip
_COPY_TEMPLATES = (
    "{0}\n{0}",
    "복사: {0} → {0}",
    "copy {0} = {0}",
    "{0}|{0}",
    "원문 {0}\n사본 {0}",
    "'{0}' '{0}'",
    "{0} {0} {0}",
)


def draw_copies(rng: Random) -> str:
    """Draw a short string, written two or three times."""
    draw_part = rng.choices((_ascii, _any_character, _common_script, _hangul, _labels), (5, 4, 2, 3, 2))[0]
    text = "".join(draw_part(rng) for _ in range(rng.randint(2, 8)))
    return rng.choice(_COPY_TEMPLATES).replace("{0}", text, 1).replace("{0}", mark(text))


def draw_repeated_words(rng: Random) -> str:
    """Draw a row of invented words and repeat it one to three times."""
    words = " ".join(invent_word(rng) for _ in range(rng.randint(6, 24)))
    separator = rng.choice(("\n", "\n\n", " ", "; "))
    return words + mark((separator + words) * rng.randint(1, 3))


def draw_syllables(rng: Random) -> str:
    """Draw Hangul syllables in pairs; the first ones share their initial sounds."""
    first = 0xAC00 + 28 * rng.randrange(399)
    return " ".join(chr(first + rng.randrange(28)) + _hangul(rng) for _ in range(rng.randint(4, 12)))


def _ascii(rng: Random) -> str:
    return chr(rng.randrange(0x80))


def _any_character(rng: Random) -> str:
    code_point = rng.choice(
        (rng.randrange(0x80, 0x800), rng.randrange(0x800, 0x10000), rng.randrange(0x10000, sys.maxunicode + 1))
    )
    return "�" if 0xD800 <= code_point < 0xE002 else chr(code_point)


def _common_script(rng: Random) -> str:
    return chr(rng.randrange(*rng.choice(_CODE_POINT_RANGES)))


def _hangul(rng: Random) -> str:
    return chr(rng.randrange(0xAC00, 0xD7A4))


def _labels(rng: Random) -> str:
    return invent_word(rng) + rng.choice(("", " ", "-", "  "))
