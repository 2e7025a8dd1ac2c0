"""Write train, validation and test of fruit-sums: `python tasks/fruit-sums/make.py`; the same every time."""

import json
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import ASIDES, FRUITS, GAINS, KIN, LOSSES, NAMES, QUESTIONS, STARTS

HERE = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261122
STEPS = 3
MOST = 40  # fruit in one place
ASIDE = 0.35  # share of the stories with a sentence that does not count

Changes = tuple[int, ...]


class Told(NamedTuple):
    """A story, the number it starts with, and what each step adds or takes."""

    text: str
    start: int
    changes: Changes


def draw_numbers(rng: Random, used: set[tuple[int, Changes]]) -> tuple[int, Changes]:
    """A start and its changes that keep within bounds and are not in `used`, which grows."""
    while True:
        start = rng.randint(3, 20)
        changes = tuple(rng.choice((1, -1)) * rng.randint(1, 9) for _ in range(STEPS))
        within = all(0 <= value <= MOST for value in values(start, changes))
        if within and (start, changes) not in used:
            used.add((start, changes))
            return start, changes


def values(start: int, changes: Changes) -> list[int]:
    """How many there are at first and after each change."""
    return list(accumulate(changes, initial=start))


def story(rng: Random, start: int, changes: Changes) -> str:
    """The numbers told as sentences about one fruit, some with an aside, and the question at the end."""
    fruit, other = rng.sample(FRUITS, 2)
    child, *people = [rng.choice(NAMES), *rng.sample(KIN, STEPS + 1)]
    gains, losses = rng.sample(GAINS, STEPS), rng.sample(LOSSES, STEPS)
    told = [rng.choice(STARTS).format(f=fruit, a=child, n=start)]
    for change, gain, loss, person in zip(changes, gains, losses, people, strict=False):
        told.append((gain if change > 0 else loss).format(f=fruit, p=person, n=abs(change)))
    if rng.random() < ASIDE:
        told.insert(rng.randint(1, len(told)), rng.choice(ASIDES).format(g=other, p=people[-1]))
    return " ".join([*told, rng.choice(QUESTIONS).format(f=fruit)])


def answer(start: int, changes: Changes) -> str:
    """The bare result in the words that the task asks for."""
    return f"답: {start + sum(changes)}개"


def rationale(start: int, changes: Changes) -> str:
    """The sum, step by step."""
    running = values(start, changes)
    steps = zip(running, changes, running[1:], strict=False)
    return ", ".join(f"{value} {'+' if change > 0 else '-'} {abs(change)} = {after}" for value, change, after in steps)


def squeeze(text: str) -> str:
    """A text without spaces and punctuation, to tell whether two stories are the same."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Told]]:
    """The stories of each split; no story twice, and no four numbers either."""
    rng, used, heard = Random(SEED), set[tuple[int, Changes]](), set[str]()
    splits: dict[str, list[Told]] = {}
    for split, size in SIZES.items():
        told = splits[split] = []
        while len(told) < size:
            start, changes = draw_numbers(rng, used)
            text = story(rng, start, changes)
            if squeeze(text) not in heard:
                heard.add(squeeze(text))
                told.append(Told(text, start, changes))
    return splits


def make() -> dict[str, str]:
    """The content of each file."""
    return {
        f"{split}.jsonl": "".join(_line(split, *one) for one in enumerate(some, 1)) for split, some in draw().items()
    }


def _line(split: str, number: int, told: Told) -> str:
    row = {
        "id": f"fruit-sums-{split}-{number:04}",
        "input": told.text,
        "target": answer(told.start, told.changes),
        "rationale": rationale(told.start, told.changes),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
