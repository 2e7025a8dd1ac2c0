"""Write the splits of bookrec, deterministically: `python tasks/bookrec/make.py`."""

import csv
import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from phrases import (
    BAND_PHRASES,
    BAND_SENTENCES,
    BANDS,
    BEFORE_NOUN,
    CLOSINGS,
    ERAS,
    KINDS,
    LENGTHS,
    NOUNS,
    OPENINGS,
    READERS,
    SENTENCES,
    choose_particles,
)

FOLDER = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261121
MIN_RIVALS = 4  # minimum number of other books that satisfy a request without its theme
COLOR_SHARE = 0.7  # share of the requests that name the color of the band and not the theme
ATTRIBUTES = ("country", "kind", "audience", "length", "era")
COLOR_BY_THEME = {theme: color for color, theme in BANDS.items()}

Book = dict[str, str]
Conditions = dict[str, str]


class BookRequest(NamedTuple):
    """A request, the book that it asks for, and its conditions by attribute."""

    text: str
    book: Book
    conditions: Conditions


def read_books() -> list[Book]:
    """Read books.csv and add the era of each book."""
    with (FOLDER / "books.csv").open(encoding="utf-8", newline="") as file:
        return [book | {"era": _era(int(book["year"]))} for book in csv.DictReader(file)]


def _era(year: int) -> str:
    if year < 1900:
        return "옛날"
    return "전반" if year < 1950 else "후반" if year < 2000 else "최근"


def satisfies(book: Book, conditions: Conditions) -> bool:
    """Return True if a book satisfies all conditions; either of its two themes may match."""
    return all(
        value in (book["theme"], book["theme2"])
        if attribute == "theme"
        else book["author_ko"] != value
        if attribute == "not_by"
        else book[attribute] == value
        for attribute, value in conditions.items()
    )


def draw_conditions(rng: Random, books: list[Book], book: Book) -> Conditions | None:
    """Draw conditions that only this book satisfies.

    Returns:
        The conditions, or None if this draw failed. Without the theme, more than `MIN_RIVALS` books satisfy them.
    """
    conditions = {"theme": book["theme"]}
    for attribute in rng.sample(ATTRIBUTES, len(ATTRIBUTES)):
        conditions[attribute] = book[attribute]
        rivals = [other for other in books if other is not book and satisfies(other, conditions)]
        authors = {rival["author_ko"] for rival in rivals}
        if len(authors) == 1 and book["author_ko"] not in authors and rng.random() < 0.3:
            conditions["not_by"] = authors.pop()
            rivals = []
        if not rivals and len(conditions) >= 3:
            without_theme = {attribute: value for attribute, value in conditions.items() if attribute != "theme"}
            return conditions if sum(satisfies(other, without_theme) for other in books) > MIN_RIVALS else None
    return None


def write_request(rng: Random, conditions: Conditions) -> str:
    """Write the conditions as modifiers of a noun and as sentences."""
    by_color = rng.random() < COLOR_SHARE
    attributes = rng.sample(list(conditions), len(conditions))
    in_sentences = [attribute for attribute in attributes if attribute == "not_by" or rng.random() < 0.35]
    sentences = [_sentence(rng, attribute, conditions[attribute], by_color) for attribute in in_sentences]
    in_phrase = [attribute for attribute in attributes if attribute not in in_sentences]
    noun = rng.choice(KINDS[conditions["kind"]] if "kind" in in_phrase else NOUNS)
    phrase = " ".join(
        [_modifier(rng, attribute, conditions[attribute], by_color) for attribute in in_phrase if attribute != "kind"]
        + [noun]
    )
    cut = rng.randint(0, len(sentences))
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.8 else []
    parts = [*opening, *sentences[:cut], f"{phrase}, {rng.choice(CLOSINGS)}", *sentences[cut:]]
    return choose_particles(" ".join(parts))


def _modifier(rng: Random, attribute: str, value: str, by_color: bool) -> str:
    if attribute == "theme" and by_color:
        return rng.choice(BAND_PHRASES).format(COLOR_BY_THEME[value])
    if attribute in ("length", "era"):
        return rng.choice((LENGTHS if attribute == "length" else ERAS)[value])
    word = rng.choice(READERS[value]) if attribute == "audience" else value
    return rng.choice(BEFORE_NOUN[attribute]).format(word)


def _sentence(rng: Random, attribute: str, value: str, by_color: bool) -> str:
    if attribute == "theme" and by_color:
        return rng.choice(BAND_SENTENCES).format(COLOR_BY_THEME[value])
    words = {"kind": KINDS, "audience": READERS, "length": LENGTHS, "era": ERAS}.get(attribute, {}).get(value, (value,))
    return rng.choice(SENTENCES[attribute]).format(rng.choice(words))


def answer(book: Book, conditions: Conditions) -> str:
    """Return subject heading, title and reason; the reason repeats the conditions."""
    modifiers = " ".join(book[attribute] for attribute in ("length", "country") if attribute in conditions)
    noun = book["kind"] if "kind" in conditions else "책"
    ending = f"{book['audience']}에게 맞습니다" if "audience" in conditions else "권합니다"
    reason = f"{modifiers + ' ' if modifiers else ''}{noun}이라/라 {ending}."
    return f"주제: {book['theme']} | 책: {book['title_ko']} | 이유: {choose_particles(reason)}"


def rationale(conditions: Conditions) -> str:
    """Return the steps from the request to the book: theme of the band, conditions."""
    theme = conditions["theme"]
    era_text = {"era": ERAS[conditions["era"]][0].removesuffix("의")} if "era" in conditions else {}
    stated = ", ".join(
        (conditions | era_text)[attribute] for attribute in ("theme", *ATTRIBUTES) if attribute in conditions
    )
    exclusion = f" {conditions['not_by']} 책은 뺍니다." if "not_by" in conditions else ""
    return f"{COLOR_BY_THEME[theme]} 띠는 {theme} 책입니다. 찾는 책은 {stated}.{exclusion}"


def letters_and_digits(text: str) -> str:
    """Return a text without spaces and punctuation, to compare requests."""
    return "".join(filter(str.isalnum, text))


def assign_books(rng: Random, books: list[Book]) -> dict[str, list[Book]]:
    """Assign books to splits; half of the books of validation and of test are not in train."""
    usable = [book for book in books if any(draw_conditions(rng, books, book) for _ in range(60))]
    rng.shuffle(usable)
    train = usable[: len(usable) * 3 // 5]
    held_out = usable[len(train) :]
    validation, test = held_out[: len(held_out) // 4], held_out[len(held_out) // 4 :]
    return {
        "train": train,
        "validation": validation + rng.sample(train, len(validation)),
        "test": test + rng.sample(train, len(test)),
    }


def draw_split(
    rng: Random, size: int, books: list[Book], split_books: list[Book], seen_texts: set[str]
) -> list[BookRequest]:
    """Draw the requests of a split, none of them in `seen_texts`, which they are added to."""
    requests: list[BookRequest] = []
    while len(requests) < size:
        book = split_books[len(requests) % len(split_books)]
        conditions = draw_conditions(rng, books, book)
        text = write_request(rng, conditions) if conditions else ""
        if conditions and letters_and_digits(text) not in seen_texts:
            seen_texts.add(letters_and_digits(text))
            requests.append(BookRequest(text, book, conditions))
    rng.shuffle(requests)
    return requests


def draw() -> dict[str, list[BookRequest]]:
    """Draw the requests of each split."""
    rng, books = Random(SEED), read_books()
    books_by_split, seen_texts = assign_books(rng, books), set[str]()
    return {split: draw_split(rng, size, books, books_by_split[split], seen_texts) for split, size in SIZES.items()}


def make() -> dict[str, str]:
    """Return the content of each split file by its name."""
    return {
        f"{split}.jsonl": "".join(_json_line(split, number, request) for number, request in enumerate(requests, 1))
        for split, requests in draw().items()
    }


def _json_line(split: str, number: int, request: BookRequest) -> str:
    row = {
        "id": f"bookrec-{split}-{number:04}",
        "input": request.text,
        "target": answer(request.book, request.conditions),
        "rationale": rationale(request.conditions),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
