"""The command line: arguments in, exit code out."""

from __future__ import annotations

import json
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.refusal import Refused

if TYPE_CHECKING:
    from bench.job import Job
    from bench.record import Record, Spec

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare every way of adapting a language model to a task, under one budget, on this machine.",
)


class Format(StrEnum):
    """How results are written to standard output."""

    table = "table"
    json = "json"


Formatted = Annotated[Format, typer.Option("--format", help="A table, or one JSON document as the last line.")]


def main() -> None:
    """The command `bench`."""
    try:
        app()
    except Refused as refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run(
    methods: Annotated[str, typer.Option(help="Names or paths, with commas between: lora,qlora,./mine.py; or all")],
    task: Annotated[str, typer.Option(help="A name or a folder: bookrec, ./mytask")],
    model: Annotated[str, typer.Option(help="A shipped model, a folder, or a hub name: org/model")] = "bookworm",
    seeds: Annotated[int, typer.Option(min=1, help="Runs per method, with the seeds 0, 1, …")] = 1,
    budget: Annotated[str, typer.Option(help="quick, standard, or key=value pairs: standard,passes=5")] = "standard",
    examples: Annotated[
        str | None, typer.Option(help="Training sizes for a learning curve, with commas between: 250,500,1000")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Hyper-parameters tried on validation, as many for every method.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter: lora.rank=8")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the records, one file per run.")] = Path("results"),
    dry_run: Annotated[bool, typer.Option(help="Print the specs and stop.")] = False,
    force: Annotated[bool, typer.Option(help="Run again what has a record already.")] = False,
    format: Formatted = Format.table,
) -> None:
    """Run methods on a task, each in a process of its own, and show what came of it.

    Exit code: 0, also where a method is unsupported or did not fit (those are results); 1 if a run ended in an error
    or had to be ended (timeout); 2 for bad input; 130 when interrupted, and the same command picks up where it stopped.
    """
    from bench import plan

    budget = budget if trials is None else f"{budget},trials={trials}"
    jobs = plan.plan(
        methods,
        task,
        model,
        seeds=seeds,
        budget_text=budget,
        settings=set_ or [],
        examples=examples,
        asked=tuple(sys.argv[1:]),
    )
    if dry_run:
        specs = [{"id": job.spec.id} | job.spec.model_dump(mode="json") for job in jobs]
        print(json.dumps(specs, ensure_ascii=False, indent=1 if format is Format.table else None))
        return
    plan.check_writable(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ending the command ends its worker too
    try:
        records = _run_all(jobs, out, force)
    except KeyboardInterrupt:
        print("bench: interrupted. What is finished is kept; the same command runs only the rest.", file=sys.stderr)
        sys.exit(130)
    _show(records, out, format)
    sys.exit(1 if any(record.status in ("error", "timeout") for record in records) else 0)


@app.command("list")
def list_(format: Formatted = Format.table) -> None:
    """Show the methods, tasks and models at hand."""
    from bench import registry

    found = {kind: registry.claims(kind) for kind in ("methods", "tasks", "models")}
    if format is Format.json:
        print(json.dumps({kind: [vars(claim) for claim in claims.values()] for kind, claims in found.items()}))
        return
    from rich.console import Console
    from rich.table import Table

    for kind, claims in found.items():
        table = Table(title=kind, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, claim in claims.items():
            table.add_row(
                f"{name}:KIND" if claim.kinds else name,
                f"warning: {claim.warning}" if claim.warning else claim.summary,
                claim.origin,
            )
        Console().print(table, "")


@app.command("validate")
def validate_(
    what: Annotated[str, typer.Argument(help="A task or a method: a name or a path.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer measures a task: shipped, folder or hub.")] = "bookworm",
    format: Formatted = Format.table,
) -> None:
    """Check a task's card and data, or a method against the contract. Exit code: 0 sound, 1 at fault, 2 unknown.

    Remarks on a task are worth knowing and leave it sound.
    """
    from bench import validate

    verdict = validate.check(what, model)
    if format is Format.json:
        print(verdict.json())
    else:
        verdict.show()
    sys.exit(0 if verdict.sound else 1)


@app.command()
def report(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("reports/latest"),
    lang: Annotated[str, typer.Option(help="Language of the pages: en or ko.")] = "en",
) -> None:
    """Turn records into a page that opens offline, Markdown, CSV, Parquet and pictures.

    Records of one task and model have to be made under the same terms; training sizes alone may differ.
    """
    from bench import plan, sections, words

    words.check(lang)
    parts = sections.part(sections.read(results or [Path("results")]))
    plan.check_writable(out)
    from bench import report

    report.write(parts, out, lang, _questions)
    print(out / "index.html")


@app.command()
def advise(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="What the machine has: 8GiB")] = None,
    max_fit: Annotated[str | None, typer.Option(help="Longest time to adapt: 10min")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Longest time of an answer, for 95 of 100: 200ms")] = None,
    min_em: Annotated[float | None, typer.Option(help="Least exact match, from 0 to 1.")] = None,
    min_f1: Annotated[float | None, typer.Option(help="Least F1, from 0 to 1.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Questions to be answered.")] = 10_000,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Loss of score that makes no difference.")] = 0.02,
    lang: Annotated[str, typer.Option(help="Language: en or ko.")] = "en",
    format: Formatted = Format.table,
) -> None:
    """Say which method to use: of those within the limits and not shown worse than the best, the cheapest."""
    from bench import advice, counsel, limits, sections, words

    say = words.speaker(words.check(lang))
    wishes = limits.Wishes.parse(
        max_memory, max_fit, max_latency, {"em": min_em, "f1": min_f1}, queries=queries, tolerance=tolerance
    )
    told = []
    for part in sections.part(sections.read(results or [Path("results")])):
        made = advice.decide(part, wishes, say)
        told.append((part.title, made, counsel.sentences(made, part, wishes, say)))
    if format is Format.json:
        print(
            json.dumps(
                [made.model_dump(mode="json") | {"sentences": said} for _, made, said in told], ensure_ascii=False
            )
        )
        return
    from rich.console import Console

    for title, made, said in told:
        Console().print(counsel.table(title, made, say))
        for line in [*said, *counsel.out(made, say)]:
            Console().print(line, highlight=False)


def _questions(spec: Spec) -> dict[str, str]:
    """The test questions by their ids, where the very task of a record is still at hand."""
    from bench import registry, task

    try:
        what = task.load(registry.task(spec.task.ref))
    except Refused:
        return {}
    return {row.id: row.input for row in what.splits[spec.exam]} if what.sha256 == spec.task.sha256 else {}


def _run_all(jobs: list[Job], out: Path, force: bool) -> list[Record]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.launch import launch
    from bench.tune import Tuner

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    records, tuner = [], Tuner(out)
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        for number, job in enumerate(jobs, start=1):
            name = f"{job.spec.method.name} seed {job.spec.seed} ({number}/{len(jobs)})"
            line = bar.add_task(name, total=None, state="starting")

            def show(state: dict[str, Any], line: Any = line) -> None:
                bar.update(line, completed=state.get("step", 0), total=state.get("steps"), state=_state(state))

            record, fresh = launch(tuner.settle(job, show), out, force=force, show=show)
            records.append(record)
            bar.remove_task(line)
            console.print(f"{name}: {record.status}{'' if fresh else ' (kept from before)'}", highlight=False)
    return records


def _state(state: dict[str, Any]) -> str:
    """What a run is at, with what it has spent of its budget."""
    words = [f"trial {state['trial']}"] if "trial" in state else []
    words.append(state.get("phase", "starting"))
    if state.get("steps"):
        words.append(f"step {state['step']} of {state['steps']}")
        words.append(f"{state['tokens']:,} tokens")
        granted = f" of {state['granted_s']:g}" if state.get("granted_s") else ""
        words.append(f"{state['spent_s']:.0f}{granted} s")
    return " · ".join(words)


def _show(records: list[Record], out: Path, format: Format) -> None:
    from bench import comparison, notes, rows, sections, table

    (part,) = sections.part(records)
    if format is Format.json:
        every = [row for some in part.sizes.values() or [records] for row in rows.rows(some)]
        shown = [row.model_dump(mode="json") for row in every]
        print(json.dumps({"rows": shown, "records": [str(out / f"{record.id}.json") for record in records]}))
        return
    from rich.console import Console

    console = Console()
    console.print(table.render(part.records))
    for line in [*comparison.sentences(part.found), *table.legend(part.records), *notes.notes(part.records)]:
        console.print(line, highlight=False)
    if part.sizes:
        console.print("", table.by_size(part.sizes))
    console.print(f"Records: {out}/ (bench report {out}, bench advise {out})", highlight=False)
