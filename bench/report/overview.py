"""Many tasks at a glance: what each says, and how methods stand over all of them."""

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
    """A method on one task."""

    name: str
    control: bool
    place: int | None
    """Among the methods that ended well, the best first; None: it did not."""
    leads: bool
    level: bool
    """Whether it leads, or is not shown worse than who does; never of a control."""
    better: bool
    """Whether it is shown better than the best control."""


@dataclass(frozen=True)
class TaskOutline:
    """One task on one model, in a line; small, since it comes from another process."""

    title: str
    slug: str
    metric: str
    use: str | None
    answer: str
    leader: str | None
    score: Interval | None
    """The leader's."""
    control: str | None
    """The best control."""
    control_score: float | None
    can_rank: bool
    """Whether some method is shown better than the best control."""
    methods: int
    seeds: int
    questions: int
    failed: int
    """Runs that are not ok."""
    standings: tuple[MethodStanding, ...]


@dataclass(frozen=True)
class MethodOverview:
    """A method over all tasks: on how many of them it was what."""

    name: str
    control: bool
    place: float | None
    """The mean over the tasks that it ended well."""
    tasks: int
    leads: int
    level: int
    better: int
    failed: int


def outline_task(section: TaskResults, made: Advice) -> TaskOutline:
    """What there is to say of a section in a line."""
    found = section.comparison
    return TaskOutline(
        title=section.title,
        slug=section.slug,
        metric=section.metric,
        use=made.recommended,
        answer=made.answer,
        leader=found.leader.name if found.leader else None,
        score=found.leader.interval if found.leader else None,
        control=found.control.name if found.control else None,
        control_score=found.control.interval.mean if found.control else None,
        can_rank=found.can_rank,
        methods=len({row.label for row in section.rows}),
        seeds=len({record.spec.seed for record in section.records}),
        questions=max(len(record.samples) for record in section.records),
        failed=len(found.failed),
        standings=tuple(_standings(section)),
    )


def overview_methods(outlines: Sequence[TaskOutline]) -> list[MethodOverview]:
    """Every method over all tasks, best mean place first."""
    known: dict[tuple[str, bool], list[MethodStanding]] = defaultdict(list)
    for one in outlines:
        for standing in one.standings:
            known[standing.name, standing.control].append(standing)
    made = [_method(name, control, some) for (name, control), some in known.items()]
    return sorted(made, key=lambda one: (one.place is None, one.place or 0.0, one.name))


def _standings(section: TaskResults) -> list[MethodStanding]:
    """By the name of the method alone: settings that differ within a task are its best ones'."""
    found = section.comparison
    best: dict[str, MethodStanding] = {}
    for place, row in enumerate(section.rows, start=1):
        ok = row.status == "ok"
        leads = found.leader is not None and row.key == found.leader.key
        leader, control = found.against_leader.get(row.key), found.against_control.get(row.key)
        best.setdefault(
            row.method,
            MethodStanding(
                name=row.method,
                control=row.control,
                place=place if ok else None,
                leads=ok and leads,
                level=ok and (leads or (leader is not None and leader.verdict != "worse")),
                better=ok and control is not None and control.verdict == "better",
            ),
        )
    return list(best.values())


def _method(name: str, control: bool, some: Sequence[MethodStanding]) -> MethodOverview:
    places = [one.place for one in some if one.place is not None]
    return MethodOverview(
        name=name,
        control=control,
        place=fmean(places) if places else None,
        tasks=len(some),
        leads=sum(one.leads for one in some),
        level=sum(one.level for one in some),
        better=sum(one.better for one in some),
        failed=sum(one.place is None for one in some),
    )
