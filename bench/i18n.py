"""What a reader is told, in the reader's language: English stands in the code, the others in `i18n_*.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import yaml

from bench.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent
Translate = Callable[..., str]
"""`translate("{name} leads", name="lora")`: the sentence in the reader's language, with the facts filled in."""


def untranslated(text: str, /, **facts: object) -> str:
    """The sentence as it stands in the code."""
    return text.format(**facts)


def translator(language: str) -> Translate:
    """Who says things in a language.

    A sentence without a translation, of a plot that somebody added, translate, stays English.
    """
    if language == "en":
        return untranslated
    known = catalog(language)
    return lambda text, /, **facts: known.get(text, text).format(**facts)


def require_language(language: str) -> str:
    """The language, or `UserError` where it is not at hand."""
    if language not in languages():
        raise UserError(f"--lang {language}: not at hand", hint=did_you_mean(language, languages()))
    return language


def languages() -> list[str]:
    """What `speaker` knows."""
    return ["en", *sorted(file.stem.removeprefix("i18n_") for file in FOLDER.glob("i18n_*.yaml"))]


@lru_cache
def catalog(language: str) -> dict[str, str]:
    """Each English sentence and what it is called in the language."""
    found: dict[str, str] = yaml.safe_load((FOLDER / f"i18n_{language}.yaml").read_text("utf-8"))
    return found


def escape_markdown(text: str) -> str:
    """Text that stays what it is in Markdown, also in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
