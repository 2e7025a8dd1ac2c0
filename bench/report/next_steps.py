"""Commands that a user may type next, after a table or after advice."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.advice import Advice
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import Record

SEEDS = "3"
"""Number of seeds from which the spread between seeds is measured."""
BUDGET = "standard"
SUGGESTED_METHODS = "few-shot,lora"


@dataclass(frozen=True)
class NextStep:
    """A command and what it is for.

    Attributes:
        command: Command line for a POSIX shell.
        purpose: What the user gets from it, as a phrase.
    """

    command: str
    purpose: str


def next_steps(
    advice: Advice, task_results: TaskResults, folder: Path, translate: Translate = untranslated
) -> list[NextStep]:
    """Return what to type next: what makes the answer surer first, then how to use it.

    Args:
        advice: Advice for the task.
        task_results: The results that the advice is about.
        folder: Folder of the records.
        translate: Translates the purposes.
    """
    changes = _surer_options(advice)
    steps = [
        _surer_run(task_results.records, changes, translate),
        _own_model_run(advice, task_results.records, changes, translate),
        NextStep(
            shlex.join(["bench", "report", str(folder)]),
            translate("a page with plots and every answer, right or wrong"),
        ),
        _question(advice, task_results, folder, translate),
    ]
    return [step for step in steps if step is not None]


def _surer_options(advice: Advice) -> dict[str, str]:
    """Return the options of `bench run` whose values would make the answer surer."""
    kinds = {finding.kind for finding in advice.findings}
    options = {}
    if advice.doubt == "only controls" and not advice.has_contender:
        options["--methods"] = SUGGESTED_METHODS
    if "short budget" in kinds:
        options["--budget"] = BUDGET
    if "one seed" in kinds:
        options["--seeds"] = SEEDS
    return options


def _surer_run(records: tuple[Record, ...], changes: dict[str, str], translate: Translate) -> NextStep | None:
    """Return the command of the run again, with the options that it lacked."""
    command = _run_command(records, changes)
    if not changes or command is None:
        return None
    reasons = {
        "--methods": translate("methods to compare with the controls"),
        "--budget": translate("the standard budget"),
        "--seeds": translate("three seeds"),
    }
    changed = ", ".join(reasons[option] for option in changes)
    return NextStep(command, translate("a surer answer: {changed}", changed=changed))


def _own_model_run(
    advice: Advice, records: tuple[Record, ...], changes: dict[str, str], translate: Translate
) -> NextStep | None:
    """Return the command of the run on a model of the user, if the model is a demonstration."""
    command = _run_command(records, changes | {"--model": "FOLDER"})
    if command is None or all(finding.kind != "demo model" for finding in advice.findings):
        return None
    return NextStep(command, translate("the same on the model that you would use (first: bench models FOLDER)"))


def _question(advice: Advice, task_results: TaskResults, folder: Path, translate: Translate) -> NextStep | None:
    """Return the command that asks the recommended method a question."""
    labels = {summary.key: summary.label for summary in task_results.summaries}
    for record in task_results.records:
        if record.status == "ok" and labels[record.spec.key] == advice.recommended:
            file = shlex.quote(str(folder / f"{record.id}.json"))
            return NextStep(
                f'bench answer {file} "..."', translate("a question to {name}", name=labels[record.spec.key])
            )
    return None


def _run_command(records: tuple[Record, ...], changes: dict[str, str]) -> str | None:
    """Return the newest `bench run` of the records with changed options.

    None if the records have another origin.
    """
    newest = max(records, key=lambda record: record.env.started if record.env else "")
    arguments = list(newest.command)
    if not arguments or arguments[0] != "run":
        return None
    for option, value in changes.items():
        arguments = _with_option(arguments, option, value)
    return shlex.join(["bench", *arguments])


def _with_option(arguments: list[str], option: str, value: str) -> list[str]:
    """Return arguments in which an option has a value, in its place if it is there already."""
    for index, argument in enumerate(arguments):
        if argument == option:
            return [*arguments[: index + 1], value, *arguments[index + 2 :]]
        if argument.startswith(f"{option}="):
            return [*arguments[:index], f"{option}={value}", *arguments[index + 1 :]]
    return [*arguments, option, value]
