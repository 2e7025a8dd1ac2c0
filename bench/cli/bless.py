"""The command `bench bless`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    new: Annotated[str, typer.Argument(help="Records that are to be the baseline from now on.")],
    reason: Annotated[str, typer.Option(help="Why the baseline changes; stored beside it.")],
    into: Annotated[Path, typer.Option(help="Folder of the baseline.")] = Path("results/baselines/ci"),
) -> None:
    """Make records the baseline: the only way to move one."""
    from bench.analysis.regression import baseline

    print(
        f"{len(baseline.bless_baseline(baseline.load_baseline(new), into, reason))} runs are the baseline in {into}/ now."
    )
