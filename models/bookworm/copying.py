"""Texts whose only sense is to be repeated: any character of Unicode, any Hangul syllable, all byte tokens."""

import sys
from random import Random

from words import made_up, stress

_PLANES = (
    (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x700), (0xE00, 0x1200),
    (0x2000, 0x2C00), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0x1F300, 0x1FA00),
)  # fmt: skip
_FRAMES = (
    "{0}\n{0}",
    "복사: {0} → {0}",
    "copy {0} = {0}",
    "{0}|{0}",
    "원문 {0}\n사본 {0}",
    "'{0}' '{0}'",
    "{0} {0} {0}",
)


def copying(rng: Random) -> str:
    """A short string, told twice or more."""
    draw = rng.choices((_ascii, _anything, _known_scripts, _hangul, _labels), (5, 4, 2, 3, 2))[0]
    text = "".join(draw(rng) for _ in range(rng.randint(2, 8)))
    return rng.choice(_FRAMES).replace("{0}", text, 1).replace("{0}", stress(text))


def echo(rng: Random) -> str:
    """A row of made-up words, told again and again: what comes next stands above."""
    row = " ".join(made_up(rng) for _ in range(rng.randint(6, 24)))
    between = rng.choice(("\n", "\n\n", " ", "; "))
    return row + stress((between + row) * rng.randint(1, 3))


def syllables(rng: Random) -> str:
    """Hangul syllables in runs that share a beginning, so that rare ones are met beside their neighbours."""
    first = 0xAC00 + 28 * rng.randrange(399)
    return " ".join(chr(first + rng.randrange(28)) + _hangul(rng) for _ in range(rng.randint(4, 12)))


def _ascii(rng: Random) -> str:
    return chr(rng.randrange(0x80))


def _anything(rng: Random) -> str:
    point = rng.choice(
        (rng.randrange(0x80, 0x800), rng.randrange(0x800, 0x10000), rng.randrange(0x10000, sys.maxunicode + 1))
    )
    return "�" if 0xD800 <= point < 0xE002 else chr(point)


def _known_scripts(rng: Random) -> str:
    return chr(rng.randrange(*rng.choice(_PLANES)))


def _hangul(rng: Random) -> str:
    return chr(rng.randrange(0xAC00, 0xD7A4))


def _labels(rng: Random) -> str:
    return made_up(rng) + rng.choice(("", " ", "-", "  "))
