"""The books the model is to know, and which of them fit a set of wishes."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

BOOKS = Path(__file__).parents[2] / "tasks" / "bookrec" / "books.csv"
ATTRIBUTES = ("country", "kind", "theme", "audience", "length", "era")
NOT_BY = "not_by"  # a wish of its own: any author but this one

Wish = tuple[str, str]  # an attribute and the value it must have


@dataclass(frozen=True)
class Book:
    """One line of the catalogue; values are the Korean words that stand there."""

    title_ko: str
    title_en: str
    author_ko: str
    author_en: str
    country: str
    year: int
    kind: str
    theme: str
    theme2: str
    audience: str
    length: str
    kdc: str
    about_ko: str
    about_en: str

    @property
    def era(self) -> str:
        """The time it came out, in four steps."""
        if self.year < 1900:
            return "옛날"
        if self.year >= 2000:
            return "최근"
        return "전반" if self.year < 1950 else "후반"

    def wishes(self, attribute: str) -> tuple[str, ...]:
        """The values of an attribute that this book satisfies; a book has up to two themes."""
        if attribute == "theme" and self.theme2:
            return self.theme, self.theme2
        return (str(getattr(self, attribute)),)


@dataclass(frozen=True)
class Library:
    """All books, indexed by wish."""

    books: tuple[Book, ...]

    @cached_property
    def _masks(self) -> dict[Wish, int]:
        masks: dict[Wish, int] = {}
        for place, book in enumerate(self.books):
            for attribute in ATTRIBUTES:
                for value in book.wishes(attribute):
                    masks[attribute, value] = masks.get((attribute, value), 0) | 1 << place
            masks[NOT_BY, book.author_ko] = masks.get((NOT_BY, book.author_ko), 0) | 1 << place
        return masks

    def fitting(self, wishes: Iterable[Wish]) -> int:
        """How many books satisfy all wishes."""
        left = (1 << len(self.books)) - 1
        for wish in wishes:
            left &= ~self._masks[wish] if wish[0] == NOT_BY else self._masks[wish]
        return left.bit_count()


def load(path: Path = BOOKS) -> Library:
    """Read the catalogue."""
    names = [field.name for field in fields(Book)]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: row[name] for name in names} for row in csv.DictReader(file)]
    return Library(tuple(Book(**row | {"year": int(row["year"])}) for row in rows))
