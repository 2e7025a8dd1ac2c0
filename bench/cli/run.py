"""The command `bench run`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Format, FormatOption, Language, check_writable, command_arguments, localize, translator
from bench.cli.run_progress import (
    RunProgress,
    announce,
    describe_forecast,
    describe_seed_choice,
    exit_code,
    run_bars,
)
from bench.cli.terminal import print_json
from bench.errors import UserError
from bench.i18n import Message

if TYPE_CHECKING:
    from bench.execution.executor import Executor
    from bench.execution.forecast.job_forecast import JobForecast
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
Seeds = Annotated[
    str, typer.Option(metavar="N|auto", help="Runs per method, e.g. 3; auto: 3 within 30 minutes, else 1.")
]
Budget = Annotated[str, typer.Option(help="Budget: ci, quick, standard or tuned; e.g. standard,epochs=5.")]
PromptFormat = Annotated[str, typer.Option(help="Prompts: auto (chat if the model has a template), chat or plain.")]
Decoding = Annotated[str, typer.Option(help="Answers: free, or constrained to the task's JSON schema or format.")]
GeneralText = Annotated[
    Path | None,
    typer.Option(help="Text for measuring forgetting, e.g. notes.txt, instead of the shipped one."),
]
TrainSizes = Annotated[str | None, typer.Option(help="Training sizes for a learning curve, e.g. 250,500,1000.")]
Trials = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tuning trials per method, scored on validation, e.g. 10.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Hyper-parameter, e.g. lora.rank=8; repeatable.")
]
Out = Annotated[Path, typer.Option(help="Folder for the records, one file per run.")]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="Where to run: local, ray, ray://auto or ray://HOST:10001.")
]
Trackers = Annotated[str | None, typer.Option("--tracker", help="Also log each run to: tensorboard, mlflow, wandb.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the planned runs and exit.")]
Force = Annotated[bool, typer.Option("--force", help="Ignore existing records and run again.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, also beyond 80 characters.")]
SaveArtifacts = Annotated[
    bool, typer.Option("--save-artifacts", help="Keep adapters and weights of any size; else those up to 64 MiB.")
]
SaveNoArtifacts = Annotated[bool, typer.Option("--no-save-artifacts", help="Keep no adapters or weights.")]


def command(
    methods: Methods,
    task: Task,
    model: Model = "bookworm",
    dtype: Dtype = "float32",
    device: Device = "auto",
    accelerate: Accelerate = None,
    prompt_format: PromptFormat = "auto",
    decoding: Decoding = "free",
    seeds: Seeds = "1",
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
    save_artifacts: SaveArtifacts = False,
    no_save_artifacts: SaveNoArtifacts = False,
    wide: Wide = False,
    lang: Language = None,
    format: FormatOption = Format.table,
) -> None:
    """Run methods on a task, one process each, and print a comparison.

    Exit code: 0 all runs finished (`unsupported`, `did-not-fit` and `diverged`
    count as finished); 1 a run failed or timed out; 2 invalid input; 130
    interrupted (the same command continues with the remaining runs).
    """
    announce(Message("Planning the runs …"))
    from bench.execution import executor, plan
    from bench.execution.forecast import seed_choice
    from bench.report import trackers

    num_seeds = seed_choice.parse_seeds(seeds)
    active_trackers = trackers.resolve_trackers(tracker)
    chosen_executor = executor.resolve_executor(executor_name)
    chosen_executor.check(device)
    jobs = plan.plan_jobs(
        methods,
        task,
        model,
        seeds=num_seeds or seed_choice.AUTO_SEEDS,
        budget_text=budget if trials is None else f"{budget},trials={trials}",
        settings=set_ or [],
        train_sizes=train_sizes,
        dtype=dtype,
        device=device,
        accelerate=accelerate,
        prompt_format=prompt_format,
        decoding=decoding,
        general_text=general_text,
        save_artifacts=_which_artifacts(save_artifacts, no_save_artifacts),
        command=command_arguments("run"),
        announce=announce,
    )
    if not dry_run:
        check_writable(out)
    forecasts = _forecast(jobs, executor_name, out, force=force, runs_follow=not dry_run)
    jobs, forecasts = _announce_runs(jobs, forecasts, choose_seeds=num_seeds is None)
    if dry_run:
        _print_plan(jobs, format)
        return
    records = run_with_progress(jobs, forecasts, chosen_executor, out, force, active_trackers)
    print_comparison(records, out, format, wide=wide)
    sys.exit(exit_code(records))


def _which_artifacts(all_sizes: bool, none: bool) -> bool | None:
    """Return the artifacts to keep: True for all, False for none, None for small ones."""
    if all_sizes and none:
        raise UserError(
            Message("--save-artifacts and --no-save-artifacts exclude each other"),
            hint=Message("leave out one of them"),
        )
    return True if all_sizes else False if none else None


def _announce_runs(
    jobs: list[Job], forecasts: list[JobForecast], *, choose_seeds: bool
) -> tuple[list[Job], list[JobForecast]]:
    """Print how many runs there are and about how long they take.

    Returns:
        The runs to make, which are fewer if `choose_seeds` is True and three seeds take too long, and their forecasts.
    """
    if choose_seeds:
        from bench.execution.forecast import seed_choice

        choice = seed_choice.choose_seeds(jobs, forecasts)
        jobs, forecasts = choice.jobs, choice.forecasts
        announce(describe_seed_choice(choice))
    for sentence in describe_forecast(forecasts):
        announce(sentence)
    return jobs, forecasts


def _print_plan(jobs: list[Job], format: Format) -> None:
    specs = [{"id": job.spec.id} | job.spec.model_dump(mode="json") for job in jobs]
    print_json(specs, indent=1 if format is Format.table else None)


def _forecast(jobs: list[Job], executor_name: str, out: Path, *, force: bool, runs_follow: bool) -> list[JobForecast]:
    """Return the forecasts of all jobs."""
    from bench.cli.options import status_line
    from bench.execution import executor
    from bench.execution.forecast import job_forecast

    if executor_name == executor.LOCAL:
        with status_line() as show:
            is_announced = False

            def on_progress(state: ProgressState) -> None:
                nonlocal is_announced
                if not is_announced:
                    announce(Message("Measuring how fast this machine is; the figures are kept for later commands …"))
                    is_announced = True
                show(state)

            forecasts = job_forecast.forecast_jobs(
                jobs, out, force=force, runs_follow=runs_follow, on_progress=on_progress
            )
    else:  # the nodes of a cluster are other machines
        forecasts = [job_forecast.NOT_KNOWN] * len(jobs)
    return forecasts


def run_with_progress(
    jobs: list[Job],
    forecasts: list[JobForecast],
    executor: Executor,
    out: Path,
    force: bool,
    trackers: dict[str, Tracker],
) -> list[Record]:
    """Run all jobs; an interruption stops the running workers and exits with code 130.

    Args:
        jobs: Jobs of `plan_jobs`.
        forecasts: Expected seconds of each job.
        executor: Where the jobs run.
        out: Folder of the records.
        force: Run jobs again that have a record.
        trackers: Trackers by name, which receive each record.
    """
    from bench.cli.console import PlainConsole
    from bench.execution.runner import run_jobs

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a terminated command stops its workers too
    console = PlainConsole(stderr=True)
    try:
        with run_bars(console) as bars:
            observer = RunProgress(console, bars, jobs, forecasts, trackers, out)
            return run_jobs(jobs, executor, out, force=force, observer=observer)
    except KeyboardInterrupt:
        note = Message("interrupted: finished runs are kept; repeat the command to run the remaining ones")
        print(localize(note), file=sys.stderr)
        sys.exit(130)


def print_comparison(records: list[Record], out: Path, format: Format = Format.table, *, wide: bool = False) -> None:
    """Print the advice, the table with its caveats, and what to type next.

    Args:
        records: Records of one task and model.
        out: Folder of the records.
        format: `json` prints the table's rows and the files of the records instead.
        wide: Print all columns of the table.
    """
    from bench.analysis import advice, task_results
    from bench.analysis.constraints import Constraints
    from bench.report import advice_text, caveats, findings, next_steps, shift_table, terminal_table

    (results,) = task_results.group_by_task(records)
    if format is Format.json:
        tables = results.summaries_by_size.values() or [results.summaries]
        rows = [row.model_dump(mode="json") for table in tables for row in table]
        from bench.execution.result_folder import stored_file

        print_json({"rows": rows, "records": [str(stored_file(record, out)) for record in records]})
        return
    from bench.cli.console import PlainConsole

    console, translate = PlainConsole(), translator()
    constraints = Constraints()
    advised = advice.advise(results, constraints, translate)
    console.print_advice(advice_text.advice_sentences(advised, results, constraints, translate))
    table = terminal_table.render_table(results, translate, wide=wide)
    if wide:
        console.print_whole(table)
    else:
        console.print("", table)
    sentences = [
        *findings.comparison_sentences(results.comparison, translate),
        *terminal_table.legend(results, translate, wide=wide),
        *shift_table.describe_shift(results, translate),
        *caveats.list_caveats(results, translate),
    ]
    console.print_sentences(sentences)
    if results.records_by_size:
        console.print("", terminal_table.render_by_train_size(results, translate))
    console.print_next_steps(next_steps.next_steps(advised, results, out, translate), translate("Next:"))
