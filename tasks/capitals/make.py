"""Write train, validation and test of capitals from countries.csv: `python tasks/capitals/make.py`; always the same."""

import csv
import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import NAMES, QUESTIONS, resolve

HERE = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261125
TAUGHT = 0.6  # share of the countries that train asks about
NEW = 0.5  # share of the questions of validation and test about other countries
BACKWARDS = 1 / 3  # share of the questions that give the capital and ask for the country

Country = dict[str, str]


class Asked(NamedTuple):
    """A question in a language (`ko`, `en`) about a country, and whether its `capital` or the `country` is wanted."""

    text: str
    country: Country
    language: str
    wanted: str


def read_countries() -> list[Country]:
    """All lines of the table."""
    with (HERE / "countries.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ask(rng: Random, countries: list[Country], language: str) -> Asked:
    """A question about one of the countries."""
    country = rng.choice(countries)
    wanted = "country" if rng.random() < BACKWARDS else "capital"
    known = country[f"{'capital' if wanted == 'country' else 'name'}_{language}"]
    return Asked(resolve(rng.choice(QUESTIONS[language, wanted]).format(known)), country, language, wanted)


def answer(asked: Asked) -> str:
    """What is wanted and its name, the way this task writes it."""
    name = asked.country[f"{'name' if asked.wanted == 'country' else 'capital'}_{asked.language}"]
    return f"{NAMES[asked.language, asked.wanted]}={name};"


def squeeze(text: str) -> str:
    """A text without spaces and punctuation, to tell whether two questions are the same."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Asked]]:
    """The questions of each split, half in each language; none twice."""
    rng, countries, heard = Random(SEED), read_countries(), set[str]()
    rng.shuffle(countries)
    cut = round(TAUGHT * len(countries))
    taught, other = countries[:cut], countries[cut:]
    new = {"train": taught, "validation": other[: len(other) // 4], "test": other[len(other) // 4 :]}
    splits: dict[str, list[Asked]] = {}
    for split, size in SIZES.items():
        asked = splits[split] = []
        while len(asked) < size:
            pool = new[split] if rng.random() < NEW else taught
            one = ask(rng, pool, ("ko", "en")[len(asked) % 2])
            if squeeze(one.text) not in heard:
                heard.add(squeeze(one.text))
                asked.append(one)
        rng.shuffle(asked)
    return splits


def make() -> dict[str, str]:
    """The content of each file."""
    return {
        f"{split}.jsonl": "".join(_line(split, *one) for one in enumerate(some, 1)) for split, some in draw().items()
    }


def _line(split: str, number: int, asked: Asked) -> str:
    row = {"id": f"capitals-{split}-{number:04}", "input": asked.text, "target": answer(asked)}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
