"""Translation of user-visible texts: English in the code, others in `i18n_*.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import yaml

from bench import units
from bench.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent
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
    return ["en", *sorted(file.stem.removeprefix("i18n_") for file in FOLDER.glob("i18n_*.yaml"))]


@lru_cache
def catalog(language: str) -> dict[str, str]:
    """Return the translation of each English sentence."""
    translations: dict[str, str] = yaml.safe_load((FOLDER / f"i18n_{language}.yaml").read_text("utf-8"))
    return translations


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
