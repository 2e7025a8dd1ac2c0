"""The command line: arguments in, exit code out."""

from __future__ import annotations

import sys
import traceback

import typer

from bench.cli import advise, answer, bless, check, compare, export, models, new, report, run, validate
from bench.cli import list as list_
from bench.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare every way of adapting a language model to a task, under one budget, on this machine.",
)
app.command("run")(run.command)
app.command("list")(list_.command)
app.command("validate")(validate.command)
app.command("models")(models.command)
app.command("report")(report.command)
app.command("advise")(advise.command)
app.command("compare")(compare.command)
app.command("check")(check.command)
app.command("bless")(bless.command)
app.command("export")(export.command)
app.command("answer")(answer.command)
new_app = typer.Typer(no_args_is_help=True, help="Make a task of your data, or a method.")
new_app.command("task")(new.task_command)
new_app.command("method")(new.method_command)
app.add_typer(new_app, name="new")


def main() -> None:
    """The command `bench`."""
    try:
        app()
    except UserError as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # a mistake of this program, and no verdict: exit code 1 has a meaning
        traceback.print_exc()
        sys.exit(2)
