"""The command `bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.check import print_outcome
from bench.cli.options import Format, FormatOption, Language
from bench.errors import UserError
from bench.i18n import Message

if TYPE_CHECKING:
    from bench.analysis.regression.gates import GateFinding

RUN_OPTIONS = "--methods few-shot,lora --task capitals --budget ci --seeds 3"


def command(
    old: Annotated[str, typer.Argument(help="Old records: folder, file or git revision.")],
    new: Annotated[str, typer.Argument(help="New records: folder, file or git revision.")],
    requirements: Annotated[
        bool, typer.Option("--requirements", help="OLD and NEW are requirements files; run with both.")
    ] = False,
    run: Annotated[str, typer.Option(help="With --requirements: options of bench run.")] = RUN_OPTIONS,
    out: Annotated[Path, typer.Option(help="With --requirements: folder for environments and records.")] = Path(
        "results/requirements"
    ),
    rounds: Annotated[int, typer.Option(help="With --requirements: alternating speed rounds, e.g. 5.")] = 0,
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Show differences between two sets of records, or of two library versions.

    Exit code: 0 compared, whatever the differences; 2 invalid input.
    """
    from bench.analysis.regression import baseline, environments, speed
    from bench.analysis.regression.check import judge_records, read_policy

    policy = read_policy(Path.cwd())
    speed_findings: list[GateFinding] = []
    if rounds and not requirements:
        raise UserError(
            Message("--rounds needs --requirements"), hint="bench compare old.txt new.txt --requirements --rounds 5"
        )
    if rounds and rounds < speed.MIN_ROUNDS:
        raise UserError(
            Message("--rounds {rounds}: too few rounds", rounds=rounds),
            hint=Message("--rounds {rounds}, or more", rounds=speed.MIN_ROUNDS),
        )
    if requirements:
        files = [Path(old), Path(new)]
        old, new = map(str, environments.run_in_environments(files, run, out))
        if rounds:
            speed_findings = speed.compare_speed(environments.run_rounds(files, run, out, 1, rounds), policy)
            if speed.any_slower(speed_findings):  # a slowdown has to be confirmed by a second series of rounds
                folder = environments.run_rounds(files, run, out, rounds + 1, rounds)
                speed_findings = speed.compare_speed(folder, policy)
    old_records, new_records = baseline.load_baseline(old), baseline.load_baseline(new)
    print_outcome(judge_records(old_records, new_records, policy, speed_findings), format, everything=True)
