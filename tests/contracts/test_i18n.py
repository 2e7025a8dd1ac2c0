"""Every sentence has a translation into every language, with the same fields."""

from __future__ import annotations

import ast
import string
import tomllib
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir

import bench
from bench import i18n
from bench.errors import UserError

PACKAGE = Path(bench.__file__).parent
KEYWORDS = {"translate": None}


def translated_sentences() -> set[str]:
    """Every sentence that Babel finds in code and templates, with the settings of `make translations`."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["tool"]["babel"]["mappings"]
    methods, options = [], {}
    for entry in settings:
        patterns = entry.pop("pattern")
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            methods.append((pattern, entry["method"]))
            options[pattern] = entry
    found = extract_from_dir(PACKAGE.parent, methods, options, KEYWORDS)
    return {message for _, _, message, *_ in found}


def sentences_in_code() -> set[str]:
    """Every sentence that Python code gives to `translate`, by Python's own parser.

    Raises:
        ValueError: A sentence is put together at run time, so it cannot be translated.
    """
    sentences = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "translate":
                if isinstance(node.args[0], ast.Name):  # str.translate with a table
                    continue
                sentences.add(ast.literal_eval(node.args[0]))
    return sentences


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


TRANSLATIONS = [language for language in i18n.languages() if language != "en"]


def test_languages_include_korean() -> None:
    assert "ko" in TRANSLATIONS


def test_extraction_finds_all_sentences_in_code() -> None:
    assert not sentences_in_code() - translated_sentences()


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_catalog_has_exactly_the_sentences_in_use(language: str) -> None:
    catalog, sentences = set(i18n.catalog(language)), translated_sentences()
    assert not sentences - catalog, "run `make translations` and fill in the empty translations"
    assert not catalog - sentences, "run `make translations`, which removes unused translations"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_catalog_translations_keep_the_fields(language: str) -> None:
    catalog = i18n.catalog(language)
    assert not {text: translation for text, translation in catalog.items() if fields(text) != fields(translation)}


def test_require_language_unknown_language_raises() -> None:
    with pytest.raises(UserError, match="--lang xx"):
        i18n.require_language("xx")
