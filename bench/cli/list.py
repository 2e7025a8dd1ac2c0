"""The command `bench list`."""

from __future__ import annotations

import json

from bench.cli.options import Format, Formatted


def command(format: Formatted = Format.table) -> None:
    """Show the methods, tasks and models at hand."""
    from bench import registry

    found = {kind: registry.list_entries(kind) for kind in ("methods", "tasks", "models")}
    if format is Format.json:
        print(json.dumps({kind: [vars(claim) for claim in claims.values()] for kind, claims in found.items()}))
        return
    from rich.console import Console
    from rich.table import Table

    for kind, claims in found.items():
        table = Table(title=kind, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, claim in claims.items():
            table.add_row(
                f"{name}:KIND" if claim.is_family else name,
                f"warning: {claim.warning}" if claim.warning else claim.summary,
                f"{claim.origin}; rows from the hub: {claim.hub}" if claim.hub else claim.origin,
            )
        Console(markup=False).print(table, "")
