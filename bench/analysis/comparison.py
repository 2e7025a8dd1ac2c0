"""Records of one comparison, put side by side: who leads, who beats the controls, and how sure that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy
from numpy.typing import NDArray

from bench.analysis import power, significance
from bench.analysis.seed_variance import NO_PRIOR, Scores, SeedVariancePrior
from bench.analysis.significance import Difference, Interval, Verdict
from bench.analysis.summary import method_labels
from bench.records import comparability
from bench.records.record import Record
from bench.records.samples import Samples


@dataclass(frozen=True)
class MethodResult:
    """One method with one set of hyper-parameters, over its seeds."""

    key: str
    name: str
    """The method's, with the settings that tell it from others of that name."""
    control: bool
    seeds: tuple[int, ...]
    scores: Scores
    interval: Interval
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Contrast:
    """A method against another, as far as the seeds they share go."""

    ours: str
    theirs: str
    difference: Difference
    p: float
    """Adjusted for every contrast of the comparison (Holm)."""
    verdict: Verdict
    questions_needed: int | None
    """Test questions that would settle what is undecided; None where nothing is, or no number would."""


@dataclass(frozen=True)
class Comparison:
    """All that one comparison says; cells best first, contenders and controls."""

    metric: str
    results: tuple[MethodResult, ...]
    failed: tuple[Record, ...]
    leader: MethodResult | None
    control: MethodResult | None
    against_control: dict[str, Contrast]
    """Each contender against the best control, by the contender's key."""
    against_leader: dict[str, Contrast]
    """Each other contender against the leader, by the other's key: "worse" is worse than the leader."""
    contrasts: int
    """How many contrasts p values are adjusted for."""
    prior: SeedVariancePrior
    """How far apart seeds let differences be."""

    @property
    def can_rank(self) -> bool:
        """Whether the task can rank methods: some contender is shown better than the best control, or lacks one."""
        if self.leader is None or self.control is None:
            return True
        return any(one.verdict == "better" for one in self.against_control.values())


def compare_methods(records: Sequence[Record]) -> Comparison:
    """Put the records of one comparison side by side; raises `UserError` where they were made under different terms.

    The leader and the best control are chosen by the same data that compare them, so p values are adjusted for all
    pairs that could have been chosen: any two contenders, and any contender with any control.
    """
    every = method_results(records)
    contenders, controls = ([cell for cell in every if cell.control is control] for control in (False, True))
    leader, control = (some[0] if some else None for some in (contenders, controls))
    pairs = [*combinations(contenders, 2), *((ours, theirs) for ours in contenders for theirs in controls)]
    prior = SeedVariancePrior.fit(
        [ours - theirs for ours, theirs in (_paired(*pair) for pair in pairs)], _varying(every)
    )
    ps = significance.holm_adjust([significance.p_value(*_paired(ours, theirs), prior) for ours, theirs in pairs])
    adjusted = {frozenset((ours.key, theirs.key)): p for (ours, theirs), p in zip(pairs, ps, strict=True)}

    def settle(some: Sequence[MethodResult], theirs: MethodResult | None) -> dict[str, Contrast]:
        if theirs is None:
            return {}
        made = {}
        for ours, found in zip(some, contrasts_with(some, theirs, prior), strict=True):
            p = adjusted[frozenset((ours.key, theirs.key))]
            said = significance.judge_difference(found, p)
            items = power.questions_to_decide(found, len(pairs)) if said == "inconclusive" else None
            made[ours.key] = Contrast(ours.key, theirs.key, found, p, said, items)
        return made

    return Comparison(
        metric=records[0].spec.task.metric if records else "",
        results=tuple(every),
        failed=tuple(record for record in records if record.status != "ok"),
        leader=leader,
        control=control,
        against_control=settle(contenders, control),
        against_leader=settle(contenders[1:], leader),
        contrasts=len(pairs),
        prior=prior,
    )


def method_results(records: Sequence[Record]) -> list[MethodResult]:
    """Every method that was ok, best first; raises `UserError` where the records were made under different terms."""
    comparability.require_comparable(records)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            groups[record.spec.key].append(record)
    named = method_labels(records)
    scores = {key: _scores(group) for key, group in groups.items()}
    prior = SeedVariancePrior.fit(list(scores.values()), len(scores))
    intervals = significance.score_intervals(list(scores.values()), prior)
    made = [
        _cell(group, named[key], scores[key], found)
        for (key, group), found in zip(groups.items(), intervals, strict=True)
    ]
    return sorted(made, key=lambda cell: -cell.interval.mean)


def _cell(group: Sequence[Record], name: str, scores: Scores, interval: Interval) -> MethodResult:
    ordered = sorted(group, key=_seed)
    return MethodResult(
        key=ordered[0].spec.key,
        name=name,
        control=ordered[0].spec.method.control,
        seeds=tuple(map(_seed, ordered)),
        scores=scores,
        interval=interval,
        records=tuple(ordered),
    )


def _scores(group: Sequence[Record]) -> Scores:
    """The main metric of every question, a row for each seed."""
    return scores_by_question([record.samples for record in sorted(group, key=_seed)], group[0].spec.task.metric)


def scores_by_question(some: Sequence[Samples], metric: str) -> Scores:
    """A score of the same questions in several runs, a row each, questions in the order of their ids.

    Raises KeyError where a question of the first run is none of another.
    """
    items, _ = _places(some[0].ids)
    rows = []
    for one in some:
        own, places = _places(one.ids)
        if own != items:
            known = dict(zip(own, places, strict=True))
            places = numpy.array([known[item] for item in items])
        rows.append(numpy.frombuffer(one.scores(metric))[places])
    return numpy.array(rows, dtype=numpy.float64)


@lru_cache(maxsize=256)
def _places(ids: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[numpy.intp]]:
    """Questions in the order of their ids, and where each stands."""
    known = {item: place for place, item in enumerate(ids)}
    items = tuple(sorted(known))
    return items, numpy.array([known[item] for item in items], dtype=numpy.intp)


def _seed(record: Record) -> int:
    return record.spec.seed


def _varying(cells: Sequence[MethodResult]) -> int:
    """How many methods depend on the seed."""
    return sum(len(cell.seeds) > 1 and bool(numpy.ptp(cell.scores.mean(axis=1)) > 0) for cell in cells)


def _paired(ours: MethodResult, theirs: MethodResult) -> tuple[Scores, Scores]:
    """Scores with the seeds that both have; each one's mean over its seeds where they share none."""
    shared = [seed for seed in ours.seeds if seed in theirs.seeds]
    if not shared:
        return ours.scores.mean(axis=0, keepdims=True), theirs.scores.mean(axis=0, keepdims=True)
    return tuple(cell.scores[[cell.seeds.index(seed) for seed in shared]] for cell in (ours, theirs))  # type: ignore[return-value]


def contrast_between(ours: MethodResult, theirs: MethodResult, prior: SeedVariancePrior = NO_PRIOR) -> Difference:
    """One method's scores less another's, by the seeds that both have; of none in common, by each one's means."""
    return contrasts_with([ours], theirs, prior)[0]


def contrasts_with(
    some: Sequence[MethodResult], theirs: MethodResult, prior: SeedVariancePrior = NO_PRIOR
) -> list[Difference]:
    """The scores of several methods, each less those of one."""
    return significance.paired_differences([_paired(ours, theirs) for ours in some], prior)
