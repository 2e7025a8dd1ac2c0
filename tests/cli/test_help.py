"""Help texts as a terminal of 80 columns shows them."""

from __future__ import annotations

import typer
from support import help_texts
from typer.testing import CliRunner

from bench import __version__
from bench.cli import app

HELP = help_texts(typer.main.get_command(app))


def test_help_has_no_brackets_that_rich_would_take_for_markup() -> None:
    assert not {name: text for name, text in HELP.items() if "[" in text}


def test_help_paragraphs_after_the_first_fit_in_80_columns() -> None:
    lines = {name: text.partition("\n\n")[2].splitlines() for name, text in HELP.items()}
    assert not {name: line for name in lines for line in lines[name] if len(line) > 78}


def test_help_of_every_command_states_its_exit_codes() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    leaves = [command for command in commands.values() if not hasattr(command, "commands")]
    leaves += [command for group in commands.values() for command in getattr(group, "commands", {}).values()]
    assert {command.name for command in leaves if "Exit code: 0 " not in command.help} == {"list"}


def test_version_option_prints_the_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"adaptbench {__version__}\n")


def test_help_at_80_columns_leaves_room_for_the_texts() -> None:
    output = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(app, ["run", "--help"]).output
    line = next(line for line in output.splitlines() if "--methods" in line)
    assert len(line) - line.index("Methods") > 30


def test_run_with_both_options_on_artifacts_is_refused() -> None:
    result = CliRunner().invoke(
        app, ["run", "--methods", "majority", "--task", "capitals", "--save-artifacts", "--no-save-artifacts"]
    )
    assert "exclude each other" in str(result.exception)
