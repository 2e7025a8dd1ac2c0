"""The command line: arguments in, exit code out."""

from __future__ import annotations

import sys
import traceback

import typer

from bench.cli import export, models, new, report, run
from bench.errors import Refused

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare every way of adapting a language model to a task, under one budget, on this machine.",
)
for verb in (
    run.run,
    run.list_,
    run.validate,
    models.models,
    report.report,
    report.advise,
    report.compare,
    report.check,
    report.bless,
    export.export,
    export.answer,
):
    app.command(verb.__name__.rstrip("_"))(verb)
new = typer.Typer(no_args_is_help=True, help="Make a task of your data, or a method.")
new.command("task")(new.task)
new.command("method")(new.method)
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
