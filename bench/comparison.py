"""Records of one comparison, put side by side: who leads, who beats the controls, and how sure that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

import numpy

from bench import contrast, terms
from bench.contrast import Difference, Interval, Scores, Verdict
from bench.record import Record


@dataclass(frozen=True)
class Cell:
    """One method with one set of hyper-parameters, over its seeds."""

    key: str
    name: str
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
    items: int | None
    """Test questions that would settle what is undecided; None where nothing is, or no number would."""


@dataclass(frozen=True)
class Comparison:
    """All that one comparison says; cells best first, contenders and controls."""

    metric: str
    cells: tuple[Cell, ...]
    failed: tuple[Record, ...]
    leader: Cell | None
    control: Cell | None
    against_control: dict[str, Contrast]
    """Each contender against the best control, by the contender's key."""
    against_leader: dict[str, Contrast]
    """Each other contender against the leader, by the other's key: "worse" is worse than the leader."""
    contrasts: int
    """How many contrasts p values are adjusted for."""

    @property
    def ranks(self) -> bool:
        """Whether the task can tell methods apart: some contender is shown better than every control."""
        if self.leader is None or self.control is None:
            return True
        return self.against_control[self.leader.key].verdict == "better"


def compare(records: Sequence[Record], within: float = contrast.WITHIN) -> Comparison:
    """Put the records of one comparison side by side; raises `Refused` where they were made under different terms.

    The leader and the best control are chosen by the same data that compare them, so p values are adjusted for all
    pairs that could have been chosen: any two contenders, and any contender with any control.
    """
    terms.hold(records)
    metric = records[0].spec.task.metric if records else ""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            groups[record.spec.key].append(record)
    cells = sorted((_cell(group, metric) for group in groups.values()), key=lambda cell: -cell.interval.mean)
    contenders, controls = ([cell for cell in cells if cell.control is control] for control in (False, True))
    leader, control = (some[0] if some else None for some in (contenders, controls))
    pairs = [*combinations(contenders, 2), *((ours, theirs) for ours in contenders for theirs in controls)]
    ps = contrast.holm([contrast.p_value(*_paired(ours, theirs)) for ours, theirs in pairs])
    adjusted = {frozenset((ours.key, theirs.key)): p for (ours, theirs), p in zip(pairs, ps, strict=True)}

    def settle(ours: Cell, theirs: Cell | None) -> Contrast:
        assert theirs is not None
        return _contrast(ours, theirs, adjusted[frozenset((ours.key, theirs.key))], len(pairs), within)

    return Comparison(
        metric=metric,
        cells=tuple(cells),
        failed=tuple(record for record in records if record.status != "ok"),
        leader=leader,
        control=control,
        against_control={cell.key: settle(cell, control) for cell in contenders if control},
        against_leader={cell.key: settle(cell, leader) for cell in contenders[1:]},
        contrasts=len(pairs),
    )


def _cell(group: Sequence[Record], metric: str) -> Cell:
    ordered = sorted(group, key=lambda record: record.spec.seed)
    rows = [{sample.id: sample.scores[metric] for sample in record.samples} for record in ordered]
    items = sorted(rows[0])
    scores = numpy.array([[row[item] for item in items] for row in rows], dtype=numpy.float64)
    spec = ordered[0].spec
    return Cell(
        key=spec.key,
        name=spec.method.name,
        control=spec.method.control,
        seeds=tuple(record.spec.seed for record in ordered),
        scores=scores,
        interval=contrast.interval(scores),
        records=tuple(ordered),
    )


def _paired(ours: Cell, theirs: Cell) -> tuple[Scores, Scores]:
    """Scores with the seeds that both have; each one's mean over its seeds where they share none."""
    shared = [seed for seed in ours.seeds if seed in theirs.seeds]
    if not shared:
        return ours.scores.mean(axis=0, keepdims=True), theirs.scores.mean(axis=0, keepdims=True)
    return tuple(cell.scores[[cell.seeds.index(seed) for seed in shared]] for cell in (ours, theirs))  # type: ignore[return-value]


def _contrast(ours: Cell, theirs: Cell, p: float, contrasts: int, within: float) -> Contrast:
    found = contrast.difference(*_paired(ours, theirs))
    said = contrast.verdict(found, p, within)
    items = contrast.items_to_decide(found, contrasts, within) if said == "undecided" else None
    return Contrast(ours.key, theirs.key, found, p, said, items)


def sentences(found: Comparison) -> list[str]:
    """What a comparison says, in words: who leads, who is shown worse, and what stays open."""
    leader, control = found.leader, found.control
    if leader is None:
        return []
    bounds, seeds = leader.interval, len(leader.seeds)
    said = [
        f"{leader.name} leads with {bounds.mean:.3f} {found.metric}; 95 of 100 such experiments would find it between "
        f"{bounds.low:.3f} and {bounds.high:.3f}"
        + (f" ({seeds} seeds)." if seeds > 1 else " (one seed, which says nothing of others).")
    ]
    names = {cell.key: cell.name for cell in found.cells}
    said += [f"{kind}: {some}." for kind, some in _sorted(found.against_leader, names, "it") if some]
    if control is None:
        return said
    said.append(f"The best control is {control.name} with {control.interval.mean:.3f}.")
    if not found.ranks:
        said.append(f"No method is shown better than {control.name}: this task cannot rank methods.")
    else:
        said += [f"{kind}: {some}." for kind, some in _sorted(found.against_control, names, control.name) if some]
    return said


def _sorted(contrasts: dict[str, Contrast], names: dict[str, str], other: str) -> list[tuple[str, str]]:
    """Names by what is shown of them, with what would settle the rest."""
    kinds: dict[Verdict, list[str]] = {"better": [], "equivalent": [], "worse": [], "undecided": []}
    for key, one in contrasts.items():
        more = f" (some {_round(one.items):,} test questions would tell)" if one.items else ""
        kinds[one.verdict].append(names[key] + more)
    words = {
        "better": f"Better than {other}",
        "equivalent": f"The same as {other} within {100 * contrast.WITHIN:.0f} points",
        "worse": f"Worse than {other}",
        "undecided": f"Not told apart from {other}",
    }
    return [(words[kind], ", ".join(some)) for kind, some in kinds.items()]


def _round(items: int) -> int:
    """Two digits are more than such a figure is worth."""
    scale = 10 ** max(len(str(items)) - 2, 0)
    return int(ceil(items / scale) * scale)
