"""Whether scores fell: of each method, paired by seed and question, and of all methods of a task together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy
from scipy import stats as scipy_stats

from bench import contrast
from bench.contrast import POWER
from bench.gates import Finding, Policy, Verdict
from bench.pairing import Pair
from bench.prior import NOTHING, Prior, Scores
from bench.record import Record

SEEDS = 3
SHIFT = "common shift"


@dataclass(frozen=True)
class Fall:
    """Scores after less scores before, of a method or common to all methods of a task."""

    name: str
    gate: str
    gap: Scores
    """A row for each seed, or for each method; a column for each question."""
    prior: Prior
    drop: float
    """A fall by less than this never fails."""

    @property
    def p(self) -> float:
        """One-sided: how often scores that did not fall look as if they had fallen so much."""
        both = contrast.p_value(self.gap, 0 * self.gap, self.prior)
        return both / 2 if self.gap.mean() < 0 else 1 - both / 2

    def visible(self, level: float) -> float:
        """The smallest fall that is seen with 80 % power at a one-sided level, the data being as noisy as these."""
        found = contrast.difference(self.gap, 0 * self.gap, self.prior)
        error = sqrt(found.spread**2 / found.items + found.wobble**2)
        return float((scipy_stats.norm.ppf(1 - level) + scipy_stats.norm.ppf(POWER)) * error)

    def finding(self, worse: float, better: float, level: float, company: int) -> Finding:
        """What it says, with p values adjusted for its company."""
        mean = float(self.gap.mean())
        verdict: Verdict = "same"
        if worse < level and mean <= -self.drop:
            verdict = "worse"
        elif better < level and mean >= self.drop:
            verdict = "better"
        least = 100 * self.visible(level / company)
        says = f"{change(self.gap)}, p = {worse:.2g}; a fall of {least:.1f} points is seen with 80 % power"
        return Finding(name=self.name, gate=self.gate, verdict=verdict, says=says, change=mean)


def look(pairs: Sequence[Pair], policy: Policy) -> list[Finding]:
    """The main metric of each pair that compares, then what the methods of a task have in common.

    Answers that are as they were byte for byte need no statistics. Of the chance of a false alarm half goes to the
    methods and half to the shift that they share (Holm in each), so that many methods do not hide what all have.
    """
    pairs = [one for one in pairs if one.seeds and not one.unlike]
    gaps = {one.name: gap(one) for one in pairs}
    found, changed, measured = [], [], []
    for one in pairs:
        if all(_answers(before) == _answers(now) for before, now in one.both()):
            found.append(Finding(name=one.name, gate=one.metric, verdict="same", says="every answer is as before"))
            continue
        changed.append(one)
        if one.trained and len(one.seeds) < SEEDS:
            says = f"{change(gaps[one.name])}; {len(one.seeds)} of the {SEEDS} seeds that training needs at least"
            found.append(Finding(name=one.name, gate=one.metric, verdict="unsure", says=says))
        else:
            measured.append(one)
    return found + settle(measured, changed, gaps, policy)


def settle(measured: Sequence[Pair], changed: Sequence[Pair], gaps: dict[str, Scores], policy: Policy) -> list[Finding]:
    """The verdicts on pairs that were measured well enough, and on the shift of all whose answers changed."""
    trained = [gaps[one.name] for one in measured if len(gaps[one.name]) > 1]
    prior = Prior.of(trained, len(trained))
    falls = [Fall(one.name, one.metric, gaps[one.name], prior, policy.drop) for one in measured]
    shifts = _common(changed, gaps)
    level = policy.level / 2 if shifts and falls else policy.level
    return [*_family(falls, level), *_family(shifts, level)]


def _family(falls: Sequence[Fall], level: float) -> list[Finding]:
    ps = [one.p for one in falls]
    both = zip(falls, contrast.holm(ps), contrast.holm([1 - p for p in ps]), strict=True)
    return [one.finding(worse, better, level, len(falls)) for one, worse, better in both]


def _common(pairs: Sequence[Pair], gaps: dict[str, Scores]) -> list[Fall]:
    """The shift of all methods of a task whose answers changed: it sees what no single one of them can show."""
    tasks: dict[str, list[Scores]] = {}
    for one in pairs:
        tasks.setdefault(f"{one.task} · {one.model} · all methods", []).append(gaps[one.name].mean(axis=0))
    return [
        Fall(name, SHIFT, numpy.stack(rows), NOTHING, 0.0)
        for name, rows in tasks.items()
        if len(rows) > 1 and any(row.any() for row in rows)
    ]


def gap(one: Pair) -> Scores:
    """Scores after less scores before, by seed and question (seeds, items)."""
    metric, rows = one.metric, []
    for before, now in one.both():
        old, new = ({sample.id: sample.scores[metric] for sample in side.samples} for side in (before, now))
        rows.append([new[item] - old[item] for item in sorted(old)])
    return numpy.array(rows, dtype=numpy.float64)


def change(some: Scores) -> str:
    """The mean in points, with its sign."""
    return f"{100 * float(some.mean()):+.1f} points"


def _answers(record: Record) -> list[tuple[str, str]]:
    return [(sample.id, sample.raw) for sample in record.samples]


def _change(gap: Scores) -> str:
    return f"{100 * float(gap.mean()):+.1f} points"
