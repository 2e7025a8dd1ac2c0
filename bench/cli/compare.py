"""The command `bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.check import print_outcome
from bench.cli.options import Format, Formatted
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.analysis.regression.gates import GateFinding

RUN = "--methods few-shot,lora --task capitals --budget ci --seeds 3"


def command(
    old: Annotated[str, typer.Argument(help="Records of before: a folder, a file, or a git revision.")],
    new: Annotated[str, typer.Argument(help="Records of now, likewise.")],
    requirements: Annotated[
        bool, typer.Option("--requirements", help="OLD and NEW are requirements files: run with both, then compare.")
    ] = False,
    run: Annotated[str, typer.Option(help="With --requirements: the options of bench run.")] = RUN,
    out: Annotated[Path, typer.Option(help="With --requirements: folder of environments and records.")] = Path(
        "results/requirements"
    ),
    rounds: Annotated[int, typer.Option(help="With --requirements: interleaved rounds for speed, at least 5.")] = 0,
    format: Formatted = Format.table,
) -> None:
    """Show what changed between two sets of records, or what an upgrade of libraries changes.

    Exit code: 0, whatever changed; 2 for bad input.
    """
    from bench.analysis.regression import baseline, speed
    from bench.analysis.regression.check import judge_records, read_policy

    rules = read_policy(Path.cwd())
    speeds: list[GateFinding] = []
    if rounds and (rounds < speed.FEWEST or not requirements):
        raise UserError(f"--rounds {rounds}: needs --requirements and {speed.FEWEST} rounds at least")
    if requirements:
        from bench.analysis.regression import environments as environments

        files = [Path(old), Path(new)]
        old, new = map(str, environments.run_in_environments(files, run, out))
        if rounds:
            speeds = speed.compare_speed(environments.run_rounds(files, run, out, 1, rounds), rules)
            if speed.is_slower(speeds):  # to be confirmed once
                speeds = speed.compare_speed(environments.run_rounds(files, run, out, rounds + 1, rounds), rules)
    print_outcome(
        judge_records(baseline.load_baseline(old), baseline.load_baseline(new), rules, speeds), format, everything=True
    )
