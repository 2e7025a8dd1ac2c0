"""Every sentence has a translation into every language, with the same fields."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import bench
from bench import i18n
from bench.errors import UserError

PACKAGE = Path(bench.__file__).parent


def translated_sentences() -> set[str]:
    """Every sentence that code or a template passes to `translate`."""
    sentences = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "translate":
                if isinstance(node.args[0], ast.Name):  # str.translate with a table
                    continue
                sentences.add(ast.literal_eval(node.args[0]))
    for file in (PACKAGE / "report" / "templates").glob("*.*"):
        sentences |= set(re.findall(r'\btranslate\("([^"]+)"', file.read_text("utf-8")))
    return sentences


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


TRANSLATIONS = [language for language in i18n.languages() if language != "en"]


def test_languages_include_korean() -> None:
    assert "ko" in TRANSLATIONS


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_catalog_has_exactly_the_sentences_in_use(language: str) -> None:
    assert set(i18n.catalog(language)) == translated_sentences()


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_catalog_translations_keep_the_fields(language: str) -> None:
    catalog = i18n.catalog(language)
    assert not {text: translation for text, translation in catalog.items() if fields(text) != fields(translation)}


def test_require_language_unknown_language_raises() -> None:
    with pytest.raises(UserError, match="--lang xx"):
        i18n.require_language("xx")
