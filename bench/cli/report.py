"""The verbs that read records: `report`, `advise`, `compare`, `check`, `bless`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, Formatted, check_writable
from bench.errors import Refused

RUN = "--methods few-shot,lora --task capitals --budget ci --seeds 3"

if TYPE_CHECKING:
    from bench.analysis.regression.check import Outcome
    from bench.analysis.regression.gates import Finding
    from bench.records.record import Spec


def report(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("reports/latest"),
    lang: Annotated[str, typer.Option(help="Language of the pages: en or ko.")] = "en",
) -> None:
    """Turn records into a page that opens offline, Markdown, CSV, Parquet and pictures.

    Records of one task and model have to be made under the same terms; training sizes alone may differ.
    """
    from bench import i18n
    from bench.analysis import task_results

    i18n.check(lang)
    parts = task_results.part(task_results.read(results or [Path("results")]))
    check_writable(out)
    from bench.report import pages

    pages.write(parts, out, lang, _questions)
    print(out / "index.html")


def advise(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="What the machine has: 8GiB")] = None,
    max_fit: Annotated[str | None, typer.Option(help="Longest time to adapt: 10min")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Longest time of an answer, for 95 of 100: 200ms")] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", metavar="METRIC=SCORE", help="Least score, from 0 to 1: em=0.8")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Questions to be answered.")] = 10_000,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Loss of score that makes no difference.")] = 0.02,
    lang: Annotated[str, typer.Option(help="Language: en or ko.")] = "en",
    format: Formatted = Format.table,
) -> None:
    """Say which method to use: of those within the limits and shown to be as good as the best, the cheapest."""
    from bench import i18n
    from bench.analysis import advice, constraints, task_results
    from bench.report import advice_text

    say = i18n.speaker(i18n.check(lang))
    wishes = constraints.Wishes.parse(
        max_memory, max_fit, max_latency, least or [], queries=queries, tolerance=tolerance
    )
    told = []
    for part in task_results.part(task_results.read(results or [Path("results")])):
        made = advice.decide(part, wishes, say)
        told.append((part.title, made, advice_text.sentences(made, part, wishes, say)))
    if format is Format.json:
        print(
            json.dumps(
                [made.model_dump(mode="json") | {"sentences": said} for _, made, said in told], ensure_ascii=False
            )
        )
        return
    from rich.console import Console

    for title, made, said in told:
        Console(markup=False).print(advice_text.table(title, made, say))
        for line in [*said, *advice_text.out(made, say)]:
            Console(markup=False).print(line, highlight=False)


def compare(
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
    from bench.analysis.regression.check import judge, policy

    rules = policy(Path.cwd())
    speeds: list[Finding] = []
    if rounds and (rounds < speed.FEWEST or not stack):
        raise Refused(f"--rounds {rounds}: wants --stack, and {speed.FEWEST} rounds at least")
    if stack:
        from bench.analysis.regression import environments as stacks

        files = [Path(old), Path(new)]
        old, new = map(str, stacks.run(files, run, out))
        if rounds:
            speeds = speed.look(stacks.rounds(files, run, out, 1, rounds), rules)
            if speed.slower(speeds):  # to be confirmed once
                speeds = speed.look(stacks.rounds(files, run, out, rounds + 1, rounds), rules)
    _judged(judge(baseline.records(old), baseline.records(new), rules, speeds), format, everything=True)


def check(
    new: Annotated[str, typer.Argument(help="Records of now: a folder, a file, or a git revision.")],
    against: Annotated[str, typer.Option(help="The baseline, likewise.")] = "results/baselines/ci",
    first: Annotated[bool, typer.Option(help="There may be no baseline yet.")] = False,
    rounds: Annotated[Path | None, typer.Option(help="Rounds in turns, of bench compare --stack --rounds.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the outcome for a build server.")] = None,
    format: Formatted = Format.table,
) -> None:
    """Judge records against a baseline, so that a build fails where something got worse.

    Exit code: 0 nothing got worse; 1 something did; 2 bad input; 3 cannot tell: a baseline or a run is missing,
    nothing compares, or there are too few seeds. The policy is the table tool.bench.check of pyproject.toml.
    """
    from bench.analysis.regression.check import weigh
    from bench.report import check_output

    for place in (markdown, junit):
        if place and not place.parent.is_dir():
            raise Refused(f"{place}: there is no folder {place.parent}", mend="make it first")
    outcome = weigh(new, against, first, rounds)
    for place, text in ((markdown, check_output.markdown(outcome)), (junit, check_output.junit(outcome))):
        if place:
            place.write_text(text, "utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(check_output.markdown(outcome))
    _judged(outcome, format)
    sys.exit(outcome.code)


def bless(
    new: Annotated[str, typer.Argument(help="Records that are to be the baseline from now on.")],
    why: Annotated[str, typer.Option(help="Why the baseline moves; it is kept beside it.")],
    into: Annotated[Path, typer.Option(help="Folder of the baseline.")] = Path("results/baselines/ci"),
) -> None:
    """Make records the baseline: the only way to move one."""
    from bench.analysis.regression import baseline

    print(f"{len(baseline.bless(baseline.records(new), into, why))} runs are the baseline in {into}/ now.")


def _judged(outcome: Outcome, format: Format, everything: bool = False) -> None:
    from bench.report import check_output

    if format is Format.json:
        found = [one.model_dump(mode="json") for one in outcome.findings]
        print(json.dumps({"code": outcome.code, "summary": outcome.summary, "findings": found}, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(markup=False)
    if everything or outcome.code or outcome.of("better", "new"):
        console.print(check_output.table(outcome, everything))
    console.print(outcome.summary, highlight=False)


def _questions(spec: Spec) -> dict[str, str]:
    """The test questions by their ids, where the very task of a record is still at hand."""
    from bench import registry
    from bench.data import hub_tasks

    try:
        what = hub_tasks.load(registry.task(spec.task.ref), fetch=False)
    except Refused:
        return {}
    return {row.id: row.input for row in what.splits[spec.exam]} if what.sha256 == spec.task.sha256 else {}
