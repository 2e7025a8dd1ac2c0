"""Write the splits of kdc from topics.csv, deterministically: `python tasks/kdc/make.py`."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import ASIDES, CLOSINGS, THREE_TOPICS, TWO_TOPICS, choose_particles

FOLDER = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261124
TRAIN_SHARE = 0.6  # share of the topics of each class that train may name
NEW_SHARE = 0.5  # share of the topics of validation and test that train never names
ASIDE_SHARE = 0.35  # share of the descriptions that mention a topic of another class

Topics = dict[str, list[str]]


class Description(NamedTuple):
    """A description of a book, its class and the topics that it names."""

    text: str
    label: str
    own_topics: tuple[str, ...]
    other_topic: str | None  # of another class


def read_topics() -> Topics:
    """Read topics.csv; topics that contain the name of their class are left out."""
    topics: Topics = defaultdict(list)
    with (FOLDER / "topics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] not in row["topic"]:
                topics[row["class"]].append(row["topic"])
    return dict(topics)


def draw_description(rng: Random, label: str, train_topics: Topics, new_topics: Topics) -> Description:
    """Draw a description of a book of this class.

    Args:
        rng: Source of random numbers.
        label: The class.
        train_topics: Topics of each class that train may name.
        new_topics: Topics of each class that train never names; about half of the topics are drawn from them, if any.
    """
    count = rng.choice((2, 2, 3))
    num_new = sum(rng.random() < NEW_SHARE for _ in range(count)) if new_topics[label] else 0
    own_topics = [*rng.sample(new_topics[label], num_new), *rng.sample(train_topics[label], count - num_new)]
    rng.shuffle(own_topics)
    text = rng.choice(TWO_TOPICS if count == 2 else THREE_TOPICS).format(*own_topics)
    other_topic = None
    if rng.random() < ASIDE_SHARE:
        other_topic = rng.choice(train_topics[rng.choice([other for other in train_topics if other != label])])
        text += " " + rng.choice(ASIDES).format(x=other_topic)
    return Description(
        choose_particles(f"{text} {rng.choice(CLOSINGS)}".strip()), label, tuple(own_topics), other_topic
    )


def letters_and_digits(text: str) -> str:
    """Return a text without spaces and punctuation, to compare descriptions."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Description]]:
    """Draw the descriptions of each split, the same number for each class, without duplicates."""
    rng, topics, seen_texts = Random(SEED), read_topics(), set[str]()
    shuffled = {label: rng.sample(class_topics, len(class_topics)) for label, class_topics in topics.items()}
    train_topics = {
        label: class_topics[: round(TRAIN_SHARE * len(class_topics))] for label, class_topics in shuffled.items()
    }
    new_topics = {
        label: class_topics[round(TRAIN_SHARE * len(class_topics)) :] for label, class_topics in shuffled.items()
    }
    splits: dict[str, list[Description]] = {}
    for split, size in SIZES.items():
        descriptions = splits[split] = []
        while len(descriptions) < size:
            label = list(topics)[len(descriptions) % len(topics)]
            description = draw_description(rng, label, train_topics, new_topics if split != "train" else {label: []})
            if letters_and_digits(description.text) not in seen_texts:
                seen_texts.add(letters_and_digits(description.text))
                descriptions.append(description)
        rng.shuffle(descriptions)
    return splits


def make() -> dict[str, str]:
    """Return the content of each split file by its name."""
    return {
        f"{split}.jsonl": "".join(
            _json_line(split, number, description) for number, description in enumerate(descriptions, 1)
        )
        for split, descriptions in draw().items()
    }


def _json_line(split: str, number: int, description: Description) -> str:
    row = {"id": f"kdc-{split}-{number:04}", "input": description.text, "target": description.label}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
