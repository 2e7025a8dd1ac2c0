"""Translation of user-visible texts: English in the code, gettext catalogs in `locale`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from bench import units
from bench.errors import UserError, did_you_mean

LOCALE_FOLDER = Path(__file__).parent / "locale"
CATALOG_PATH = "LC_MESSAGES/bench.po"
Translate = Callable[..., str]
"""`translate("{name} leads", name="lora")` returns the sentence in one language with its fields filled in."""


def untranslated(text: str, /, **fields: object) -> str:
    """Fill in the fields of an English sentence."""
    return text.format(**fields)


def translator(language: str) -> Translate:
    """Return the function that translates into a language.

    A sentence without a translation, e.g. of a plot that a user added, stays English.
    """
    if language == "en":
        return untranslated
    translations = catalog(language)
    return lambda text, /, **fields: translations.get(text, text).format(**fields)


def require_language(language: str) -> str:
    """Return the language of `--lang`.

    Raises:
        UserError: There is no translation into the language.
    """
    if language not in languages():
        raise UserError(f"--lang {language}: language not available", hint=did_you_mean(language, languages()))
    return language


def languages() -> list[str]:
    """Return the codes of all available languages, English first."""
    return ["en", *sorted(file.parents[1].name for file in LOCALE_FOLDER.glob(f"*/{CATALOG_PATH}"))]


@lru_cache
def catalog(language: str) -> dict[str, str]:
    """Return the translation of each English sentence, unless it is empty or marked as fuzzy."""
    from babel.messages.pofile import read_po  # English needs no catalog, so it does not wait for this import

    with (LOCALE_FOLDER / language / CATALOG_PATH).open("rb") as file:
        messages = list(read_po(file, locale=language))
    usable = [message for message in messages if message.id and message.string and not message.fuzzy]
    return {str(message.id): str(message.string) for message in usable}


def format_duration(seconds: float | None, translate: Translate) -> str:
    """Format seconds in the unit with the fewest digits, e.g. `28 s`, in Korean `28초`."""
    text = units.format_seconds(seconds)
    number, _, unit = text.partition(" ")
    if unit == "ms":
        return translate("{number} ms", number=number)
    if unit == "s":
        return translate("{number} s", number=number)
    if unit == "min":
        return translate("{number} min", number=number)
    if unit == "h":
        return translate("{number} h", number=number)
    if unit == "d":
        return translate("{number} d", number=number)
    return text
