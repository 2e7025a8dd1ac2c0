"""The books that the model learns, and counts of the books that satisfy conditions."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

BOOKS = Path(__file__).parents[2] / "tasks" / "bookrec" / "books.csv"
ATTRIBUTES = ("country", "kind", "theme", "audience", "length", "era")
EXCLUDED_AUTHOR = "not_by"  # the condition that the author is not this one

Condition = tuple[str, str]  # an attribute and the value it must have


@dataclass(frozen=True)
class Book:
    """A line of books.csv; the values are Korean words as in the file."""

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
        """Period of publication, one of four."""
        if self.year < 1900:
            return "옛날"
        if self.year >= 2000:
            return "최근"
        return "전반" if self.year < 1950 else "후반"

    def values_of(self, attribute: str) -> tuple[str, ...]:
        """Return the values of an attribute that this book satisfies; a book has up to two themes."""
        if attribute == "theme" and self.theme2:
            return self.theme, self.theme2
        return (str(getattr(self, attribute)),)


@dataclass(frozen=True)
class Library:
    """All books, with a bit mask of the matching books for each condition."""

    books: tuple[Book, ...]

    @cached_property
    def _masks(self) -> dict[Condition, int]:
        masks: dict[Condition, int] = {}
        for position, book in enumerate(self.books):
            for attribute in ATTRIBUTES:
                for value in book.values_of(attribute):
                    masks[attribute, value] = masks.get((attribute, value), 0) | 1 << position
            masks[EXCLUDED_AUTHOR, book.author_ko] = masks.get((EXCLUDED_AUTHOR, book.author_ko), 0) | 1 << position
        return masks

    def count_matching(self, conditions: Iterable[Condition]) -> int:
        """Return the number of books that satisfy all conditions."""
        matching = (1 << len(self.books)) - 1
        for wish in conditions:
            matching &= ~self._masks[wish] if wish[0] == EXCLUDED_AUTHOR else self._masks[wish]
        return matching.bit_count()


def load_library(path: Path = BOOKS) -> Library:
    """Read books.csv."""
    names = [field.name for field in fields(Book)]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: row[name] for name in names} for row in csv.DictReader(file)]
    return Library(tuple(Book(**row | {"year": int(row["year"])}) for row in rows))
