"""The command `bench bless`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Language, localize
from bench.i18n import Message


def command(
    new: Annotated[str, typer.Argument(help="Records for the baseline: folder, file or git revision.")],
    reason: Annotated[str, typer.Option(help="Reason for the change, stored with the baseline.")],
    into: Annotated[Path, typer.Option(help="Folder of the baseline.")] = Path("results/baselines/ci"),
    lang: Language = None,
) -> None:
    """Make records the new baseline of `bench check`.

    Replaces the runs of the same task, model and method. Only this command
    changes a baseline.

    Exit code: 0 done; 2 invalid input.
    """
    from bench.analysis.regression import baseline

    files = baseline.bless_baseline(baseline.load_baseline(new), into, reason)
    print(localize(Message("Baseline in {folder}/: {runs} runs.", folder=into, runs=len(files))))
