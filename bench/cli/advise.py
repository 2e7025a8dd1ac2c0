"""The command `bench advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RESULTS, Format, FormatOption, Language, RecordPaths, Terms, read_command, translator
from bench.cli.terminal import print_json

if TYPE_CHECKING:
    from bench.analysis.advice import Advice
    from bench.analysis.task_results import TaskResults
    from bench.i18n import Translate


def command(
    results: RecordPaths = None,
    max_memory: Annotated[str | None, typer.Option(help="Memory limit, e.g. 8GiB.")] = None,
    max_train_time: Annotated[str | None, typer.Option(help="Maximum training time, e.g. 10min.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Maximum p95 latency per query, e.g. 200ms.")] = None,
    min_score: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=SCORE", help="Minimum score from 0 to 1, e.g. em=0.8.")
    ] = None,
    queries: Annotated[
        int, typer.Option(min=1, metavar="N", help="Expected number of queries, for the total cost.")
    ] = 10_000,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, metavar="SCORE", help="Score difference treated as equal.")
    ] = 0.02,
    price_per_hour: Annotated[
        str | None, typer.Option(help="Price of this machine, e.g. $0.60 or 800원; costs are then told in money, too.")
    ] = None,
    terms: Terms = "newest",
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Recommend a method: the cheapest within your limits that is as good as the best.

    Exit code: 0 done, also if no method can be recommended; 2 invalid input.
    """
    from bench.analysis import advice, task_results
    from bench.analysis.constraints import Constraints
    from bench.records import read_records
    from bench.report import advice_text, terms_text

    translate = translator(format)
    constraints = Constraints.parse(
        max_memory,
        max_train_time,
        max_latency,
        min_score or [],
        queries=queries,
        tolerance=tolerance,
        price_per_hour=price_per_hour,
    )
    advised = []
    for section in task_results.group_by_task(read_records(results or [RESULTS]), terms):
        section_advice = advice.advise(section, constraints, translate)
        sentences = advice_text.advice_sentences(section_advice, section, constraints, translate)
        advised.append((section, section_advice, sentences))
    if format is Format.json:
        document = [
            section_advice.model_dump(mode="json") | {"sentences": sentences, "terms": terms_text.terms_json(section)}
            for section, section_advice, sentences in advised
        ]
        print_json(document)
        return
    _print_advice(advised, results, translate)


def _print_advice(
    advised: list[tuple[TaskResults, Advice, list[str]]], results: RecordPaths, translate: Translate
) -> None:
    """Print the advice on each task, the table of candidates, and what to type next."""
    from bench.cli.console import PlainConsole
    from bench.report import advice_text, next_steps, terms_text

    console = PlainConsole()
    for section, section_advice, sentences in advised:
        if len(advised) > 1:
            console.print(f"\n{section.title}", style="bold")
        console.print_advice(sentences)
        console.print("", advice_text.candidates_table(section.title, section_advice, translate))
        console.print_sentences(advice_text.excluded_sentences(section_advice, translate))
        console.print_sentences(terms_text.terms_sentences(section, read_command("advise", results), translate))
        folder = (results or [RESULTS])[0]
        steps = next_steps.next_steps(section_advice, section, folder, translate)
        console.print_next_steps(steps, translate("Next:"))
