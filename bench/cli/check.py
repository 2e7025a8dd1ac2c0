"""The command `bench check`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, FormatOption, Language, localize, translator
from bench.cli.terminal import print_json
from bench.errors import UserError
from bench.i18n import Message

if TYPE_CHECKING:
    from bench.analysis.regression.check import CheckOutcome


def command(
    new: Annotated[str, typer.Argument(help="New records: folder, file or git revision.")],
    baseline: Annotated[
        str, typer.Option(help="Baseline records: folder, file or git revision.")
    ] = "results/baselines/ci",
    allow_missing_baseline: Annotated[
        bool, typer.Option("--allow-missing-baseline", help="Pass if there is no baseline yet.")
    ] = False,
    rounds: Annotated[
        Path | None, typer.Option(help="Folder of speed rounds, e.g. results/requirements/rounds.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown output file for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML output file for a build server.")] = None,
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Compare records with a baseline and fail on regressions.

    The policy is the table tool.bench.check in pyproject.toml.

    Exit code: 0 no regressions; 1 regressions; 2 invalid input; 3 cannot tell
    (missing baseline or run, nothing comparable, too few seeds, or one seed that
    dropped far).
    """
    from bench.analysis.regression.check import check_against_baseline
    from bench.report import check_output

    for file in (markdown, junit):
        if file and not file.parent.is_dir():
            raise UserError(
                Message("{file}: folder {parent} not found", file=file, parent=file.parent),
                hint=f"mkdir -p {shlex.quote(str(file.parent))}",
            )
    outcome = check_against_baseline(new, baseline, allow_missing_baseline, rounds)
    comment = check_output.to_markdown(outcome, translator())
    for file, text in ((markdown, comment), (junit, check_output.to_junit(outcome))):
        if file:
            file.write_text(text, "utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as summary_file:
            summary_file.write(comment)
    print_outcome(outcome, format)
    sys.exit(outcome.exit_code)


def print_outcome(outcome: CheckOutcome, format: Format, everything: bool = False) -> None:
    """Print findings and summary; `everything` includes the findings without any change."""
    from bench.report import check_output

    if format is Format.json:
        findings = [finding.model_dump(mode="json") for finding in outcome.findings]
        print_json({"code": outcome.exit_code, "summary": outcome.summary, "findings": findings})
        return
    from bench.cli.console import PlainConsole

    console = PlainConsole()
    if everything or outcome.exit_code or outcome.with_verdict("better", "new"):
        console.print(check_output.findings_table(outcome, everything, translator()))
    console.print_sentences([localize(outcome.summary)])
