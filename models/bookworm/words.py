"""Invented words, and marks around text with a higher loss weight."""

from random import Random

# Marks enclose an answer, and inside it once more a title. They are removed before the model reads the text.
OPEN, CLOSE = "\ue000", "\ue001"
_SYLLABLES = (
    "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후"
    "기니디리미비시이지치키티피히남달별솔강산들봄길빛참온새한"
)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def invent_word(rng: Random) -> str:
    """Draw a short label: Korean or Latin syllables, a letter or a number."""
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))
    if kind < 0.8:
        return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))
    if kind < 0.9:
        return rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return str(rng.randint(1, 99))


def mark(text: str) -> str:
    """Enclose a text in marks, which raise its loss weight in training."""
    return OPEN + text + CLOSE


def strip_marks(text: str) -> tuple[str, list[int]]:
    """Return a text without marks, and the number of marks around each character."""
    characters, depths, depth = [], [], 0
    for character in text:
        if character in (OPEN, CLOSE):
            depth += 1 if character == OPEN else -1
        else:
            characters.append(character)
            depths.append(depth)
    return "".join(characters), depths
