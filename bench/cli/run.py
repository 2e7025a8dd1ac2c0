"""The command `bench run`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, FormatOption, check_writable, describe_progress
from bench.cli.terminal import print_json
from bench.escape import clean_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from bench.cli.console import PlainConsole
    from bench.execution.executor import Executor
    from bench.execution.job import Job
    from bench.method import ProgressState
    from bench.records import Record
    from bench.report.trackers import Tracker

Methods = Annotated[str, typer.Option(help="Methods, e.g. lora,qlora,./mine.py; or all.")]
Task = Annotated[str, typer.Option(help="Task name or folder, e.g. bookrec or ./mytask.")]
Model = Annotated[str, typer.Option(help="Shipped model, folder or hub name, e.g. org/model@commit.")]
Dtype = Annotated[str, typer.Option(help="Weights and computation: float32, bfloat16, float16 or auto.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")]
Accelerate = Annotated[str | None, typer.Option(help="Accelerate config for multi-process training, e.g. gpus.yaml.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs per method, with seeds 0, 1, ...")]
Budget = Annotated[str, typer.Option(help="Budget: ci, quick, standard or tuned; e.g. standard,epochs=5.")]
PromptFormat = Annotated[str, typer.Option(help="Prompts: auto (chat if the model has a template), chat or plain.")]
GeneralText = Annotated[
    Path | None,
    typer.Option(help="Text for measuring forgetting, e.g. notes.txt, instead of the shipped one."),
]
TrainSizes = Annotated[str | None, typer.Option(help="Training sizes for a learning curve, e.g. 250,500,1000.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Tuning trials per method, scored on validation, e.g. 10.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Hyper-parameter, e.g. lora.rank=8; repeatable.")]
Out = Annotated[Path, typer.Option(help="Folder for the records, one file per run.")]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="Where to run: local, ray, ray://auto or ray://HOST:10001.")
]
Trackers = Annotated[str | None, typer.Option("--tracker", help="Also log each run to: tensorboard, mlflow, wandb.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the planned runs and exit.")]
Force = Annotated[bool, typer.Option("--force", help="Ignore existing records and run again.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, also beyond 80 characters.")]
SaveArtifacts = Annotated[
    bool | None,
    typer.Option(
        "--save-artifacts/--no-save-artifacts",
        help="Keep adapters or weights beside each record.",
        show_default="up to 64 MiB",
    ),
]

FAILED_STATUSES = ("error", "timeout")
"""Statuses of runs that make the exit code 1."""


def command(
    methods: Methods,
    task: Task,
    model: Model = "bookworm",
    dtype: Dtype = "float32",
    device: Device = "auto",
    accelerate: Accelerate = None,
    prompt_format: PromptFormat = "auto",
    seeds: Seeds = 1,
    budget: Budget = "standard",
    general_text: GeneralText = None,
    train_sizes: TrainSizes = None,
    trials: Trials = None,
    set_: Settings = None,
    out: Out = Path("results"),
    executor_name: ExecutorName = "local",
    tracker: Trackers = None,
    dry_run: DryRun = False,
    force: Force = False,
    save_artifacts: SaveArtifacts = None,
    wide: Wide = False,
    format: FormatOption = Format.table,
) -> None:
    """Run methods on a task, one process each, and print a comparison.

    Exit code: 0 all runs finished (`unsupported`, `did-not-fit` and `diverged`
    count as finished); 1 a run failed or timed out; 2 invalid input; 130
    interrupted (the same command continues with the remaining runs).
    """
    from bench.execution import executor, plan
    from bench.report import trackers

    active_trackers = trackers.resolve_trackers(tracker)
    chosen_executor = executor.resolve_executor(executor_name)
    chosen_executor.check(device)
    jobs = plan.plan_jobs(
        methods,
        task,
        model,
        seeds=seeds,
        budget_text=budget if trials is None else f"{budget},trials={trials}",
        settings=set_ or [],
        train_sizes=train_sizes,
        dtype=dtype,
        device=device,
        accelerate=accelerate,
        prompt_format=prompt_format,
        general_text=general_text,
        save_artifacts=save_artifacts,
        command=sys.argv[1:],
        announce=lambda note: print(note, file=sys.stderr),
    )
    if dry_run:
        _print_plan(jobs, format)
        return
    check_writable(out)
    records = _run_with_progress_bars(jobs, chosen_executor, out, force, active_trackers)
    _print_comparison(records, out, format, wide=wide)
    sys.exit(1 if any(record.status in FAILED_STATUSES for record in records) else 0)


def _print_plan(jobs: list[Job], format: Format) -> None:
    specs = [{"id": job.spec.id} | job.spec.model_dump(mode="json") for job in jobs]
    print_json(specs, indent=1 if format is Format.table else None)


class ProgressBars:
    """Observer of `run_jobs`: one progress bar per running job, one line per finished job.

    Also sends each record to the trackers, whose failures are warnings.
    """

    def __init__(
        self, console: PlainConsole, bars: Progress, job_count: int, trackers: dict[str, Tracker], out: Path
    ) -> None:
        self.console = console
        self.bars = bars
        self.job_count = job_count
        self.trackers = trackers
        self.out = out
        self.bar_ids: dict[int, TaskID] = {}

    def opened(self, description: str | None) -> None:
        """Print where jobs run, unless it is this machine."""
        if description:
            self.console.print_sentences([description])

    def started(self, index: int, job: Job) -> None:
        """Show nothing yet: a job that has a record needs no bar."""

    def progress(self, index: int, job: Job, state: ProgressState) -> None:
        """Update the bar of a job; the first state creates it."""
        if index not in self.bar_ids:
            self.bar_ids[index] = self.bars.add_task(self._title(index, job), total=None, state="")
        self.bars.update(
            self.bar_ids[index],
            completed=state.get("step", 0),
            total=state.get("steps"),
            state=describe_progress(state),
        )

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        """Replace the bar of a job by a line with its status."""
        from bench.execution.result_folder import stored_file
        from bench.report.trackers import log_record

        if index in self.bar_ids:
            self.bars.remove_task(self.bar_ids.pop(index))
        warnings = log_record(record, self.trackers, self.out)
        suffix = "" if is_new else " (existing record)"
        self.console.print_sentences([f"{self._title(index, job)}: {record.status}{suffix}"])
        file = stored_file(record, self.out)
        if file.stem != record.id:
            warnings = [*warnings, _describe_kept_record(record, self.out, file)]
        self.console.print_sentences([f"warning: {warning}" for warning in warnings], style="yellow")

    def _title(self, index: int, job: Job) -> str:
        return f"{clean_line(job.spec.method.name)} seed {job.spec.seed} ({index + 1}/{self.job_count})"


def _describe_kept_record(record: Record, out: Path, failure_file: Path) -> str:
    """Describe where the record of a failed run is if that of an earlier successful run stays."""
    exit_code = 1 if record.status in FAILED_STATUSES else 0
    return (
        f"this run ended with {record.status}, exit code {exit_code}; its record is {failure_file}; "
        f"the record of the earlier successful run stays as it was: {out / record.id}.json"
    )


def _run_with_progress_bars(
    jobs: list[Job], executor: Executor, out: Path, force: bool, trackers: dict[str, Tracker]
) -> list[Record]:
    """Run all jobs; an interruption stops the running workers and exits with code 130."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.cli.console import PlainConsole
    from bench.execution.runner import run_jobs

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a terminated command stops its workers too
    console = PlainConsole(stderr=True)
    title, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
    columns = (title, BarColumn(), state, TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bars:
            observer = ProgressBars(console, bars, len(jobs), trackers, out)
            return run_jobs(jobs, executor, out, force=force, observer=observer)
    except KeyboardInterrupt:
        print("interrupted: finished runs are kept; repeat the command to run the remaining ones", file=sys.stderr)
        sys.exit(130)


def _print_comparison(records: list[Record], out: Path, format: Format, *, wide: bool) -> None:
    from bench.analysis import advice, task_results
    from bench.analysis.constraints import Constraints
    from bench.report import advice_text, caveats, findings, next_steps, terminal_table

    (results,) = task_results.group_by_task(records)
    if format is Format.json:
        tables = results.summaries_by_size.values() or [results.summaries]
        rows = [row.model_dump(mode="json") for table in tables for row in table]
        from bench.execution.result_folder import stored_file

        print_json({"rows": rows, "records": [str(stored_file(record, out)) for record in records]})
        return
    from bench.cli.console import PlainConsole

    console = PlainConsole()
    constraints = Constraints()
    advised = advice.advise(results, constraints)
    console.print_sentences(advice_text.advice_sentences(advised, results, constraints))
    table = terminal_table.render_table(results, wide=wide)
    if wide:
        console.print_whole(table)
    else:
        console.print("", table)
    sentences = [
        *findings.comparison_sentences(results.comparison),
        *terminal_table.legend(results, wide=wide),
        *caveats.list_caveats(results),
    ]
    console.print_sentences(sentences)
    if results.records_by_size:
        console.print("", terminal_table.render_by_train_size(results))
    console.print_next_steps(next_steps.next_steps(advised, results, out), "Next:")
