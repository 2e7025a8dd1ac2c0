"""Write train, validation and test of card-json: `python tasks/card-json/make.py`; the same every time."""

import csv
import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import phrases as words

HERE = Path(__file__).parent
BOOKS = HERE.parent / "bookrec" / "books.csv"
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261123
ENGLISH = 1 / 3  # share of the notes
MISLEADING = 0.35  # share of the notes that name another person or another day
LONGEST, LONGEST_EN = 14, 16  # characters of a title
KEYS = ("name", "title", "copies", "day", "act", "desk")

Day = tuple[int, int]


class Event(NamedTuple):
    """What happened at a desk; all but the last two are what the answer tells."""

    name: str
    title: str
    copies: int
    day: Day
    act: str
    desk: str
    other: str
    then: Day


class Shelf(NamedTuple):
    """The names and titles that a split draws from, in one language."""

    names: list[str]
    titles: list[str]


def read_books() -> list[dict[str, str]]:
    """The catalogue of the task bookrec."""
    with BOOKS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def share(rng: Random, things: list[Any]) -> dict[str, list[Any]]:
    """What each split draws from: half of what test, and validation, draw from is never drawn in train."""
    rng.shuffle(things)
    train, held = things[: len(things) * 3 // 5], things[len(things) * 3 // 5 :]
    validation, test = held[: len(held) // 4], held[len(held) // 4 :]
    shares = {"train": train}
    for split, own in (("validation", validation), ("test", test)):
        shares[split] = own + rng.sample(train, len(own))
        rng.shuffle(shares[split])
    return shares


def shelves(rng: Random) -> dict[str, tuple[Shelf, Shelf]]:
    """Korean and English names and titles for each split; a book is held back in both languages."""
    names = share(rng, ["".join(name) for name in product(words.SURNAMES, words.GIVEN)])
    names_en = share(rng, [" ".join(name) for name in product(words.FIRST, words.LAST)])
    books = share(rng, read_books())
    return {
        split: (
            Shelf(names[split], [book["title_ko"] for book in books[split] if len(book["title_ko"]) <= LONGEST]),
            Shelf(names_en[split], [book["title_en"] for book in books[split] if len(book["title_en"]) <= LONGEST_EN]),
        )
        for split in SIZES
    }


def draw_event(rng: Random, shelf: Shelf, turn: int) -> Event:
    """Something that happened at a desk, and a person and a day beside it; names and titles take turns."""
    name, title = shelf.names[turn % len(shelf.names)], shelf.titles[turn % len(shelf.titles)]
    other = rng.choice([one for one in shelf.names if one != name])
    months, days = rng.sample(range(1, 13), 2), rng.sample(range(1, 29), 2)
    day, then = zip(months, days, strict=True)
    act, desk = rng.choice(list(words.DEED)), rng.choice(list(words.DESKS))
    return Event(name, title, rng.randint(1, 5), day, act, desk, other, then)


def note(rng: Random, event: Event) -> str:
    """The event in Korean, with a clause or a sentence that misleads, or none, between courtesies."""
    told = rng.choice(words.TEXTS).format(
        who=event.name,
        what=rng.choice(("'{}'", "《{}》")).format(event.title),
        count=words.COUNTS[event.copies - 1],
        when=_korean(event.day),
        desk=words.DESKS[event.desk][0],
        did=rng.choice(words.DID[event.act]),
        deed=words.DEED[event.act],
    )
    beside = {"other": event.other, "then": _korean(event.then)}
    return _dress(rng, told, beside, words.GREETINGS, words.CLAUSES, words.ASIDES, words.PARTINGS)


def note_en(rng: Random, event: Event) -> str:
    """The event in English, likewise."""
    told = rng.choice(words.TEXTS_EN).format(
        who=event.name,
        what=rng.choice(("{}", '"{}"')).format(event.title),
        count=words.COUNTS_EN[event.copies - 1],
        when=_english(rng, event.day),
        desk=words.DESKS[event.desk][1],
        did=rng.choice(words.DID_EN[event.act]),
        deed=words.DEED_EN[event.act],
    )
    beside = {"other": event.other, "then": _english(rng, event.then)}
    told = told[0].upper() + told[1:]
    return _dress(rng, told, beside, words.GREETINGS_EN, words.CLAUSES_EN, words.ASIDES_EN, words.PARTINGS_EN)


def _korean(day: Day) -> str:
    return f"{day[0]}월 {day[1]}일"


def _english(rng: Random, day: Day) -> str:
    month = words.MONTHS_EN[day[0] - 1]
    return rng.choice((f"{month} {day[1]}", f"{day[1]} {month}"))


def _dress(rng: Random, told: str, beside: dict[str, str], *phrases: tuple[str, ...]) -> str:
    greetings, clauses, asides, partings = phrases
    parts = [told]
    if rng.random() < MISLEADING:
        before = rng.random() < 0.5
        parts.insert(0 if before else 1, rng.choice(clauses if before else asides).format(**beside))
    if rng.random() < 0.4:
        parts.insert(0, rng.choice(greetings))
    if rng.random() < 0.4:
        parts.append(rng.choice(partings))
    return " ".join(parts)


def answer(event: Event, *, english: bool) -> str:
    """The object on one line, in the words and codes of the house."""
    month, day = event.day
    deed = (words.DEED_EN if english else words.DEED)[event.act]
    told = event._asdict() | {"day": f"{month}-{day:02}", "act": deed}
    return json.dumps({key: told[key] for key in KEYS}, ensure_ascii=False)


def squeeze(text: str) -> str:
    """A text without spaces and punctuation, to tell whether two notes are the same."""
    return "".join(filter(str.isalnum, text))


def draw_split(rng: Random, size: int, shelf: tuple[Shelf, Shelf], used: set[str]) -> list[tuple[str, Event]]:
    """The notes of a split with their events; none in `used`, which grows."""
    told: list[tuple[str, Event]] = []
    turns = [0, 0]
    while len(told) < size:
        english = rng.random() < ENGLISH
        turns[english] += 1
        event = draw_event(rng, shelf[english], turns[english])
        text = (note_en if english else note)(rng, event)
        if squeeze(text) not in used:
            used.add(squeeze(text))
            told.append((text, event))
    return told


def draw() -> dict[str, list[tuple[str, Event]]]:
    """The notes of each split with their events."""
    rng, used = Random(SEED), set[str]()
    shelf = shelves(rng)
    return {split: draw_split(rng, size, shelf[split], used) for split, size in SIZES.items()}


def make() -> dict[str, str]:
    """The content of each file."""
    return {
        f"{split}.jsonl": "".join(_line(split, *one) for one in enumerate(some, 1)) for split, some in draw().items()
    }


def _line(split: str, number: int, told: tuple[str, Event]) -> str:
    text, event = told
    row = {"id": f"card-json-{split}-{number:04}", "input": text, "target": answer(event, english=event.name.isascii())}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
