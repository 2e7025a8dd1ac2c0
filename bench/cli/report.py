"""The command `bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RESULTS, Language, RecordPaths, Terms, check_writable, language, read_command, translator
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records import Spec


def command(
    results: RecordPaths = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/latest"),
    terms: Terms = "newest",
    lang: Language = None,
) -> None:
    """Write a report: an offline HTML page, Markdown, CSV, Parquet and plots.

    Runs of the same task and model are compared if they share all settings except
    the method, the seed and the training size. If some do not, the newest are
    shown, and the page names the others and the command that shows them.

    Exit code: 0 done; 2 invalid input.
    """
    from bench.analysis import task_results
    from bench.records import read_records

    translate = translator()
    sections = task_results.group_by_task(read_records(results or [RESULTS]), terms)
    check_writable(out)
    from bench.cli.console import PlainConsole
    from bench.report import pages, terms_text

    show_command = read_command("report", results)
    pages.write_report(sections, out, language(), load_questions, show_command)
    console = PlainConsole(stderr=True)
    for section in sections:
        sentences = terms_text.terms_sentences(section, show_command, translate)
        console.print_sentences([f"{section.title}: {sentence}" for sentence in sentences[:1]] + sentences[1:])
    print(out / "index.html")


def load_questions(spec: Spec) -> dict[str, str]:
    """Return the test questions by id; empty if the task is missing or has changed.

    The record may come from somebody else, and so may the folder that it names: no code in it is run.
    """
    from bench import registry
    from bench.data import hub_tasks

    try:
        folder = registry.find_task(spec.task.ref)
    except (UserError, OSError):  # The name may be longer than a path can be.
        return {}
    return hub_tasks.read_questions(folder, spec.task.sha256, spec.split)
