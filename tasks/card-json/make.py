"""Write the splits of card-json, deterministically: `python tasks/card-json/make.py`."""

import csv
import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import phrases

FOLDER = Path(__file__).parent
BOOKS_FILE = FOLDER.parent / "bookrec" / "books.csv"
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261123
ENGLISH_SHARE = 1 / 3  # share of the notes in English
DISTRACTOR_SHARE = 0.35  # share of the notes that also name another person or another day
MAX_TITLE_CHARS, MAX_TITLE_CHARS_EN = 14, 16  # longer titles are left out
ANSWER_KEYS = ("name", "title", "copies", "day", "act", "desk")

Date = tuple[int, int]  # month and day


class Event(NamedTuple):
    """An action at a desk; the answer states all fields but the last two, the distractors."""

    name: str
    title: str
    copies: int
    day: Date
    act: str
    desk: str
    other_name: str
    other_day: Date


class NamePool(NamedTuple):
    """The names and titles that a split draws from, in one language."""

    names: list[str]
    titles: list[str]


def read_books() -> list[dict[str, str]]:
    """Read books.csv of the task bookrec."""
    with BOOKS_FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def split_items(rng: Random, items: list[Any]) -> dict[str, list[Any]]:
    """Assign items to splits; train never draws half of the items of validation and of test."""
    rng.shuffle(items)
    train, held_out = items[: len(items) * 3 // 5], items[len(items) * 3 // 5 :]
    validation, test = held_out[: len(held_out) // 4], held_out[len(held_out) // 4 :]
    shares = {"train": train}
    for split, own_items in (("validation", validation), ("test", test)):
        shares[split] = own_items + rng.sample(train, len(own_items))
        rng.shuffle(shares[split])
    return shares


def draw_pools(rng: Random) -> dict[str, tuple[NamePool, NamePool]]:
    """Draw Korean and English names and titles by split; books are held out in both."""
    names = split_items(rng, ["".join(name) for name in product(phrases.SURNAMES, phrases.GIVEN)])
    names_en = split_items(rng, [" ".join(name) for name in product(phrases.FIRST, phrases.LAST)])
    books = split_items(rng, read_books())
    return {
        split: (
            NamePool(
                names[split], [book["title_ko"] for book in books[split] if len(book["title_ko"]) <= MAX_TITLE_CHARS]
            ),
            NamePool(
                names_en[split],
                [book["title_en"] for book in books[split] if len(book["title_en"]) <= MAX_TITLE_CHARS_EN],
            ),
        )
        for split in SIZES
    }


def draw_event(rng: Random, pool: NamePool, turn: int) -> Event:
    """Draw an action, with name and title number `turn`, and a distracting person and day."""
    name, title = pool.names[turn % len(pool.names)], pool.titles[turn % len(pool.titles)]
    other_name = rng.choice([candidate for candidate in pool.names if candidate != name])
    months, days = rng.sample(range(1, 13), 2), rng.sample(range(1, 29), 2)
    day, other_day = zip(months, days, strict=True)
    act, desk = rng.choice(list(phrases.DEEDS)), rng.choice(list(phrases.DESKS))
    return Event(name, title, rng.randint(1, 5), day, act, desk, other_name, other_day)


def write_note(rng: Random, event: Event) -> str:
    """Write the event in Korean, perhaps with a distractor, a greeting and a farewell."""
    text = rng.choice(phrases.TEXTS).format(
        who=event.name,
        what=rng.choice(("'{}'", "《{}》")).format(event.title),
        count=phrases.COUNTS[event.copies - 1],
        when=_date_ko(event.day),
        desk=phrases.DESKS[event.desk][0],
        did=rng.choice(phrases.VERBS[event.act]),
        deed=phrases.DEEDS[event.act],
    )
    distractors = {"other": event.other_name, "then": _date_ko(event.other_day)}
    return _add_sentences(rng, text, distractors, phrases.GREETINGS, phrases.CLAUSES, phrases.ASIDES, phrases.PARTINGS)


def write_note_en(rng: Random, event: Event) -> str:
    """Write the event in English, perhaps with a distractor, a greeting and a farewell."""
    text = rng.choice(phrases.TEXTS_EN).format(
        who=event.name,
        what=rng.choice(("{}", '"{}"')).format(event.title),
        count=phrases.COUNTS_EN[event.copies - 1],
        when=_date_en(rng, event.day),
        desk=phrases.DESKS[event.desk][1],
        did=rng.choice(phrases.VERBS_EN[event.act]),
        deed=phrases.DEEDS_EN[event.act],
    )
    distractors = {"other": event.other_name, "then": _date_en(rng, event.other_day)}
    text = text[0].upper() + text[1:]
    return _add_sentences(
        rng, text, distractors, phrases.GREETINGS_EN, phrases.CLAUSES_EN, phrases.ASIDES_EN, phrases.PARTINGS_EN
    )


def _date_ko(day: Date) -> str:
    return f"{day[0]}월 {day[1]}일"


def _date_en(rng: Random, day: Date) -> str:
    month = phrases.MONTHS_EN[day[0] - 1]
    return rng.choice((f"{month} {day[1]}", f"{day[1]} {month}"))


def _add_sentences(
    rng: Random,
    text: str,
    distractors: dict[str, str],
    greetings: tuple[str, ...],
    clauses: tuple[str, ...],
    asides: tuple[str, ...],
    partings: tuple[str, ...],
) -> str:
    parts = [text]
    if rng.random() < DISTRACTOR_SHARE:
        as_clause = rng.random() < 0.5
        parts.insert(0 if as_clause else 1, rng.choice(clauses if as_clause else asides).format(**distractors))
    if rng.random() < 0.4:
        parts.insert(0, rng.choice(greetings))
    if rng.random() < 0.4:
        parts.append(rng.choice(partings))
    return " ".join(parts)


def answer(event: Event, *, english: bool) -> str:
    """Return the JSON object on one line, with the nouns and codes of this task."""
    month, day = event.day
    deed = (phrases.DEEDS_EN if english else phrases.DEEDS)[event.act]
    values = event._asdict() | {"day": f"{month}-{day:02}", "act": deed}
    return json.dumps({key: values[key] for key in ANSWER_KEYS}, ensure_ascii=False)


def letters_and_digits(text: str) -> str:
    """Return a text without spaces and punctuation, to compare notes."""
    return "".join(filter(str.isalnum, text))


def draw_split(
    rng: Random, size: int, pools: tuple[NamePool, NamePool], seen_texts: set[str]
) -> list[tuple[str, Event]]:
    """Draw notes with their events, none of them in `seen_texts`, which they are added to."""
    notes: list[tuple[str, Event]] = []
    turns = [0, 0]
    while len(notes) < size:
        english = rng.random() < ENGLISH_SHARE
        turns[english] += 1
        event = draw_event(rng, pools[english], turns[english])
        text = (write_note_en if english else write_note)(rng, event)
        if letters_and_digits(text) not in seen_texts:
            seen_texts.add(letters_and_digits(text))
            notes.append((text, event))
    return notes


def draw() -> dict[str, list[tuple[str, Event]]]:
    """Draw the notes of each split with their events."""
    rng, seen_texts = Random(SEED), set[str]()
    pools = draw_pools(rng)
    return {split: draw_split(rng, size, pools[split], seen_texts) for split, size in SIZES.items()}


def make() -> dict[str, str]:
    """Return the content of each split file by its name."""
    return {
        f"{split}.jsonl": "".join(_json_line(split, number, note) for number, note in enumerate(notes, 1))
        for split, notes in draw().items()
    }


def _json_line(split: str, number: int, note: tuple[str, Event]) -> str:
    text, event = note
    row = {"id": f"card-json-{split}-{number:04}", "input": text, "target": answer(event, english=event.name.isascii())}
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
