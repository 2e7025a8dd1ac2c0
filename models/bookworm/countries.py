"""Countries and their capitals, in Korean and English."""

import csv
from pathlib import Path
from typing import NamedTuple

COUNTRIES_FILE = Path(__file__).parents[2] / "tasks" / "capitals" / "countries.csv"


class Country(NamedTuple):
    """A country and its capital."""

    name_ko: str
    name_en: str
    capital_ko: str
    capital_en: str


def read_countries() -> tuple[Country, ...]:
    """Read countries.csv."""
    with COUNTRIES_FILE.open(encoding="utf-8", newline="") as file:
        return tuple(Country(**row) for row in csv.DictReader(file))


COUNTRIES = read_countries()
ENGLISH_NAMES = {country.name_ko: country.name_en for country in COUNTRIES}
