"""Whether scores fell: of each method, paired by seed and question, and of all methods of a task together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, sqrt

import numpy
from scipy import special

from bench.analysis import comparison, significance
from bench.analysis.power import POWER
from bench.analysis.regression.gates import GateFinding, GateVerdict, Policy
from bench.analysis.regression.pairing import RecordPair
from bench.analysis.seed_variance import NO_PRIOR, Scores, SeedVariancePrior
from bench.analysis.significance import Noise
from bench.records.record import Record

SEEDS = 3
SHIFT = "common shift"
GRID = 2.0**-14  # a hundredth of a point: falls that are seen are told to a tenth


@dataclass(frozen=True)
class ScoreDrop:
    """Scores after less scores before, of a method or common to all methods of a task."""

    name: str
    gate: str
    gap: Scores
    """A row for each seed, or for each method; a column for each question."""
    prior: SeedVariancePrior
    max_score_drop: float
    """A fall by less than this never fails."""

    @cached_property
    def noise(self) -> Noise:
        """How far off the mean may be."""
        return Noise.of(self.gap, self.prior)

    @property
    def p(self) -> float:
        """One-sided: how often scores that did not fall look as if they had fallen so much."""
        both = significance.p_value(self.gap, 0 * self.gap, self.prior)
        return both / 2 if self.gap.mean() < 0 else 1 - both / 2

    def visible(self, level: float) -> float:
        """About the smallest fall that is seen with 80 % power at a one-sided level, with data as noisy as these."""
        error = sqrt(self.noise.question_std**2 / self.noise.questions + self.noise.seed_stderr**2)
        return max(self._least(level, error) + float(special.ndtri(POWER)) * error, self.max_score_drop)

    def _least(self, level: float, error: float) -> float:
        """The smallest mean fall, on a grid, whose p is below a level.

        The normal score of p is nearly a line, so secants are there in four or five steps; where one leads out of what
        is left, it is halved.
        """
        if not error:
            return GRID
        wanted, low, high = float(special.ndtri(level)), 0.0, 1.0
        before, last, here = 0.0, 0.0, min(-wanted * error, 0.5)
        while high - low > GRID / 100 and abs(here - before) > GRID / 100:
            score = float(special.ndtri(significance.two_sided_tail(here, self.noise) / 2))
            low, high = (low, here) if score < wanted else (here, high)
            ahead = here + (wanted - score) * (here - before) / (score - last) if -inf < score < last else low
            before, last, here = here, score, ahead if low < ahead < high else (low + high) / 2
        return min(ceil(here / GRID) * GRID, 1.0)

    def finding(self, worse: float, better: float, level: float, company: int) -> GateFinding:
        """What it says, with p values adjusted for its company."""
        mean = float(self.gap.mean())
        verdict: GateVerdict = "same"
        if worse < level and mean <= -self.max_score_drop:
            verdict = "worse"
        elif better < level and mean >= self.max_score_drop:
            verdict = "better"
        least = self.visible(level / company)
        says = f"{change(self.gap)}, p = {worse:.2g}; a fall of about {100 * least:.1f} points is seen with 80 % power"
        return GateFinding(
            name=self.name, gate=self.gate, verdict=verdict, details=says, change=mean, smallest_drop=least
        )


@dataclass(frozen=True)
class ChangedPair:
    """A pair whose answers differ, and by how much its scores do."""

    pair: RecordPair
    gap: Scores
    """Scores after less scores before, by seed and question (seeds, items)."""


def find_score_drops(pairs: Sequence[RecordPair], policy: Policy) -> list[GateFinding]:
    """The main metric of each pair that compares, then what the methods of a task have in common.

    Answers that are as they were byte for byte need no statistics. Of the chance of a false alarm half goes to the
    methods and half to the shift that they share (Holm in each), so that many methods do not hide what all have.
    """
    found, changed, measured = [], [], []
    for one in pairs:
        if one.seeds and not one.unlike:
            fact = _fact(one)
            if fact is not None:
                found.append(fact)
                continue
            changed.append(ChangedPair(one, gap(one)))
            if one.trained and len(one.seeds) < SEEDS:
                says = f"{change(changed[-1].gap)}; {len(one.seeds)} of the {SEEDS} seeds that training needs at least"
                found.append(GateFinding(name=one.name, gate=one.metric, verdict="unsure", details=says))
            else:
                measured.append(changed[-1])
    return found + judge_drops(measured, changed, policy)


def _fact(one: RecordPair) -> GateFinding | None:
    """What is plain without statistics; None where answers differ."""

    def said(verdict: GateVerdict, says: str, change: float = 0.0) -> GateFinding:
        return GateFinding(name=one.name, gate=one.metric, verdict=verdict, details=says, change=change)

    for before, now in one.both():
        asked, answered = before.samples.ids, now.samples.ids
        if not asked or (asked != answered and set(asked) != set(answered)):
            return said("incomparable", f"seed {now.spec.seed}: not the same test questions were answered")
    if any(_answers(before) != _answers(now) for before, now in one.both()):
        return None
    scored = gap(one)
    shift = float(scored.mean())
    if scored.any() or any(before.scores != now.scores for before, now in one.both()):
        says = f"the same answers are scored otherwise: {100 * shift:+.1f} points"
        return said("better" if shift > 0 else "worse", says, shift)
    return said("same", "every answer is as before")


def judge_drops(measured: Sequence[ChangedPair], changed: Sequence[ChangedPair], policy: Policy) -> list[GateFinding]:
    """The verdicts on pairs that were measured well enough, and on the shift of all whose answers changed."""
    trained = [one.gap for one in measured if len(one.gap) > 1]
    prior = SeedVariancePrior.fit(trained, len(trained))
    falls = [ScoreDrop(one.pair.name, one.pair.metric, one.gap, prior, policy.max_score_drop) for one in measured]
    shifts = _common(changed)
    level = policy.level / 2 if shifts and falls else policy.level
    return [*_family(falls, level), *_family(shifts, level)]


def _family(falls: Sequence[ScoreDrop], level: float) -> list[GateFinding]:
    ps = [one.p for one in falls]
    both = zip(falls, significance.holm_adjust(ps), significance.holm_adjust([1 - p for p in ps]), strict=True)
    return [one.finding(worse, better, level, len(falls)) for one, worse, better in both]


def _common(changed: Sequence[ChangedPair]) -> list[ScoreDrop]:
    """The shift of all methods of a task whose answers changed: it sees what no single one of them can show."""
    tasks: dict[str, list[ChangedPair]] = {}
    for one in changed:
        tasks.setdefault(one.pair.comparison_group, []).append(one)
    return [
        ScoreDrop(
            f"{some[0].pair.task} · {some[0].pair.model} · all methods",
            SHIFT,
            numpy.stack([one.gap.mean(axis=0) for one in some]),
            NO_PRIOR,
            0.0,
        )
        for some in tasks.values()
        if len(some) > 1 and any(one.gap.any() for one in some)
    ]


def gap(one: RecordPair) -> Scores:
    """Scores after less scores before, by seed and question (seeds, items)."""
    rows = []
    for before, now in one.both():
        old, new = comparison.scores_by_question([before.samples, now.samples], one.metric)
        rows.append(new - old)
    return numpy.array(rows, dtype=numpy.float64)


def change(some: Scores) -> str:
    """The mean in points, with its sign."""
    return f"{100 * float(some.mean()):+.1f} points"


def _answers(record: Record) -> tuple[tuple[str, ...], bytes]:
    return record.samples.ids, record.samples.digest
