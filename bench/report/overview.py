"""Overview of many tasks: a line for each task, and each method over all tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.advice import Advice
from bench.analysis.significance import Interval
from bench.analysis.task_results import TaskResults


@dataclass(frozen=True)
class MethodStanding:
    """A method on one task.

    Attributes:
        name: Name of the method, without settings.
        control: True for a control.
        rank: Rank among the methods that completed the task, 1 is best; None if it failed.
        leads: True for the leader.
        not_worse: True for the leader and for contenders that are not significantly worse than it.
        better: True if the method is significantly better than the best control.
    """

    name: str
    control: bool
    rank: int | None
    leads: bool
    not_worse: bool
    better: bool


@dataclass(frozen=True)
class TaskOutline:
    """One line of the overview: a task on one model.

    An outline is small, since worker processes send it to the parent process.

    Attributes:
        title: Task and model.
        slug: File name of the page without the suffix.
        metric: Main metric.
        recommended: Label of the recommended method; None if no method completed the task.
        answer: Kind of advice, see `bench.analysis.advice.Advice.answer`.
        preliminary: True if the recommendation rests on one seed or a short budget.
        leader: Label of the leader; None without one.
        score: Mean and interval of the leader.
        control: Label of the best control; None without one.
        control_score: Mean of the best control.
        can_rank: True if some method is significantly better than the best control.
        methods: Number of methods.
        seeds: Number of seeds.
        questions: Number of test questions.
        failed: Number of runs that are not ok.
        standings: Every method on this task.
    """

    title: str
    slug: str
    metric: str
    recommended: str | None
    answer: str
    preliminary: bool
    leader: str | None
    score: Interval | None
    control: str | None
    control_score: float | None
    can_rank: bool
    methods: int
    seeds: int
    questions: int
    failed: int
    standings: tuple[MethodStanding, ...]


@dataclass(frozen=True)
class MethodOverview:
    """A method over all tasks.

    Attributes:
        name: Name of the method, without settings.
        control: True for a control.
        mean_rank: Mean rank over the tasks that the method completed; None if it completed none.
        tasks: Number of tasks with the method.
        leads: Number of tasks that it leads.
        not_worse: Number of tasks on which it leads or is not significantly worse than the leader.
        better: Number of tasks on which it is significantly better than the best control.
        failed: Number of tasks that it did not complete.
    """

    name: str
    control: bool
    mean_rank: float | None
    tasks: int
    leads: int
    not_worse: int
    better: int
    failed: int


def outline_task(task_results: TaskResults, advice: Advice) -> TaskOutline:
    """Summarize a task in a line of the overview."""
    comparison = task_results.comparison
    leader, control = comparison.leader, comparison.control
    return TaskOutline(
        title=task_results.title,
        slug=task_results.slug,
        metric=task_results.metric,
        recommended=advice.recommended,
        answer=advice.answer,
        preliminary=advice.recommended is not None and advice.answer != "inconclusive" and advice.is_preliminary,
        leader=leader.name if leader else None,
        score=leader.interval if leader else None,
        control=control.name if control else None,
        control_score=control.interval.mean if control else None,
        can_rank=comparison.can_rank,
        methods=len({row.label for row in task_results.summaries}),
        seeds=len({record.spec.seed for record in task_results.records}),
        questions=max(len(record.samples) for record in task_results.records),
        failed=len(comparison.failed),
        standings=tuple(_standings(task_results)),
    )


def overview_methods(outlines: Sequence[TaskOutline]) -> list[MethodOverview]:
    """Summarize every method over all tasks, best mean rank first."""
    standings: dict[tuple[str, bool], list[MethodStanding]] = defaultdict(list)
    for outline in outlines:
        for standing in outline.standings:
            standings[standing.name, standing.control].append(standing)
    methods = [_method_overview(name, control, group) for (name, control), group in standings.items()]
    return sorted(methods, key=lambda method: (method.mean_rank is None, method.mean_rank or 0.0, method.name))


def _standings(task_results: TaskResults) -> list[MethodStanding]:
    """Return one standing for each method name, that of its best settings."""
    comparison = task_results.comparison
    best: dict[str, MethodStanding] = {}
    for rank, row in enumerate(task_results.summaries, start=1):
        ok = row.status == "ok"
        leads = comparison.leader is not None and row.key == comparison.leader.key
        vs_leader, vs_control = comparison.against_leader.get(row.key), comparison.against_control.get(row.key)
        best.setdefault(
            row.method,
            MethodStanding(
                name=row.method,
                control=row.control,
                rank=rank if ok else None,
                leads=ok and leads,
                not_worse=ok and (leads or (vs_leader is not None and vs_leader.verdict != "worse")),
                better=ok and vs_control is not None and vs_control.verdict == "better",
            ),
        )
    return list(best.values())


def _method_overview(name: str, control: bool, standings: Sequence[MethodStanding]) -> MethodOverview:
    ranks = [standing.rank for standing in standings if standing.rank is not None]
    return MethodOverview(
        name=name,
        control=control,
        mean_rank=fmean(ranks) if ranks else None,
        tasks=len(standings),
        leads=sum(standing.leads for standing in standings),
        not_worse=sum(standing.not_worse for standing in standings),
        better=sum(standing.better for standing in standings),
        failed=sum(standing.rank is None for standing in standings),
    )
