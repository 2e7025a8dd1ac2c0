"""Help and usage errors of typer in the language of the command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import cleandoc
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from bench.cli.options import language, localize
from bench.i18n import Message, literal

WORDS = {
    "ARGUMENTS_PANEL_TITLE": Message("Arguments"),
    "OPTIONS_PANEL_TITLE": Message("Options"),
    "COMMANDS_PANEL_TITLE": Message("Commands"),
    "ERRORS_PANEL_TITLE": Message("Error"),
    "DEFAULT_STRING": Message("[default: {{}}]"),
    "REQUIRED_LONG_STRING": Message("[required]"),
    "RICH_HELP": Message("Try [blue]'{{command_path}} {{help_option}}'[/] for help."),
}
"""Constants of `typer.rich_utils`, which typer translates by a gettext domain that other programs share."""
OWN_OPTIONS = (
    Message("Install completion for the current shell."),
    Message("Show completion for the current shell, to copy it or customize the installation."),
    Message("Show this message and exit."),
)
"""Help of the options that typer adds; listed here so that they have a translation."""
USAGE_ERRORS = (
    Message("Missing command."),
    Message("Missing option {name}.", name=""),
    Message("Missing argument {name}.", name=""),
    Message("No such command {name}. Did you mean {names}?", name="", names=""),
    Message("No such command {name}.", name=""),
    Message("No such option: {name} (Possible options: {names})", name="", names=""),
    Message("No such option: {name}", name=""),
    Message("Option {name} requires an argument.", name=""),
    Message("Option {name} does not take a value.", name=""),
    Message("Got unexpected extra argument(s) ({values})", values=""),
    Message("Invalid value for {name}: {problem}", name="", problem=""),
    Message("Value error, {problem}", problem=""),
    Message("{value} is not one of {names}.", value="", names=""),
    Message("Input should be greater than or equal to {limit}", limit=""),
    Message("Input should be less than or equal to {limit}", limit=""),
    Message("Input should be a valid integer, unable to parse string as an integer"),
    Message("Input should be a valid number, unable to parse string as a number"),
)
"""Messages of typer, and of pydantic for values of options; a longer one stands before its beginning."""


def recognize(text: str) -> Message:
    """Return the message that a text of typer was made from; any other text as it is."""
    for message in USAGE_ERRORS:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(message.template))
        if match := re.fullmatch(pattern, text, re.DOTALL):
            return Message(message.template, **{name: recognize(value) for name, value in match.groupdict().items()})
    return literal(text)


def translate_paragraphs(text: str) -> str:
    """Translate each paragraph of a help text that has a translation."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n")]
    return "\n\n".join(localize(literal(paragraph)) for paragraph in paragraphs)


class _TranslatedHelp:
    """Help in the language of the command, mixed into a class of typer."""

    def get_usage(self, ctx: Any) -> str:
        """Return the line with the options and arguments."""
        return _translate_usage(super().get_usage(ctx))  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _translate_help(self, ctx)
        super().format_help(ctx, formatter)  # type: ignore[misc]


class TranslatedCommand(_TranslatedHelp, TyperCommand):
    """Command whose help is in the language of `--lang` or of the locale."""


class TranslatedGroup(_TranslatedHelp, TyperGroup):
    """Group of commands with help and usage errors in the language of the command."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments of the group."""
        with _translated_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command of the group."""
        with _translated_errors():
            return super().invoke(ctx)


def _translate_usage(usage: str) -> str:
    prefix = "Usage:"
    return localize(Message("Usage:")) + usage.removeprefix(prefix) if usage.startswith(prefix) else usage


def _translate_help(command: Any, ctx: Any) -> None:
    """Translate the texts of a command that its help shows; they were made for this call."""
    _set_words()
    commands = [command, *getattr(command, "commands", {}).values()]
    for shown in commands:
        if language() != "en":
            shown.help = translate_paragraphs(shown.help or "")
    for parameter in command.get_params(ctx):
        for name in ("help", "show_default"):
            if isinstance(text := getattr(parameter, name, None), str):
                setattr(parameter, name, localize(literal(text)))


def _set_words() -> None:
    """Set the words of typer in any language: an earlier call may have had another."""
    from typer import rich_utils

    if language() != "en":
        import bench.cli.console  # noqa: F401  # the line breaks of Hangul

    for name, word in WORDS.items():
        setattr(rich_utils, name, localize(word))


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate usage errors, which typer prints after it has left the context."""
    try:
        yield
    except TyperException as error:
        _set_words()
        text = localize(recognize(error.format_message()))
        error.format_message = lambda: text  # type: ignore[method-assign]
        raise
