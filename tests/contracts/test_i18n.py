"""Every sentence has a translation into every language, with the same fields."""

from __future__ import annotations

import ast
import json
import pickle
import string
import tomllib
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir

import bench
from bench import i18n

PACKAGE = Path(bench.__file__).parent
KEYWORDS = {"translate": None, "Message": None}


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
    """Every sentence that Python code gives to `translate` and `Message`, by Python's own parser.

    Raises:
        ValueError: A sentence is put together at run time, so it cannot be translated.
    """
    sentences = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in KEYWORDS:
                if isinstance(node.args[0], ast.Name | ast.Attribute):  # str.translate, or the template of a Message
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


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko"}, "ko"),
        ({"LANG": "ko-KR"}, "ko"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": ""}, "ko"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "de:ko:en"}, "ko"),
        ({"LANG": "C", "LANGUAGE": "ko"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LANGUAGE": "en:ko"}, "en"),
    ],
)
def test_environment_language_follows_the_locale(variables: dict[str, str], language: str) -> None:
    assert i18n.environment_language(variables) == language


def test_message_is_english_text_and_translates_later() -> None:
    rows = i18n.Message("{number:,} rows", number=2)
    message = pickle.loads(pickle.dumps(i18n.Message("{rows} left out because {problem}: {places}",
        rows=rows, problem="blank", places="a.csv:2")))  # fmt: skip
    assert (message, json.dumps([message])) == (
        "2 rows left out because blank: a.csv:2",
        '["2 rows left out because blank: a.csv:2"]',
    )
    assert i18n.localize(message, i18n.translator("ko")) == "2개 행 제외, blank: a.csv:2"
    assert i18n.localize("2 rows", i18n.translator("ko")) == "2 rows"
