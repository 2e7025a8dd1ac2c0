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
    stack: Annotated[
        bool, typer.Option("--stack", help="OLD and NEW are files of requirements: run the same with both first.")
    ] = False,
    run: Annotated[str, typer.Option(help="With --stack: the options of bench run.")] = RUN,
    out: Annotated[Path, typer.Option(help="With --stack: folder of environments and records.")] = Path(
        "results/stack"
    ),
    rounds: Annotated[int, typer.Option(help="With --stack: so many runs more in turns, for speed; 5 at least.")] = 0,
    format: Formatted = Format.table,
) -> None:
    """Show what changed between two sets of records, or what an upgrade of libraries changes.

    Exit code: 0, whatever changed; 2 for bad input.
    """
    from bench.analysis.regression import baseline, speed
    from bench.analysis.regression.check import judge_records, read_policy

    rules = read_policy(Path.cwd())
    speeds: list[GateFinding] = []
    if rounds and (rounds < speed.FEWEST or not stack):
        raise UserError(f"--rounds {rounds}: wants --stack, and {speed.FEWEST} rounds at least")
    if stack:
        from bench.analysis.regression import environments as stacks

        files = [Path(old), Path(new)]
        old, new = map(str, stacks.run_in_environments(files, run, out))
        if rounds:
            speeds = speed.compare_speed(stacks.run_rounds(files, run, out, 1, rounds), rules)
            if speed.is_slower(speeds):  # to be confirmed once
                speeds = speed.compare_speed(stacks.run_rounds(files, run, out, rounds + 1, rounds), rules)
    print_outcome(
        judge_records(baseline.load_baseline(old), baseline.load_baseline(new), rules, speeds), format, everything=True
    )
