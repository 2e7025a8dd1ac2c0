"""The command `bench advise`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Format, Formatted


def command(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Memory limit, e.g. 8GiB.")] = None,
    max_train_time: Annotated[str | None, typer.Option(help="Maximum training time, e.g. 10min.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Maximum p95 latency of one query, e.g. 200ms.")] = None,
    min_score: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=SCORE", help="Minimum score from 0 to 1, e.g. em=0.8.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Expected number of queries, for the total cost.")] = 10_000,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Score difference treated as equal.")] = 0.02,
    lang: Annotated[str, typer.Option(help="Language: en or ko.")] = "en",
    format: Formatted = Format.table,
) -> None:
    """Say which method to use: of those within the limits and shown to be as good as the best, the cheapest."""
    from bench import i18n
    from bench.analysis import advice, constraints, task_results
    from bench.report import advice_text

    translate = i18n.translator(i18n.require_language(lang))
    wishes = constraints.Constraints.parse(
        max_memory, max_train_time, max_latency, min_score or [], queries=queries, tolerance=tolerance
    )
    told = []
    for part in task_results.group_by_task(task_results.read_records(results or [Path("results")])):
        made = advice.advise(part, wishes, translate)
        told.append((part.title, made, advice_text.advice_sentences(made, part, wishes, translate)))
    if format is Format.json:
        print(
            json.dumps(
                [made.model_dump(mode="json") | {"sentences": said} for _, made, said in told], ensure_ascii=False
            )
        )
        return
    from rich.console import Console

    for title, made, said in told:
        Console(markup=False).print(advice_text.candidates_table(title, made, translate))
        for line in [*said, *advice_text.excluded_sentences(made, translate)]:
            Console(markup=False).print(line, highlight=False)
