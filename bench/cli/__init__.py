"""The command line: `bench COMMAND`, one module per command."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from bench import __version__
from bench.cli import advise, answer, bless, check, compare, export, models, new, report, run, try_, validate
from bench.cli import list as list_
from bench.cli.options import Language, localize, start_language
from bench.cli.terminal import check_arguments, safe_output
from bench.cli.translation.typer_texts import TranslatedCommand, TranslatedGroup
from bench.errors import UserError
from bench.i18n import Message

app = typer.Typer(
    cls=TranslatedGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compare ways of adapting a language model to a task under one budget on this machine.",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"adaptbench {__version__}")
        raise typer.Exit


@app.callback()
def _common_options(
    lang: Language = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.command,
    "try": try_.command,
    "list": list_.command,
    "validate": validate.command,
    "models": models.command,
    "report": report.command,
    "advise": advise.command,
    "compare": compare.command,
    "check": check.command,
    "bless": bless.command,
    "export": export.command,
    "answer": answer.command,
}
for name, command in COMMANDS.items():
    app.command(name, cls=TranslatedCommand)(command)
new_app = typer.Typer(cls=TranslatedGroup, no_args_is_help=True, help="Create a task from your data, or a method.")
new_app.command("task", cls=TranslatedCommand)(new.task_command)
new_app.command("method", cls=TranslatedCommand)(new.method_command)
app.add_typer(new_app, name="new")


def _describe_error(error: UserError) -> str:
    """Write an error in the language of the command; what has no translation stays English."""
    return localize(Message("error: {problem}", problem=error.describe()))


def main() -> None:
    """Run the command `bench` and exit with its exit code."""
    with safe_output():
        try:
            check_arguments(sys.argv[1:])
            start_language(sys.argv[1:])
            try:
                app()
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # so that a full disk is an error here, and not at the end of the process
        except UserError as error:
            print(_describe_error(error), file=sys.stderr)
            sys.exit(error.exit_code)
        except Exception:  # a bug of adaptbench; exit code 2 would say that the input is invalid
            traceback.print_exc()
            print("error: internal error; please report it with the trace above", file=sys.stderr)
            sys.exit(1)
