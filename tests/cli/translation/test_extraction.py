"""Every help text and every summary of what ships is among the sentences to translate."""

from __future__ import annotations

import ast
import dataclasses
from typing import get_args

import pytest
import typer
from support import help_texts, parameter_helps

from bench import i18n, registry
from bench.cli import app
from bench.cli.translation import extraction

CATALOG = i18n.catalog("ko")


def has_translation(text: str) -> bool:
    return i18n.literal(text).template in CATALOG


def test_help_of_commands_and_options_has_a_translation() -> None:
    command = typer.main.get_command(app)
    texts = [text for help_text in help_texts(command).values() for text in help_text.split("\n\n")]
    texts += parameter_helps(command).values()
    assert not [text for text in texts if text and not has_translation(" ".join(text.split()))]


@pytest.mark.parametrize("kind", get_args(registry.Kind))
def test_summary_of_what_ships_has_a_translation(kind: registry.Kind) -> None:
    entries = registry.list_entries(kind).values()
    assert not [entry.summary for entry in entries if entry.origin == "shipped" and not has_translation(entry.summary)]


def test_help_of_hyper_parameters_has_a_translation() -> None:
    entries = registry.list_entries("methods").values()
    methods = [registry.find_method(entry.name) for entry in entries if not entry.is_family]
    helps = {field.metadata["help"] for method in methods for field in dataclasses.fields(method)}
    assert not [text for text in helps if not has_translation(text)]


def test_help_texts_finds_literals_constants_and_docstrings() -> None:
    source = '''
NAME = "by a constant"
def command(a=Option(help="literal"), b=param(1, help=NAME, show_default="automatic")) -> None:
    """Do it.

    Exit code:
    0 done.
    """
def read_command() -> str:
    """Return a text."""
'''
    found = [text for _, text in extraction.help_texts(ast.parse(source))]
    assert sorted(found) == sorted(["Do it.", "Exit code: 0 done.", "literal", "by a constant", "automatic"])
