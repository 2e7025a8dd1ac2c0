"""The command `bench try`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RESULTS, Language, check_writable, language, localize, status_line, translator
from bench.errors import UserError
from bench.i18n import Message, format_duration

if TYPE_CHECKING:
    from bench.data.task_builder import TaskDraft
    from bench.execution.forecast.job_forecast import JobForecast
    from bench.execution.forecast.time_limit import Effort, TimedPlan
    from bench.execution.job import Job
    from bench.records import Record

LABEL_METHODS = ("few-shot", "lora", "features", "full")
"""Methods of a model that generates, for labels, the most informative first."""
OPEN_METHODS = ("few-shot", "lora", "full")
"""The same for open answers."""
ENCODER_METHODS = ("features", "lora", "full", "head")
"""The same for an encoder, which knows only labels."""


def command(
    data: Annotated[str, typer.Argument(help="Rows: a csv, tsv, xlsx, jsonl, json or parquet file.")],
    input: Annotated[str | None, typer.Option(help="Column of the question, e.g. question.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of the correct answer, e.g. answer.")] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Sheet of an xlsx file, e.g. Sheet2.", show_default="first with rows")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of what questions have in common, e.g. passage.", show_default="none")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Task folder to create, e.g. mytask.", show_default="name of the file")
    ] = None,
    model: Annotated[str, typer.Option(help="Shipped model, folder or hub name, e.g. org/model@commit.")] = "bookworm",
    dtype: Annotated[str, typer.Option(help="Weights and computation: float32, bfloat16, float16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    minutes: Annotated[
        float, typer.Option(min=0.1, metavar="MINUTES", help="Minutes that all runs may take, e.g. 20.")
    ] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder for the records, one file per run.")] = RESULTS,
    report: Annotated[Path | None, typer.Option(help="Folder for the report.", show_default="reports/NAME")] = None,
    lang: Language = None,
) -> None:
    """Go from a file of rows to a recommendation.

    Makes a task from the rows and checks it, chooses methods and a budget that
    fit into the time, runs them, advises, and writes a report. It prints the
    command of each step. Repeated, it keeps finished runs and, now that times
    are measured, may choose a larger budget or other methods.

    Exit code: 0 done; 1 the task has errors, or a run failed or timed out; 2
    invalid input; 130 interrupted.
    """
    from bench import registry
    from bench.cli import run
    from bench.cli.run_progress import announce, exit_code
    from bench.execution import executor
    from bench.modeling import checkpoint

    announce(Message("Reading the rows …"))
    folder = Path(name or _task_name(data))
    model_folder = registry.find_model(model)
    checkpoint.check_model_folder(model_folder)
    columns = _Columns(input, target, sheet, group)
    draft = _draft_task(data, folder, model_folder, columns)
    methods = _select_methods(model_folder, has_labels="labels" in draft.card)
    check_writable(out)
    _write_task(draft, data, folder, columns)
    _check_task(folder, model)
    settings = _RunSettings(task_ref(folder), model, dtype, device, out)
    timed = _plan_within(60 * minutes, methods, settings)
    _announce_plan(timed, settings)
    command_line = tuple(settings.arguments(timed.methods, timed.effort))
    records = run.run_with_progress(
        [job.model_copy(update={"command": command_line}) for job in timed.jobs],
        list(timed.forecasts),
        executor.resolve_executor(executor.LOCAL),
        out,
        force=False,
        trackers={},
    )
    run.print_comparison(records, out)
    _write_report(out, report or Path("reports") / folder.name, records)
    sys.exit(exit_code(records))


@dataclass(frozen=True)
class _Columns:
    """Columns and sheet of the rows; None for those that are recognized."""

    input: str | None
    target: str | None
    sheet: str | None
    group: str | None

    def options(self) -> list[str]:
        """Return the options of `bench new task`."""
        return [text for option, value in vars(self).items() if value for text in (f"--{option}", value)]


@dataclass(frozen=True)
class _RunSettings:
    """Options that all runs share; methods and effort come with each call."""

    task: str
    model: str
    dtype: str
    device: str
    out: Path

    def arguments(self, methods: Sequence[str], effort: Effort) -> list[str]:
        """Return the arguments of `bench` that make the same runs."""
        arguments = ["run", "--methods", ",".join(methods), "--task", self.task, "--budget", effort.budget]
        defaults = {"seeds": "1", "model": "bookworm", "dtype": "float32", "device": "auto", "out": str(RESULTS)}
        values = {
            "seeds": str(effort.seeds),
            "model": self.model,
            "dtype": self.dtype,
            "device": self.device,
            "out": str(self.out),
        }
        return arguments + [
            text for key, value in values.items() if value != defaults[key] for text in (f"--{key}", value)
        ]

    def plan(self, methods: Sequence[str], effort: Effort) -> list[Job]:
        """Return the jobs of methods, controls included."""
        from bench.execution import plan

        return plan.plan_jobs(
            ",".join(methods),
            self.task,
            self.model,
            seeds=effort.seeds,
            budget_text=effort.budget,
            settings=[],
            dtype=self.dtype,
            device=self.device,
            save_artifacts=None,
        )


def task_ref(folder: Path) -> str:
    """Return the folder of a task as `--task` takes it."""
    return str(folder) if folder.is_absolute() else f"./{folder}"


def _task_name(data: str) -> str:
    """Return a task name made from the name of a file; `mytask` if nothing of it is valid."""
    return re.sub(r"[^a-z0-9._]+", "-", Path(data).stem.lower()).strip("._-") or "mytask"


def _draft_task(data: str, folder: Path, model_folder: Path, columns: _Columns) -> TaskDraft:
    """Return the task of a file, before it is written.

    Raises:
        UserError: The file cannot be used, or the folder has other rows.
    """
    from bench.cli.new import draft_task
    from bench.data import task_builder

    if Path(data).is_dir():
        raise UserError(Message("{data} is a folder, not a file of rows", data=data), hint="bench try data.csv")
    if not folder.exists():
        task_builder.check_new_folder(folder)
    draft = draft_task(data, folder.name, model_folder, **vars(columns))
    if folder.exists():
        _check_same_rows(folder, draft, data)
    return draft


def _write_task(draft: TaskDraft, data: str, folder: Path, columns: _Columns) -> None:
    """Write a task, unless an earlier call has done so; print what was done to the rows."""
    if folder.exists():
        _print(Message("Task: {task}, made from {file} before.", task=task_ref(folder), file=data))
        return
    draft.write(folder)
    _print(Message("Task: {task}", task=task_ref(folder)))
    _print_command(["new", "task", str(folder), "--from", data, *columns.options()])
    for note in draft.notes:
        _print_note(note)


def _check_same_rows(folder: Path, draft: TaskDraft, data: str) -> None:
    """Raise `UserError` unless a task folder has the rows of a draft, under any card."""
    for split, rows in draft.splits.items():
        file = folder / f"{split}.jsonl"
        lines = file.read_text("utf-8").split("\n") if file.is_file() else []
        if [json.loads(line) for line in lines if line.strip()] != rows:
            raise UserError(
                Message("{folder} exists already and has other rows than {data}", folder=folder, data=data),
                location=str(file),
                hint=Message(
                    "--name {name}-2 for a new task, or remove the folder {folder}", name=folder.name, folder=folder
                ),
            )


def _check_task(folder: Path, model: str) -> None:
    """Print sizes and warnings of a task; end the command if it has errors."""
    from bench.cli.validate import validate

    result = validate(task_ref(folder), model)
    if not result.valid:
        result.show()
        sys.exit(1)
    _print(result.headline)
    _print_command(["validate", task_ref(folder), "--model", model])
    if result.findings:
        checks = ", ".join(f"{finding.check} {finding.count}" for finding in result.findings)
        _print_note(Message("warnings: {checks}", checks=checks))


def _select_methods(model_folder: Path, *, has_labels: bool) -> tuple[str, ...]:
    """Return the methods that fit the answers and the model, the most informative first.

    Raises:
        UserError: The model is an encoder, which cannot write open answers.
    """
    from bench.modeling import checkpoint

    if checkpoint.is_decoder(model_folder):
        return LABEL_METHODS if has_labels else OPEN_METHODS
    if not has_labels:
        raise UserError(
            Message(
                "{name} is an encoder, and the answers are no labels, so it cannot write them", name=model_folder.name
            ),
            hint=Message("--model with a model that generates, e.g. bookworm"),
        )
    return ENCODER_METHODS


def _plan_within(limit_s: float, methods: tuple[str, ...], settings: _RunSettings) -> TimedPlan:
    """Choose the methods and the effort that are expected to fit into a time."""
    from bench.execution.forecast import job_forecast, time_limit

    with status_line() as on_progress:

        def forecast(jobs: list[Job]) -> list[JobForecast]:
            return job_forecast.forecast_jobs(jobs, settings.out, on_progress=on_progress)

        return time_limit.choose_within(limit_s, methods, settings.plan, forecast)


def _announce_plan(timed: TimedPlan, settings: _RunSettings) -> None:
    """Print the methods, those left out, the expected time and the command of the runs."""
    from bench.cli.run_progress import describe_forecast

    _print(
        Message(
            "Methods: {names}; budget {budget}, seeds: {seeds}.",
            names=", ".join(timed.methods),
            budget=timed.effort.budget,
            seeds=timed.effort.seeds,
        )
    )
    for method, seconds in timed.too_slow.items():
        expected = format_duration(seconds, translator())
        _print_note(Message("left out: {method}, which would take about {time}", method=method, time=expected))
    _print_command(settings.arguments(timed.methods, timed.effort))
    for sentence in describe_forecast(timed.forecasts):
        _print(sentence)


def _write_report(out: Path, folder: Path, records: list[Record]) -> None:
    """Write the page of the runs, and print where it is."""
    from bench.analysis import task_results
    from bench.cli.report import load_questions
    from bench.report import pages

    command = shlex.join(["bench", "report", str(out), "--out", str(folder)])
    pages.write_report(task_results.group_by_task(records), folder, language(), load_questions, command)
    _print(Message("Report: {file}", file=folder / "index.html"))


def _print(sentence: str) -> None:
    from bench.cli.console import PlainConsole

    PlainConsole().print_sentences([localize(sentence)])
    sys.stdout.flush()


def _print_note(note: str) -> None:
    from bench.cli.console import PlainConsole

    PlainConsole().print_sentences([f"- {localize(note)}"])


def _print_command(arguments: Sequence[str]) -> None:
    print(f"  {shlex.join(['bench', *arguments])}")
