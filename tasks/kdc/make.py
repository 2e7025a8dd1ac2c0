"""Write train, validation and test of kdc from topics.csv: `python tasks/kdc/make.py`; the same every time."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import ASIDES, CLOSINGS, THREE, TWO, resolve

HERE = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261124
TAUGHT = 0.6  # share of each class's topics that train may name
NEW = 0.5  # share of the topics of validation and test that train never names
ASIDE = 0.35  # share of the descriptions that mention a topic of another class

Topics = dict[str, list[str]]


class Told(NamedTuple):
    """A description, the class of its book, and the topics it names: its own, and perhaps a strange one."""

    text: str
    label: str
    own: tuple[str, ...]
    strange: str | None


def read_topics() -> Topics:
    """The topics of each class, but for those that give the class away."""
    topics: Topics = defaultdict(list)
    with (HERE / "topics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] not in row["topic"]:
                topics[row["class"]].append(row["topic"])
    return dict(topics)


def describe(rng: Random, label: str, known: Topics, new: Topics) -> Told:
    """A description of a book of this class; half of its topics are `new` ones, where there are any."""
    count = rng.choice((2, 2, 3))
    fresh = sum(rng.random() < NEW for _ in range(count)) if new[label] else 0
    own = [*rng.sample(new[label], fresh), *rng.sample(known[label], count - fresh)]
    rng.shuffle(own)
    text = rng.choice(TWO if count == 2 else THREE).format(*own)
    strange = None
    if rng.random() < ASIDE:
        strange = rng.choice(known[rng.choice([other for other in known if other != label])])
        text += " " + rng.choice(ASIDES).format(x=strange)
    return Told(resolve(f"{text} {rng.choice(CLOSINGS)}".strip()), label, tuple(own), strange)


def squeeze(text: str) -> str:
    """A text without spaces and punctuation, to tell whether two descriptions are the same."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Told]]:
    """The descriptions of each split, as many of each class; nothing said twice."""
    rng, topics, heard = Random(SEED), read_topics(), set[str]()
    mixed = {label: rng.sample(words, len(words)) for label, words in topics.items()}
    known = {label: words[: round(TAUGHT * len(words))] for label, words in mixed.items()}
    new = {label: words[round(TAUGHT * len(words)) :] for label, words in mixed.items()}
    splits: dict[str, list[Told]] = {}
    for split, size in SIZES.items():
        told = splits[split] = []
        while len(told) < size:
            label = list(topics)[len(told) % len(topics)]
            one = describe(rng, label, known, new if split != "train" else {label: []})
            if squeeze(one.text) not in heard:
                heard.add(squeeze(one.text))
                told.append(one)
        rng.shuffle(told)
    return splits


def make() -> dict[str, str]:
    """The content of each file."""
    return {
        f"{split}.jsonl": "".join(_line(split, *one) for one in enumerate(some, 1)) for split, some in draw().items()
    }


def _line(split: str, number: int, told: Told) -> str:
    row = {"id": f"kdc-{split}-{number:04}", "input": told.text, "target": told.label}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
