"""The verbs that read records: `report`, `advise`, `compare`, `check`, `bless`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import check_writable
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.record import Spec


def command(
    results: Annotated[list[Path] | None, typer.Argument(help="Records, or folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("reports/latest"),
    lang: Annotated[str, typer.Option(help="Language of the pages: en or ko.")] = "en",
) -> None:
    """Turn records into a page that opens offline, Markdown, CSV, Parquet and pictures.

    Records of one task and model have to be made under the same terms; training sizes alone may differ.
    """
    from bench import i18n
    from bench.analysis import task_results

    i18n.require_language(lang)
    parts = task_results.group_by_task(task_results.read_records(results or [Path("results")]))
    check_writable(out)
    from bench.report import pages

    pages.write_report(parts, out, lang, _questions)
    print(out / "index.html")


def _questions(spec: Spec) -> dict[str, str]:
    """The test questions by their ids, where the very task of a record is still at hand."""
    from bench import registry
    from bench.data import hub_tasks

    try:
        what = hub_tasks.load_task(registry.find_task(spec.task.ref), fetch=False)
    except UserError:
        return {}
    return {row.id: row.input for row in what.splits[spec.split]} if what.sha256 == spec.task.sha256 else {}
