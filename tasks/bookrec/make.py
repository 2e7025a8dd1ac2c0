"""Write train, validation and test of bookrec from books.csv: `python tasks/bookrec/make.py`; the same every time."""

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
    resolve,
)

HERE = Path(__file__).parent
SIZES = {"train": 1000, "validation": 200, "test": 500}
SEED = 20261121
RIVALS = 4  # other books at least that fit a request when its theme is set aside
BY_COLOUR = 0.7  # share of the requests that name the band and not the theme
ATTRIBUTES = ("country", "kind", "audience", "length", "era")
COLOUR_OF = {theme: colour for colour, theme in BANDS.items()}

Book = dict[str, str]
Wishes = dict[str, str]


class Asked(NamedTuple):
    """A request, the book it asks for, and the wishes it utters."""

    text: str
    book: Book
    wishes: Wishes


def read_books() -> list[Book]:
    """The catalogue, with the era of each book added."""
    with (HERE / "books.csv").open(encoding="utf-8", newline="") as file:
        return [book | {"era": _era(int(book["year"]))} for book in csv.DictReader(file)]


def _era(year: int) -> str:
    if year < 1900:
        return "옛날"
    return "전반" if year < 1950 else "후반" if year < 2000 else "최근"


def fits(book: Book, wishes: Wishes) -> bool:
    """Whether a book satisfies all wishes; its second theme counts too."""
    return all(
        value in (book["theme"], book["theme2"])
        if attribute == "theme"
        else book["author_ko"] != value
        if attribute == "not_by"
        else book[attribute] == value
        for attribute, value in wishes.items()
    )


def single_out(rng: Random, books: list[Book], book: Book) -> Wishes | None:
    """Wishes that only this book satisfies, and several without the theme; None if this draw finds none."""
    wishes = {"theme": book["theme"]}
    for attribute in rng.sample(ATTRIBUTES, len(ATTRIBUTES)):
        wishes[attribute] = book[attribute]
        rivals = [other for other in books if other is not book and fits(other, wishes)]
        authors = {rival["author_ko"] for rival in rivals}
        if len(authors) == 1 and book["author_ko"] not in authors and rng.random() < 0.3:
            wishes["not_by"] = authors.pop()
            rivals = []
        if not rivals and len(wishes) >= 3:
            spared = {attribute: value for attribute, value in wishes.items() if attribute != "theme"}
            return wishes if sum(fits(other, spared) for other in books) > RIVALS else None
    return None


def request(rng: Random, wishes: Wishes) -> str:
    """The wishes in words: some before a noun, some as sentences, with an opening and a closing."""
    banded = rng.random() < BY_COLOUR
    order = rng.sample(list(wishes), len(wishes))
    apart = [wish for wish in order if wish == "not_by" or rng.random() < 0.35]
    sentences = [_sentence(rng, wish, wishes[wish], banded) for wish in apart]
    rest = [wish for wish in order if wish not in apart]
    noun = rng.choice(KINDS[wishes["kind"]] if "kind" in rest else NOUNS)
    middle = " ".join([_modifier(rng, wish, wishes[wish], banded) for wish in rest if wish != "kind"] + [noun])
    cut = rng.randint(0, len(sentences))
    opening = [rng.choice(OPENINGS)] if rng.random() < 0.8 else []
    asked = [*opening, *sentences[:cut], f"{middle}, {rng.choice(CLOSINGS)}", *sentences[cut:]]
    return resolve(" ".join(asked))


def _modifier(rng: Random, attribute: str, value: str, banded: bool) -> str:
    if attribute == "theme" and banded:
        return rng.choice(BAND_PHRASES).format(COLOUR_OF[value])
    if attribute in ("length", "era"):
        return rng.choice((LENGTHS if attribute == "length" else ERAS)[value])
    word = rng.choice(READERS[value]) if attribute == "audience" else value
    return rng.choice(BEFORE_NOUN[attribute]).format(word)


def _sentence(rng: Random, attribute: str, value: str, banded: bool) -> str:
    if attribute == "theme" and banded:
        return rng.choice(BAND_SENTENCES).format(COLOUR_OF[value])
    words = {"kind": KINDS, "audience": READERS, "length": LENGTHS, "era": ERAS}.get(attribute, {}).get(value, (value,))
    return rng.choice(SENTENCES[attribute]).format(rng.choice(words))


def answer(book: Book, wishes: Wishes) -> str:
    """Subject heading, title and reason; the reason repeats, in a fixed order, the wishes that were uttered."""
    told = " ".join(book[attribute] for attribute in ("length", "country") if attribute in wishes)
    noun = book["kind"] if "kind" in wishes else "책"
    end = f"{book['audience']}에게 맞습니다" if "audience" in wishes else "권합니다"
    reason = f"{told + ' ' if told else ''}{noun}이라/라 {end}."
    return f"주제: {book['theme']} | 책: {book['title_ko']} | 이유: {resolve(reason)}"


def rationale(wishes: Wishes) -> str:
    """How a librarian of this house gets from the request to the book."""
    theme = wishes["theme"]
    said = {"era": ERAS[wishes["era"]][0].removesuffix("의")} if "era" in wishes else {}
    named = ", ".join((wishes | said)[wish] for wish in ("theme", *ATTRIBUTES) if wish in wishes)
    without = f" {wishes['not_by']} 책은 뺍니다." if "not_by" in wishes else ""
    return f"{COLOUR_OF[theme]} 띠는 {theme} 책입니다. 찾는 책은 {named}.{without}"


def squeeze(text: str) -> str:
    """A text without spaces and punctuation, to tell whether two requests are the same."""
    return "".join(filter(str.isalnum, text))


def shelves(rng: Random, books: list[Book]) -> dict[str, list[Book]]:
    """The books each split asks for: half of the books of test, and of validation, are never asked for in train."""
    known = [book for book in books if any(single_out(rng, books, book) for _ in range(60))]
    rng.shuffle(known)
    train = known[: len(known) * 3 // 5]
    held = known[len(train) :]
    validation, test = held[: len(held) // 4], held[len(held) // 4 :]
    return {
        "train": train,
        "validation": validation + rng.sample(train, len(validation)),
        "test": test + rng.sample(train, len(test)),
    }


def draw_split(rng: Random, size: int, books: list[Book], shelf: list[Book], used: set[str]) -> list[Asked]:
    """The requests of a split, for its books in turn; none in `used`, which grows."""
    asked: list[Asked] = []
    while len(asked) < size:
        book = shelf[len(asked) % len(shelf)]
        wishes = single_out(rng, books, book)
        text = request(rng, wishes) if wishes else ""
        if wishes and squeeze(text) not in used:
            used.add(squeeze(text))
            asked.append(Asked(text, book, wishes))
    rng.shuffle(asked)
    return asked


def draw() -> dict[str, list[Asked]]:
    """The requests of each split."""
    rng, books = Random(SEED), read_books()
    shelf, used = shelves(rng, books), set[str]()
    return {split: draw_split(rng, size, books, shelf[split], used) for split, size in SIZES.items()}


def make() -> dict[str, str]:
    """The content of each file."""
    return {
        f"{split}.jsonl": "".join(_line(split, *one) for one in enumerate(some, 1)) for split, some in draw().items()
    }


def _line(split: str, number: int, asked: Asked) -> str:
    row = {
        "id": f"bookrec-{split}-{number:04}",
        "input": asked.text,
        "target": answer(asked.book, asked.wishes),
        "rationale": rationale(asked.wishes),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in make().items():
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
