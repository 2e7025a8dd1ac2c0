"""The command `bench validate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Format, FormatOption, Language, localize
from bench.cli.terminal import print_json
from bench.i18n import Message, literal

if TYPE_CHECKING:
    from rich.table import Table

    from bench.data.task_checks import TaskFinding
    from bench.task_card import TaskCard


def command(
    what: Annotated[str, typer.Argument(help="Task or method: name or path, e.g. ./mytask.", show_default=False)],
    model: Annotated[str, typer.Option(help="Model whose tokenizer measures the task.")] = "bookworm",
    format: FormatOption = Format.table,
    list_all: Annotated[bool, typer.Option("--list", help="Show all cases of each finding, not three.")] = False,
    lang: Language = None,
) -> None:
    """Check a task, or a method against its contract.

    Exit code: 0 valid; 1 errors found; 2 not found, or its code raises an
    exception. Warnings do not change the exit code.
    """
    result = validate(what, model)
    if format is Format.json:
        print_json(result.document())
    else:
        result.show(list_all)
    sys.exit(0 if result.valid else 1)


@dataclass(frozen=True)
class ValidationResult:
    """Findings about one task or method."""

    headline: str
    """One line about the task or method: version, sizes and digest, or the first problem."""
    header: dict[str, Any]
    """Top-level keys of the JSON document: `kind`, `name` and facts of a task."""
    findings: tuple[TaskFinding, ...]

    @property
    def valid(self) -> bool:
        """True if there are no errors; warnings are allowed."""
        return not any(finding.is_error for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return the content of the JSON document."""
        return {"valid": self.valid} | self.header | {"findings": [vars(finding) for finding in self.findings]}

    def show(self, list_all: bool = False) -> None:
        """Print headline, findings with examples or all cases, and verdict in 80 columns."""
        from bench.cli.console import PlainConsole

        print(localize(self.headline))
        for title, is_error in ((Message("Errors"), True), (Message("Warnings"), False)):
            findings = [
                finding
                for finding in self.findings
                if finding.is_error is is_error and finding.message != self.headline
            ]
            if findings:
                PlainConsole().print("", localize(title), findings_table(findings, list_all), "", sep="\n")
        verdict = Message("valid") if self.valid else Message("has errors")
        print(f"{self.header['name']}: {localize(verdict)}")


def validate(ref: str, model: str) -> ValidationResult:
    """Check a task or method; `model` names the model whose tokenizer counts tokens.

    Raises:
        UserError: There is no such task, method or model.
    """
    from bench import registry

    if ref.endswith(".py") or ":" in ref or ref in registry.list_entries("methods"):
        return _validate_method(ref)
    return _validate_task(ref, model)


def findings_table(findings: list[TaskFinding], list_all: bool = False) -> Table:
    """Build a table of findings: check, count, and message with examples or with all cases."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold", no_wrap=justify == "right")
    for finding in findings:
        examples = "".join(f"\n· {localize(example)}" for example in (finding.cases if list_all else finding.examples))
        check = Text(finding.check, style="bold red" if finding.is_error else "bold")
        table.add_row(check, str(finding.count), Text(localize(finding.message)).append(examples, style="dim"))
    return table


def _validate_method(ref: str) -> ValidationResult:
    from bench import registry
    from bench.data.task_checks import TaskFinding
    from bench.testing import check_method
    from bench.user_code import report_user_code

    header = {"kind": "method", "name": ref}
    method_class = registry.find_method(ref)
    try:
        with report_user_code(
            registry.source_file(method_class), Message("{name} fails", name=ref), keep=(AssertionError,)
        ):
            check_method(method_class)
    except AssertionError as error:
        message = Message("{method} violates the method contract: {problem}", method=ref, problem=str(error))
        return ValidationResult(message, header, (TaskFinding("contract", True, 1, message),))
    return ValidationResult(Message("{method} follows the method contract", method=ref), header, ())


def _validate_task(ref: str, model: str) -> ValidationResult:
    from bench import hub, registry
    from bench.data import hub_tasks, task_checks
    from bench.data.task_checks import TaskFinding
    from bench.errors import UserError
    from bench.modeling import checkpoint
    from bench.user_code import UserCodeError

    folder, model_folder = registry.find_task(ref), registry.find_model(model)
    checkpoint.check_model_folder(model_folder)
    header: dict[str, Any] = {"kind": "task", "name": ref, "model": model}
    try:
        task = hub_tasks.load_task(folder)
    except (hub.HubUnreachable, UserCodeError):
        raise  # the data of the task were not checked
    except UserError as error:
        problem = error.describe()
        return ValidationResult(problem, header, (TaskFinding("schema", True, 1, problem),))
    row_counts = {split: len(rows) for split, rows in task.splits.items()}
    header |= {"version": task.card.version, "sha256": task.sha256, "rows": row_counts}
    sizes = ", ".join(f"{count} {split}" for split, count in row_counts.items())
    headline = Message(
        "{task} version {version}: {sizes}; sha256 {digest}",
        task=task.card.name,
        version=task.card.version,
        sizes=sizes,
        digest=task.sha256[:12],
    )
    tokenize, context = checkpoint.load_tokenizer(model_folder), checkpoint.context_length(model_folder)
    findings = (*task_checks.check_task(task, tokenize, context), *_left_out_rows(task.card))
    return ValidationResult(headline, header, findings)


def _left_out_rows(card: TaskCard) -> list[TaskFinding]:
    """Return a warning with the rows of a hub data set that the task does not use, by reason."""
    from bench.data import hub_tasks
    from bench.data.task_checks import TaskFinding

    if card.data is None:
        return []
    origin = hub_tasks.read_origin(card.data)
    counts: dict[str, int] = origin["left_out"]
    if not counts:
        return []
    message = Message(
        "Rows of {name} at {revision} that were left out or merged.", name=origin["hub"], revision=origin["revision"]
    )
    reasons = tuple(
        Message("{reason}: {number}", reason=literal(reason), number=count) for reason, count in counts.items()
    )
    return [TaskFinding("hub", False, sum(counts.values()), message, reasons, reasons)]
