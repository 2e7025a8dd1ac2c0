"""Translation of user-visible texts: English in the code, gettext catalogs in `locale`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from bench import units

LOCALE_FOLDER = Path(__file__).parent / "locale"
CATALOG_PATH = "LC_MESSAGES/bench.po"
Translate = Callable[..., str]
"""`translate("{name} leads", name="lora")` returns the sentence in one language with its fields filled in."""


def untranslated(text: str, /, **fields: object) -> str:
    """Fill in the fields of an English sentence."""
    return text.format(**fields)


class Message(str):
    """English sentence that is translated where it is printed; JSON and records keep it.

    Args:
        template: The English sentence with its fields in braces.
        fields: The values of the fields; a `Message` among them is translated, too.
    """

    template: str
    fields: dict[str, object]

    def __new__(cls, template: str, /, **fields: object) -> Message:
        """Fill in the fields in English."""
        fields = {name: _exception_text(value) for name, value in fields.items()}
        message = super().__new__(cls, template.format(**fields))
        message.template, message.fields = template, fields
        return message

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_message, (self.template, self.fields)


def _exception_text(value: object) -> object:
    """Return the text of an exception, which holds its traceback; any other value as it is."""
    if not isinstance(value, BaseException):
        return value
    text = value.args[0] if value.args else ""
    return text if isinstance(text, Message) and text == str(value) else literal(str(value))


def _restore_message(template: str, fields: dict[str, object]) -> Message:
    return Message(template, **fields)


def literal(text: str) -> Message:
    """Return a whole text, e.g. the summary of a method, as a message; a message as it is."""
    if isinstance(text, Message):
        return text
    template = escape_braces(text)
    return Message(template)


def escape_braces(text: str) -> str:
    """Return the template of a text without fields."""
    return text.replace("{", "{{").replace("}", "}}")


def join_messages(separator: str, parts: Iterable[str]) -> Message:
    """Join texts; each `Message` among them is translated, the separator too."""
    fields = {f"part{number}": part for number, part in enumerate(parts)}
    template = "{separator}".join(f"{{{name}}}" for name in fields)
    return Message(template, separator=separator, **fields)


def localize(text: str, translate: Translate) -> str:
    """Translate a text if it is a `Message`; any other text stays as it is."""
    if not isinstance(text, Message):
        return text
    fields = {
        name: localize(value, translate) if isinstance(value, str) else value for name, value in text.fields.items()
    }
    return translate(text.template, **fields)


def translator(language: str) -> Translate:
    """Return the function that translates into a language.

    A sentence without a translation, e.g. of a plot that a user added, stays English.
    """
    if language == "en":
        return untranslated
    translations = catalog(language)
    return lambda text, /, **fields: translations.get(text, text).format(**fields)


def environment_language(variables: Mapping[str, str] = os.environ) -> str:
    """Return the language of the locale, as gettext does; English if it has no catalog.

    The first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is not empty is the locale. `LANGUAGE` lists languages in the
    order of preference, which replace that of the locale unless the locale is C or POSIX.
    """
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((variables[name] for name in names if variables.get(name)), "C")
    if language_code(locale) in ("c", "posix"):
        return "en"
    preferred = [*filter(None, variables.get("LANGUAGE", "").split(":")), locale]
    return next((code for code in map(language_code, preferred) if code in languages()), "en")


def language_code(locale: str) -> str:
    """Return the language of a locale, e.g. `ko` of `ko_KR.UTF-8`."""
    return re.split(r"[-_.@]", locale.strip(), maxsplit=1)[0].lower()


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


AMOUNT_PROBLEMS = (
    Message("not an amount of memory such as 2GiB or 500MB"),
    Message("not a time such as 200ms, 90s, 10min or 2h"),
)
"""Errors of `bench.units`, which cannot make messages; listed here so that they have a translation."""


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
