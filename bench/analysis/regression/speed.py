"""Whether answering or adapting became slower: only runs that took turns on one machine can tell."""

from __future__ import annotations

from collections import defaultdict
from math import exp, log, sqrt
from pathlib import Path

import numpy
from scipy import special

from bench.analysis import task_results
from bench.analysis.regression.gates import GateFinding, GateVerdict, Policy
from bench.analysis.significance import SIGNIFICANCE_LEVEL
from bench.errors import UserError
from bench.records.comparability import same_machine

FEWEST = 5
PHASES = ("fit", "predict")
WORTH = 0.05  # seconds: what takes less is all start and no speed

Times = dict[tuple[str, str], list[float]]
"""Seconds of each round by method and phase."""


def compare_speed(rounds: Path, policy: Policy) -> list[GateFinding]:
    """Ratios of seconds, after over before, of rounds in `rounds/old/1, 2, …` and `rounds/new/1, 2, …`.

    Of twice as many rounds as are needed, the second half has to confirm the first. Raises `UserError` where rounds are
    too few, or were made on different machines.
    """
    old, new = (_times(rounds / side) for side in ("old", "new"))
    found = [_finding(*cell, old[cell], new[cell], policy) for cell in old if cell in new]
    says = f"no method took more than {1000 * WORTH:.0f} ms to fit or to answer in every round"
    return found or [GateFinding(name="all methods", gate="speed", verdict="unsure", details=says)]


def is_slower(found: list[GateFinding]) -> bool:
    """Whether anything is."""
    return any(one.verdict == "worse" for one in found)


def _finding(method: str, phase: str, old: list[float], new: list[float], policy: Policy) -> GateFinding:
    turns = [log(after / before) for before, after in zip(old, new, strict=True)]
    halves = [turns[:FEWEST], turns[FEWEST:]] if len(turns) >= 2 * FEWEST else [turns]
    verdict: GateVerdict = "worse" if all(_is_slower(half, policy) for half in halves) else "same"
    ratio, least = _bounds(turns)
    says = f"{phase} takes {ratio:.2f} times as long, at least {least:.2f} ({len(turns)} rounds in turns)"
    return GateFinding(name=method, gate="speed", verdict=verdict, details=says)


def _is_slower(turns: list[float], policy: Policy) -> bool:
    ratio, least = _bounds(turns)
    return ratio > 1 + policy.slower and least > 1 + policy.slower / 2


def _bounds(turns: list[float]) -> tuple[float, float]:
    """The geometric mean of ratios and its lower bound (one-sided, 95 %)."""
    mean, spread = float(numpy.mean(turns)), float(numpy.std(turns, ddof=1))
    return exp(mean), exp(mean - special.stdtrit(len(turns) - 1, 1 - SIGNIFICANCE_LEVEL) * spread / sqrt(len(turns)))


def _times(folder: Path) -> Times:
    """Seconds by method and phase, a value for each round; what is too short to tell is left out."""
    places = sorted((place for place in folder.glob("*") if place.is_dir()), key=lambda place: int(place.name))
    if len(places) < FEWEST:
        raise UserError(f"{folder}: {len(places)} rounds, and {FEWEST} at least are needed to tell speeds apart")
    found: Times = defaultdict(list)
    every = []
    for place in places:
        round_: dict[tuple[str, str], float] = defaultdict(float)  # all seeds of a method together
        for record in task_results.read_records([place]):
            every.append(record)
            cell = f"{record.spec.task.name} · {record.spec.base.name} · {record.spec.method.name}"
            for phase in PHASES:
                if record.cost and phase in record.cost.phases:
                    round_[cell, phase] += record.cost.phases[phase].wall_s
        for named, seconds in round_.items():
            if seconds > WORTH:
                found[named].append(seconds)
    if not same_machine(every):
        raise UserError(f"{folder}: rounds of different machines do not tell speeds apart")
    return {cell: times for cell, times in found.items() if len(times) == len(places)}
