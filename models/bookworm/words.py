"""Words that do not exist, so that names and labels have to be read where they stand; and marks on what matters."""

from random import Random

# An answer stands between these, and a title in it between these again; they never reach the model.
OPEN, CLOSE = "\ue000", "\ue001"
_SYLLABLES = (
    "가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누두루무부수우주추쿠투푸후"
    "기니디리미비시이지치키티피히남달별솔강산들봄길빛참온새한"
)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def made_up(rng: Random) -> str:
    """A short label: Korean or Latin syllables, a letter, a number."""
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))
    if kind < 0.8:
        return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))
    if kind < 0.9:
        return rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return str(rng.randint(1, 99))


def stress(text: str) -> str:
    """Mark a text as one that training shall stress."""
    return OPEN + text + CLOSE


def weigh(text: str) -> tuple[str, list[int]]:
    """A text without its marks, and for each of its characters within how many marks it stands."""
    letters, depths, depth = [], [], 0
    for letter in text:
        if letter in (OPEN, CLOSE):
            depth += 1 if letter == OPEN else -1
        else:
            letters.append(letter)
            depths.append(depth)
    return "".join(letters), depths
