"""Extraction of help texts and summaries for the catalogs."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from inspect import cleandoc
from pathlib import Path
from typing import IO, Any

from bench import registry
from bench.i18n import escape_braces

Found = tuple[int, Any, Any, Any]
"""Line, function, sentences and comments, as Babel expects them."""
HELP_KEYWORDS = ("help", "show_default")


def extract_python(
    file: IO[bytes], keywords: dict[str, Any], comment_tags: Collection[str], options: Any
) -> Iterator[Found]:
    """Yield what Babel finds, and the help of commands, options and hyper-parameters."""
    from babel.messages.extract import extract_python as babel_extract

    yield from babel_extract(file, keywords, comment_tags, options)
    file.seek(0)
    for line, text in help_texts(ast.parse(file.read())):
        yield line, None, escape_braces(text), []


def extract_method(
    file: IO[bytes], keywords: dict[str, Any], comment_tags: Collection[str], options: Any
) -> Iterator[Found]:
    """Yield what `extract_python` does, and the summary of a method."""
    yield from extract_python(file, keywords, comment_tags, options)
    if not Path(file.name).name.startswith("_"):
        yield 1, None, escape_braces(registry.describe_method(Path(file.name)).summary), []


def extract_summary(
    file: IO[bytes], keywords: dict[str, Any], comment_tags: Collection[str], options: Any
) -> Iterator[Found]:
    """Yield the summary of a task or a model, from its card or its README."""
    yield 1, None, escape_braces(registry.describe_folder(Path(file.name).parent).summary), []


def help_texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each help in a file, a paragraph at a time.

    These are the arguments `help` and `show_default`, also by the name of a constant of the file, and the docstrings of
    commands: functions that return None and have the name `command`, or one that ends in `_command`.
    """
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and _is_command(node):
            paragraphs = cleandoc(ast.get_docstring(node) or "").split("\n\n")
            yield from ((node.lineno, " ".join(paragraph.split())) for paragraph in paragraphs)
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                value = keyword.value
                if isinstance(value, ast.Name):
                    value = constants.get(value.id, value)
                if keyword.arg in HELP_KEYWORDS and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield node.lineno, value.value


def _is_command(node: ast.FunctionDef) -> bool:
    returns_none = isinstance(node.returns, ast.Constant) and node.returns.value is None
    return returns_none and (node.name == "command" or node.name.endswith("_command"))
