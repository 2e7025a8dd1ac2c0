"""The command `bench list`."""

from __future__ import annotations

from bench.cli.options import Format, FormatOption, Language, localize, translator
from bench.cli.terminal import print_json
from bench.i18n import Message


def command(lang: Language = None, format: FormatOption = Format.table) -> None:
    """List the available methods, tasks and models."""
    from bench import registry

    kinds = {kind: registry.list_entries(kind) for kind in ("methods", "tasks", "models")}
    if format is Format.json:
        print_json({kind: [vars(entry) for entry in entries.values()] for kind, entries in kinds.items()})
        return
    from rich.table import Table

    from bench.cli.console import PlainConsole

    translate = translator()
    titles = {"methods": translate("Methods"), "tasks": translate("Tasks"), "models": translate("Models")}
    for kind, entries in kinds.items():
        table = Table(title=titles[kind], title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, entry in entries.items():
            table.add_row(
                f"{name}:KIND" if entry.is_family else name,
                localize(Message("warning: {warning}", warning=entry.warning) if entry.warning else entry.summary),
                localize(entry.origin)
                + (translate("; rows from the hub: {name}", name=entry.hub) if entry.hub else ""),
            )
        PlainConsole().print(table, "")
