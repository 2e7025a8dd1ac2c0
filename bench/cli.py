"""The command line: arguments in, exit code out."""

from __future__ import annotations

import sys
import traceback

import typer

from bench import looking, making, reading, running, taking
from bench.refusal import Refused

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare every way of adapting a language model to a task, under one budget, on this machine.",
)
for verb in (
    running.run,
    running.list_,
    running.validate,
    looking.models,
    reading.report,
    reading.advise,
    reading.compare,
    reading.check,
    reading.bless,
    taking.export,
    taking.answer,
):
    app.command(verb.__name__.rstrip("_"))(verb)
new = typer.Typer(no_args_is_help=True, help="Make a task of your data, or a method.")
new.command("task")(making.task)
new.command("method")(making.method)
app.add_typer(new, name="new")


def main() -> None:
    """The command `bench`."""
    try:
        app()
    except Refused as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # a mistake of this program, and no verdict: exit code 1 has a meaning
        traceback.print_exc()
        sys.exit(2)
