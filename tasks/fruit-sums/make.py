"""Write the splits of fruit-sums, deterministically: `python tasks/fruit-sums/make.py`."""

import json
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import ASIDES, FRUITS, GAINS, KIN, LOSSES, NAMES, QUESTIONS, STARTS

FOLDER = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261122
NUM_STEPS = 3
MAX_FRUIT = 40  # upper bound of every running total
ASIDE_SHARE = 0.35  # share of the stories with a sentence that is irrelevant to the result

Changes = tuple[int, ...]


class Story(NamedTuple):
    """A story, the initial number, and the signed change of each step."""

    text: str
    start: int
    changes: Changes


def draw_numbers(rng: Random, used_numbers: set[tuple[int, Changes]]) -> tuple[int, Changes]:
    """Draw a number and changes, not in `used_numbers`, which they are added to."""
    while True:
        start = rng.randint(3, 20)
        changes = tuple(rng.choice((1, -1)) * rng.randint(1, 9) for _ in range(NUM_STEPS))
        within = all(0 <= value <= MAX_FRUIT for value in running_totals(start, changes))
        if within and (start, changes) not in used_numbers:
            used_numbers.add((start, changes))
            return start, changes


def running_totals(start: int, changes: Changes) -> list[int]:
    """Return the initial number and the total after each change."""
    return list(accumulate(changes, initial=start))


def write_story(rng: Random, start: int, changes: Changes) -> str:
    """Write a story about one fruit: numbers, perhaps an irrelevant sentence, the question."""
    fruit, other = rng.sample(FRUITS, 2)
    child, *people = [rng.choice(NAMES), *rng.sample(KIN, NUM_STEPS + 1)]
    gains, losses = rng.sample(GAINS, NUM_STEPS), rng.sample(LOSSES, NUM_STEPS)
    sentences = [rng.choice(STARTS).format(f=fruit, a=child, n=start)]
    for change, gain, loss, person in zip(changes, gains, losses, people, strict=False):
        sentences.append((gain if change > 0 else loss).format(f=fruit, p=person, n=abs(change)))
    if rng.random() < ASIDE_SHARE:
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(ASIDES).format(g=other, p=people[-1]))
    return " ".join([*sentences, rng.choice(QUESTIONS).format(f=fruit)])


def answer(start: int, changes: Changes) -> str:
    """Return the result in the format of the task."""
    return f"답: {start + sum(changes)}개"


def rationale(start: int, changes: Changes) -> str:
    """Return the sums of all steps."""
    totals = running_totals(start, changes)
    steps = zip(totals, changes, totals[1:], strict=False)
    return ", ".join(f"{value} {'+' if change > 0 else '-'} {abs(change)} = {after}" for value, change, after in steps)


def letters_and_digits(text: str) -> str:
    """Return a text without spaces and punctuation, to compare stories."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Story]]:
    """Draw the stories of each split; no text and no sequence of numbers occurs twice."""
    rng, used_numbers, seen_texts = Random(SEED), set[tuple[int, Changes]](), set[str]()
    splits: dict[str, list[Story]] = {}
    for split, size in SIZES.items():
        stories = splits[split] = []
        while len(stories) < size:
            start, changes = draw_numbers(rng, used_numbers)
            text = write_story(rng, start, changes)
            if letters_and_digits(text) not in seen_texts:
                seen_texts.add(letters_and_digits(text))
                stories.append(Story(text, start, changes))
    return splits


def make() -> dict[str, str]:
    """Return the content of each split file by its name."""
    return {
        f"{split}.jsonl": "".join(_json_line(split, number, story) for number, story in enumerate(stories, 1))
        for split, stories in draw().items()
    }


def _json_line(split: str, number: int, story: Story) -> str:
    row = {
        "id": f"fruit-sums-{split}-{number:04}",
        "input": story.text,
        "target": answer(story.start, story.changes),
        "rationale": rationale(story.start, story.changes),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
