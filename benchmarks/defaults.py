"""Sweep the learning rate of trained methods around its default, and print how much the default gives away.

Run: python benchmarks/defaults.py sweep --models bookworm --tasks bookrec,capitals --out build/defaults
     python benchmarks/defaults.py table build/defaults

`sweep` stores one record per run, so an interrupted sweep goes on where it ended, and several sweeps can share a
folder. Scores are on validation questions. The regret of a default is the best score of the sweep minus the score at
the default; the best of several noisy scores is too high by chance, so a regret below twice its standard error is no
finding.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from bench import registry
from bench.errors import UserError
from bench.execution import plan
from bench.execution.executor import resolve_executor
from bench.execution.job import Job
from bench.execution.runner import SilentObserver, run_jobs
from bench.records import Record
from bench.records.budget_text import format_budget
from bench.records.reader import read_files
from bench.records.samples import answer_metric

METHODS = "lora,full,head,prefix,prompt-tuning,ia3,bitfit,dora,adapter"
FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


class PrintFinished(SilentObserver):
    """Print one line for each finished run."""

    def finished(self, index: int, job: Job, record: Record, is_new: bool) -> None:
        """Print rate, score and validation loss."""
        spec = record.spec
        score = record.scores.get(answer_metric(spec.task.metric, record.scores)) if record.scores else None
        print(
            f"{index + 1:3} {spec.base.name} {spec.task.name} {spec.method.name} lr={spec.method.params['lr']:.3g} "
            f"{record.status} {score} loss={validation_loss(record)} {fit_seconds(record):.0f} s",
            flush=True,
        )


def sweep(models: Sequence[str], tasks: Sequence[str], methods: Sequence[str], args: argparse.Namespace) -> None:
    """Run every method at every factor times its default learning rate."""
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [
        job
        for model in models
        for task in tasks
        for method in methods
        for factor in args.factors
        for job in plan_at_rate(model, task, method, factor, args)
    ]
    executor = resolve_executor("local")
    run_jobs(jobs, executor, args.out, observer=PrintFinished())


def plan_at_rate(model: str, task: str, method: str, factor: float, args: argparse.Namespace) -> list[Job]:
    """Plan the runs of a method at `factor` times its default rate, without the controls that a comparison adds."""
    setting = f"{method}.lr={default_rate(method) * factor:.4g}"
    jobs = plan.plan_jobs(
        method, task, model, seeds=args.seeds, budget_text=args.budget, settings=[setting], device="cpu"
    )
    return [
        job.model_copy(update={"spec": job.spec.model_copy(update={"split": "validation"})})
        for job in jobs
        if job.spec.method.name == method
    ]


def default_rate(method: str) -> float:
    """Return the default of the hyper-parameter `lr`."""
    return float(registry.find_method(method)().lr)  # type: ignore[attr-defined]


def fit_seconds(record: Record) -> float:
    """Return the seconds of training; not a number for a run without cost."""
    return record.cost.phases["fit"].wall_s if record.cost and "fit" in record.cost.phases else math.nan


def validation_loss(record: Record) -> float | None:
    """Return the last validation loss of the training curve, in nats per completion token."""
    losses = [point.validation_loss for point in record.curve if point.validation_loss is not None]
    return losses[-1] if losses else None


def regret_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per model, task, budget and method: scores by factor of the default, and the regret."""
    groups: dict[tuple[str, str, str, str], dict[float, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        spec = record.spec
        budget = format_budget(spec.budget)
        factor = float(f"{spec.method.params['lr'] / default_rate(spec.method.name):.3g}")
        groups[spec.base.name, spec.task.name, budget, spec.method.name][factor].append(record)
    rows = []
    for (model, task, budget, method), by_factor in sorted(groups.items()):
        if 1.0 not in by_factor:
            continue
        scores = {factor: mean_score(runs) for factor, runs in sorted(by_factor.items())}
        if not any(scores.values()):
            continue
        best = max(scores, key=lambda factor: (scores[factor], -abs(math.log(factor))))
        difference = paired_difference(by_factor[best], by_factor[1.0])
        row = {"model": model, "task": task, "budget": budget, "method": method}
        row |= {f"x{factor:.3g}": f"{score:.3f}" for factor, score in scores.items()}
        rows.append(row | {"best": f"x{best:g}", "regret": f"{difference[0]:.3f}", "se": f"{difference[1]:.3f}"})
    return pd.DataFrame(rows).fillna("")


def mean_score(runs: Sequence[Record]) -> float:
    """Return the mean score of single answers; a run that diverged scores 0."""
    return mean(
        record.scores[answer_metric(record.spec.task.metric, record.scores)] if record.scores else 0.0
        for record in runs
    )


def paired_difference(best: Sequence[Record], default: Sequence[Record]) -> tuple[float, float]:
    """Return the mean difference over questions and its standard error."""
    scored = next(record for record in (*best, *default) if record.scores)
    metric = answer_metric(scored.spec.task.metric, scored.scores)
    scores = [
        {sample.id: sample.scores[metric] for record in runs if record.spec.seed == 0 for sample in record.samples}
        for runs in (best, default)
    ]
    differences = [scores[0].get(name, 0.0) - score for name, score in scores[1].items()]
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return mean_score(best) - mean_score(default), error


def main() -> None:
    """Read the command line and run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sweeping = commands.add_parser("sweep")
    sweeping.add_argument("--models", default="bookworm")
    sweeping.add_argument("--tasks", default="bookrec,capitals")
    sweeping.add_argument("--methods", default=METHODS)
    sweeping.add_argument("--factors", type=lambda text: [float(part) for part in text.split(",")], default=FACTORS)
    sweeping.add_argument("--budget", default="standard")
    sweeping.add_argument("--seeds", type=int, default=1)
    sweeping.add_argument("--out", type=Path, default=Path("build/defaults"))
    commands.add_parser("table").add_argument("folder", type=Path)
    args = parser.parse_args()
    try:
        if args.command == "sweep":
            sweep(args.models.split(","), args.tasks.split(","), args.methods.split(","), args)
        else:
            print(regret_table(list(read_files(sorted(args.folder.glob("*.json"))))).to_string(index=False))
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
