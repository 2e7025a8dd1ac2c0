"""Write the splits of capitals, deterministically: `python tasks/capitals/make.py`."""

import csv
import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import ANSWER_LABELS, QUESTIONS, choose_particles

FOLDER = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261125
TRAIN_SHARE = 0.6  # share of the countries that train asks about
NEW_SHARE = 0.5  # share of the questions of validation and test about countries that train never asks about
REVERSE_SHARE = 1 / 3  # share of the questions that give the capital and ask for the country

Country = dict[str, str]


class Question(NamedTuple):
    """A question about a country.

    `language` is `ko` or `en`; `wanted` is the kind of name that is asked for, `capital` or `country`.
    """

    text: str
    country: Country
    language: str
    wanted: str


def read_countries() -> list[Country]:
    """Read countries.csv."""
    with (FOLDER / "countries.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw_question(rng: Random, countries: list[Country], language: str) -> Question:
    """Draw a question about one of the countries."""
    country = rng.choice(countries)
    wanted = "country" if rng.random() < REVERSE_SHARE else "capital"
    given_name = country[f"{'capital' if wanted == 'country' else 'name'}_{language}"]
    return Question(
        choose_particles(rng.choice(QUESTIONS[language, wanted]).format(given_name)), country, language, wanted
    )


def answer(question: Question) -> str:
    """Return the label and the name in the format of this task."""
    name = question.country[f"{'name' if question.wanted == 'country' else 'capital'}_{question.language}"]
    return f"{ANSWER_LABELS[question.language, question.wanted]}={name};"


def letters_and_digits(text: str) -> str:
    """Return a text without spaces and punctuation, to compare questions."""
    return "".join(filter(str.isalnum, text))


def draw() -> dict[str, list[Question]]:
    """Draw the questions of each split, half in each language, without duplicates."""
    rng, countries, seen_texts = Random(SEED), read_countries(), set[str]()
    rng.shuffle(countries)
    num_train = round(TRAIN_SHARE * len(countries))
    train_countries, held_out = countries[:num_train], countries[num_train:]
    new_countries = {
        "train": train_countries,
        "validation": held_out[: len(held_out) // 4],
        "test": held_out[len(held_out) // 4 :],
    }
    splits: dict[str, list[Question]] = {}
    for split, size in SIZES.items():
        questions = splits[split] = []
        while len(questions) < size:
            pool = new_countries[split] if rng.random() < NEW_SHARE else train_countries
            question = draw_question(rng, pool, ("ko", "en")[len(questions) % 2])
            if letters_and_digits(question.text) not in seen_texts:
                seen_texts.add(letters_and_digits(question.text))
                questions.append(question)
        rng.shuffle(questions)
    return splits


def make() -> dict[str, str]:
    """Return the content of each split file by its name."""
    return {
        f"{split}.jsonl": "".join(_json_line(split, number, question) for number, question in enumerate(questions, 1))
        for split, questions in draw().items()
    }


def _json_line(split: str, number: int, question: Question) -> str:
    row = {"id": f"capitals-{split}-{number:04}", "input": question.text, "target": answer(question)}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
