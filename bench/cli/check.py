"""The command `bench check`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, Formatted
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.analysis.regression.check import CheckOutcome


def command(
    new: Annotated[str, typer.Argument(help="Records of now: a folder, a file, or a git revision.")],
    baseline: Annotated[
        str, typer.Option(help="Baseline records: a folder, a file or a git revision.")
    ] = "results/baselines/ci",
    allow_missing_baseline: Annotated[
        bool, typer.Option("--allow-missing-baseline", help="Pass if there is no baseline yet.")
    ] = False,
    rounds: Annotated[
        Path | None, typer.Option(help="Rounds in turns, of bench compare --requirements --rounds.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the outcome for a build server.")] = None,
    format: Formatted = Format.table,
) -> None:
    """Judge records against a baseline, so that a build fails where something got worse.

    Exit code: 0 nothing got worse; 1 something did; 2 bad input; 3 cannot tell: a baseline or a run is missing,
    nothing compares, or there are too few seeds. The policy is the table tool.bench.check of pyproject.toml.
    """
    from bench.analysis.regression.check import check_against_baseline
    from bench.report import check_output

    for place in (markdown, junit):
        if place and not place.parent.is_dir():
            raise UserError(f"{place}: there is no folder {place.parent}", hint="make it first")
    outcome = check_against_baseline(new, baseline, allow_missing_baseline, rounds)
    for place, text in ((markdown, check_output.to_markdown(outcome)), (junit, check_output.to_junit(outcome))):
        if place:
            place.write_text(text, "utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(check_output.to_markdown(outcome))
    print_outcome(outcome, format)
    sys.exit(outcome.code)


def print_outcome(outcome: CheckOutcome, format: Format, everything: bool = False) -> None:
    from bench.report import check_output

    if format is Format.json:
        found = [one.model_dump(mode="json") for one in outcome.findings]
        print(json.dumps({"code": outcome.code, "summary": outcome.summary, "findings": found}, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(markup=False)
    if everything or outcome.code or outcome.of("better", "new"):
        console.print(check_output.findings_table(outcome, everything))
    console.print(outcome.summary, highlight=False)
