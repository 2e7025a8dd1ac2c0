"""The command `bench list`."""

from __future__ import annotations

from bench.cli.options import Format, FormatOption
from bench.cli.terminal import print_json


def command(format: FormatOption = Format.table) -> None:
    """List the available methods, tasks and models."""
    from bench import registry

    kinds = {kind: registry.list_entries(kind) for kind in ("methods", "tasks", "models")}
    if format is Format.json:
        print_json({kind: [vars(entry) for entry in entries.values()] for kind, entries in kinds.items()})
        return
    from rich.table import Table

    from bench.cli.console import PlainConsole

    for kind, entries in kinds.items():
        table = Table(title=kind, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, entry in entries.items():
            table.add_row(
                f"{name}:KIND" if entry.is_family else name,
                f"warning: {entry.warning}" if entry.warning else entry.summary,
                f"{entry.origin}; rows from the hub: {entry.hub}" if entry.hub else entry.origin,
            )
        PlainConsole().print(table, "")
