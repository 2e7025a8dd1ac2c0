"""The verbs that run: `run`, `list`, `validate`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Format, Formatted, check_writable

if TYPE_CHECKING:
    from bench.execution.executor import Executor
    from bench.execution.job import Job
    from bench.records.record import Record


Methods = Annotated[str, typer.Option(help="Names or paths, with commas between: lora,qlora,./mine.py; or all")]
Task = Annotated[str, typer.Option(help="A name or a folder: bookrec, ./mytask")]
Model = Annotated[
    str, typer.Option(help="A shipped model, a folder (a model or a PEFT adapter), or a hub name: org/model@commit")
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16: what weights are computed in.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, … or mps; auto is a GPU if there is one.")]
Accelerate = Annotated[
    str | None, typer.Option(help="A configuration of accelerate's: its processes train each run together.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Runs per method, with the seeds 0, 1, …")]
Budget = Annotated[str, typer.Option(help="ci, quick, standard, tuned, or key=value pairs: standard,epochs=5")]
TrainSizes = Annotated[str | None, typer.Option(help="Training sizes for a learning curve, e.g. 250,500,1000.")]
Trials = Annotated[
    int | None, typer.Option(min=1, help="Hyper-parameters tried on validation, as many for every method.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter: lora.rank=8")]
Out = Annotated[Path, typer.Option(help="Folder of the records, one file per run.")]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="local, ray, ray://auto or ray://HOST:10001?cpus=8&gpus=1&memory=16GiB.")
]
Trackers = Annotated[
    str | None, typer.Option("--tracker", help="Also log each run to tensorboard, mlflow or wandb, comma-separated.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the specs and stop.")]
Force = Annotated[bool, typer.Option("--force", help="Run again what has a record already.")]
SaveArtifacts = Annotated[
    bool, typer.Option("--save-artifacts", help="Keep adapters or weights beside each record, for bench export.")
]


def command(
    methods: Methods,
    task: Task,
    model: Model = "bookworm",
    dtype: Dtype = "float32",
    device: Device = "auto",
    accelerate: Accelerate = None,
    seeds: Seeds = 1,
    budget: Budget = "standard",
    train_sizes: TrainSizes = None,
    trials: Trials = None,
    set_: Settings = None,
    out: Out = Path("results"),
    executor_name: ExecutorName = "local",
    tracker: Trackers = None,
    dry_run: DryRun = False,
    force: Force = False,
    save_artifacts: SaveArtifacts = False,
    format: Formatted = Format.table,
) -> None:
    """Run methods on a task, each in a process of its own, and show what came of it.

    Exit code: 0, also where a method is unsupported or did not fit (those are results); 1 if a run ended in an error
    or had to be ended (timeout); 2 for bad input; 130 when interrupted, and the same command picks up where it stopped.
    """
    from bench.execution import executor, plan
    from bench.report import trackers

    tracked, place = trackers.resolve_trackers(tracker), executor.resolve_executor(executor_name)
    place.check(device)
    budget = budget if trials is None else f"{budget},trials={trials}"
    jobs = plan.plan_jobs(
        methods,
        task,
        model,
        seeds=seeds,
        budget_text=budget,
        settings=set_ or [],
        train_sizes=train_sizes,
        dtype=dtype,
        device=device,
        accelerate=accelerate,
        save_artifacts=save_artifacts,
        command=sys.argv[1:],
    )
    if dry_run:
        return _print(jobs, format)
    check_writable(out)
    records = _unless_interrupted(jobs, place, out, force, lambda record: trackers.log_record(record, tracked, out))
    _show(records, out, format)
    sys.exit(1 if any(record.status in ("error", "timeout") for record in records) else 0)


def _print(jobs: list[Job], format: Format) -> None:
    specs = [{"id": job.spec.id} | job.spec.model_dump(mode="json") for job in jobs]
    print(json.dumps(specs, ensure_ascii=False, indent=1 if format is Format.table else None))


def _unless_interrupted(
    jobs: list[Job], place: Executor, out: Path, force: bool, log: Callable[[Record], list[str]]
) -> list[Record]:
    """Every run; an interruption ends the command, and its worker too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run_all(jobs, place, out, force, log)
    except KeyboardInterrupt:
        print("bench: interrupted. What is finished is kept; the same command runs only the rest.", file=sys.stderr)
        sys.exit(130)


def _run_all(
    jobs: list[Job], place: Executor, out: Path, force: bool, log: Callable[[Record], list[str]]
) -> list[Record]:
    """Every run, as `place` makes them; `log` is told of each record and says what failed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from bench.execution.tuning import Tuner

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    made: dict[str, Record] = {}
    tuner = Tuner(out, place.launch)
    with place.open(jobs) as where, Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        if where:
            console.print(where, highlight=False)

        def run(numbered: tuple[int, Job]) -> tuple[Job, str, Record, bool]:
            number, job = numbered
            name = f"{job.spec.method.name} seed {job.spec.seed} ({number}/{len(jobs)})"
            line: list[Any] = []  # once there is something to show

            def show(state: dict[str, Any]) -> None:
                if not line:
                    line.append(bar.add_task(name, total=None, state=""))
                bar.update(line[0], completed=state.get("step", 0), total=state.get("steps"), state=_state(state))

            try:
                return job, name, *place.launch(tuner.with_best_params(job, show), out, force=force, show=show)
            finally:
                for shown in line:
                    bar.remove_task(shown)

        for job, name, record, fresh in place.map(run, enumerate(jobs, start=1)):
            made[job.spec.id] = record
            failed = log(record)
            console.print(f"{name}: {record.status}{'' if fresh else ' (kept from before)'}", highlight=False)
            for warning in failed:
                console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    return [made[job.spec.id] for job in jobs]


def _state(state: dict[str, Any]) -> str:
    """What a run is at, with what it has spent of its budget."""
    words = [f"on {state['node']}"] if "node" in state else []
    words += [f"trial {state['trial']}"] if "trial" in state else []
    words.append(state.get("phase", "starting"))
    if state.get("steps"):
        words.append(f"step {state['step']} of {state['steps']}")
        words.append(f"{state['tokens']:,} tokens")
        granted = f" of {state['granted_s']:g}" if state.get("granted_s") else ""
        words.append(f"{state['spent_s']:.0f}{granted} s")
    return " · ".join(words)


def _show(records: list[Record], out: Path, format: Format) -> None:
    from bench.analysis import comparison, task_results
    from bench.report import caveats, terminal_table

    (part,) = task_results.group_by_task(records)
    if format is Format.json:
        every = [row for some in part.rows_by_size.values() or [part.rows] for row in some]
        shown = [row.model_dump(mode="json") for row in every]
        print(json.dumps({"rows": shown, "records": [str(out / f"{record.id}.json") for record in records]}))
        return
    from rich.console import Console

    console = Console(markup=False)
    console.print(terminal_table.render_table(part))
    for line in [
        *comparison.comparison_sentences(part.comparison),
        *terminal_table.legend(part),
        *caveats.caveats(part),
    ]:
        console.print(line, highlight=False)
    if part.sizes:
        console.print("", terminal_table.render_by_train_size(part))
    console.print(f"Records: {out}/ (bench report {out}, bench advise {out})", highlight=False)
