"""Every sentence has a translation into every language, with the same fields."""

from __future__ import annotations

import ast
import json
import pickle
import re
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir

import bench
from bench import i18n

PACKAGE = Path(bench.__file__).parent
CODE = sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "methods").glob("*.py")])
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
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in KEYWORDS:
                if isinstance(node.args[0], ast.Name | ast.Attribute):  # str.translate, or the template of a Message
                    continue
                sentences.add(ast.literal_eval(node.args[0]))
    return sentences


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


ERRORS = {"UserError", "StorageError", "UserCodeError", "HubUnreachable", "EmptyValueError", "error_class"}
COMMAND = re.compile(r"(--|bench |pip |python |mkdir |accelerate |memory=|num_processes:|use_cpu:|[{\[])")
PROSE = re.compile("[,;:] | or | and | for | with | to ")
"""Hints that are only something to type have no translation: they begin as commands do, and hold no prose."""


def english_texts(node: ast.expr, scope: ast.AST) -> Iterator[str]:
    """Texts in an argument that are not a `Message`, also by the name of a variable of the same function or module."""
    if isinstance(node, ast.IfExp):
        yield from english_texts(node.body, scope)
        yield from english_texts(node.orelse, scope)
    elif isinstance(node, ast.Name):
        for statement in ast.walk(scope):
            is_value = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == node.id
            if is_value and not isinstance(statement.value, ast.Name):
                yield from english_texts(statement.value, scope)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def is_command(text: str) -> bool:
    return bool(COMMAND.match(text)) and not PROSE.search(text)


def errors_without_translation(tree: ast.Module) -> list[str]:
    """Problems and hints of errors that are English only."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = []
    for scope in [*functions, tree]:
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                hints = [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
                found += [text for problem in node.args[:1] for text in english_texts(problem, scope)]
                found += [text for hint in hints for text in english_texts(hint, scope) if not is_command(text)]
    return [text for text in found if re.search("[a-z]{2}", text)]


TRANSLATIONS = [language for language in i18n.languages() if language != "en"]


def test_languages_include_korean() -> None:
    assert "ko" in TRANSLATIONS


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(PACKAGE.parent)))
def test_errors_in_code_are_messages(file: Path) -> None:
    assert not errors_without_translation(ast.parse(file.read_bytes())), "give Message(…) to the error"


@pytest.mark.parametrize(
    "error",
    [
        'UserError("not found")',
        'UserError(f"{name} not found")',
        'UserError(Message("not found"), hint="use another name")',
        'UserError(Message("not found") if name else "no name")',
    ],
)
def test_errors_without_translation_finds_english_texts(error: str) -> None:
    assert errors_without_translation(ast.parse(f"def check(name):\n    raise {error}"))
    assert errors_without_translation(ast.parse(f"def check(name):\n    error = {error}\n    raise error"))


def test_errors_without_translation_finds_the_text_of_a_variable() -> None:
    assert errors_without_translation(
        ast.parse('def check():\n    problem = "not found"\n    raise UserError(problem)')
    )
    assert not errors_without_translation(ast.parse('raise UserError(Message("no seed"), hint="--seeds 3")'))


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


def test_message_with_an_exception_holds_its_text() -> None:
    plain = i18n.Message("cannot be read: {problem}", problem=OSError("busy"))
    own = i18n.Message("cannot be read: {problem}", problem=ValueError(i18n.Message("not UTF-8")))
    assert (plain.fields, str(own)) == ({"problem": "busy"}, "cannot be read: not UTF-8")
    assert i18n.localize(own, i18n.translator("ko")) == "읽을 수 없음: UTF-8이 아닙니다"


def test_join_messages_translates_each_part_and_the_separator() -> None:
    joined = i18n.join_messages(i18n.Message(" or "), [i18n.Message("valid"), "{x}", i18n.Message("has errors")])
    assert joined == "valid or {x} or has errors"
    assert i18n.localize(joined, i18n.translator("ko")) == "유효함 또는 {x} 또는 오류 있음"
