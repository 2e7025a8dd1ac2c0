"""Whether a task or a method is sound: what `bench validate` says."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import hub, registry
from bench.cli.options import Format, Formatted
from bench.data import hub_tasks, task_checks
from bench.data.task_checks import TaskFinding
from bench.errors import UserError
from bench.modeling import checkpoint
from bench.task import SPLITS
from bench.task_card import TaskCard


def command(
    what: Annotated[str, typer.Argument(help="A task or a method: a name or a path.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer measures a task: shipped, folder or hub.")] = "bookworm",
    format: Formatted = Format.table,
) -> None:
    """Check a task's card and data, or a method against the contract. Exit code: 0 sound, 1 at fault, 2 unknown.

    Remarks on a task are worth knowing and leave it sound.
    """
    verdict = validate(what, model)
    if format is Format.json:
        print(verdict.json())
    else:
        verdict.show()
    sys.exit(0 if verdict.valid else 1)


@dataclass(frozen=True)
class ValidationResult:
    """What was looked at, in one line and in keys, and what was found."""

    line: str
    head: dict[str, Any]
    findings: tuple[TaskFinding, ...]

    @property
    def valid(self) -> bool:
        """No fault was found; remarks are none."""
        return not any(finding.is_error for finding in self.findings)

    def json(self) -> str:
        """One JSON document on one line."""
        return json.dumps({"sound": self.valid} | self.head | {"findings": [vars(one) for one in self.findings]})

    def show(self) -> None:
        """Print it for a person at 80 columns."""
        print(self.line)
        for title, fault in (("Faults", True), ("Remarks", False)):
            if shown := [one for one in self.findings if one.is_error is fault and one.message != self.line]:
                Console().print("", title, render(shown), "", sep="\n")
        print(f"{self.head['name']}: {'sound' if self.valid else 'at fault'}")


def validate(ref: str, model: str) -> ValidationResult:
    """The verdict on a method or a task; `model` lends the tokenizer. Raises `UserError` if there is no such thing."""
    if ref.endswith(".py") or ":" in ref or ref in registry.list_entries("methods"):
        return _method(ref)
    return _task(ref, model)


def render(findings: list[TaskFinding]) -> Table:
    """The findings as a table: check, count, what it means with examples."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold", no_wrap=justify == "right")
    for finding in findings:
        said = Text(finding.message).append("".join(f"\n· {example}" for example in finding.examples), style="dim")
        table.add_row(Text(finding.check, style="bold red" if finding.is_error else "bold"), str(finding.count), said)
    return table


def _method(ref: str) -> ValidationResult:
    from bench.testing import check_method

    head, cls = {"kind": "method", "name": ref}, registry.find_method(ref)
    try:
        check_method(cls)
    except AssertionError as fault:
        said = f"{ref} breaks the contract: {fault}"
        return ValidationResult(said, head, (TaskFinding("contract", True, 1, said),))
    return ValidationResult(f"{ref} keeps the contract of a method", head, ())


def _task(ref: str, model: str) -> ValidationResult:
    folder, base = registry.find_task(ref), registry.find_model(model)
    checkpoint.check_model_folder(base)
    head: dict[str, Any] = {"kind": "task", "name": ref, "model": model}
    try:
        loaded = hub_tasks.load_task(folder)
    except hub.HubUnreachable:
        raise
    except UserError as fault:
        return ValidationResult(str(fault), head, (TaskFinding("schema", True, 1, str(fault)),))
    rows = {split: len(loaded.splits[split]) for split in SPLITS}
    head |= {"version": loaded.card.version, "sha256": loaded.sha256, "rows": rows}
    sizes = ", ".join(f"{count} {split}" for split, count in rows.items())
    line = f"{loaded.card.name} version {loaded.card.version}: {sizes}; sha256 {loaded.sha256[:12]}"
    return ValidationResult(line, head, (*task_checks.check_task(loaded, base), *_origin(loaded.card)))


def _origin(card: TaskCard) -> list[TaskFinding]:
    """What was left out of a data set of the hub, and why."""
    if card.data is None:
        return []
    told = hub_tasks.read_origin(card.data)
    if not told["left_out"]:
        return []
    said = f"Rows of {told['hub']} at {told['revision']} that were left out or joined."
    return [
        TaskFinding("hub", False, sum(told["left_out"].values()), said, tuple(map(_count, told["left_out"].items())))
    ]


def _count(part: tuple[str, int]) -> str:
    return f"{part[0]}: {part[1]}"
