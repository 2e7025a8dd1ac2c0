"""Whatever is said in one language is said in every other, with the same facts in it."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import bench
from bench import i18n
from bench.errors import UserError

ROOM = Path(bench.__file__).parent


def spoken() -> set[str]:
    """Every sentence that code or a page hands to `translate`."""
    found = set()
    for file in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "translate":
                if isinstance(node.args[0], ast.Name):  # str.translate with a table
                    continue
                found.add(ast.literal_eval(node.args[0]))
    for file in (ROOM / "report" / "templates").glob("*.*"):
        found |= set(re.findall(r'\btranslate\("([^"]+)"', file.read_text("utf-8")))
    return found


def facts(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


OTHERS = [language for language in i18n.languages() if language != "en"]


def test_korean_is_at_hand() -> None:
    assert "ko" in OTHERS


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_translated_and_no_translation_is_left_over(language: str) -> None:
    assert set(i18n.catalog(language)) == spoken()


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_same_facts(language: str) -> None:
    assert not {text: said for text, said in i18n.catalog(language).items() if facts(text) != facts(said)}


def test_a_language_that_is_not_at_hand_is_refused() -> None:
    with pytest.raises(UserError, match="--lang xx"):
        i18n.require_language("xx")
