"""Slowdown of training and prediction, from interleaved rounds of two environments."""

from __future__ import annotations

from collections import defaultdict
from math import exp, log, sqrt
from pathlib import Path

import numpy
from scipy import special

from bench.analysis.regression.gates import SPEED_PHASES, GateFinding, GateVerdict, Policy
from bench.analysis.statistic import SIGNIFICANCE_LEVEL
from bench.errors import UserError
from bench.i18n import Message
from bench.records import Record, read_records
from bench.records.comparability import same_machine

MIN_ROUNDS = 5
MIN_PHASE_SECONDS = 0.05
"""A shorter phase consists of overhead, and its ratio says nothing about speed."""

RoundTimes = dict[tuple[str, str], list[float]]
"""Seconds of each round, by name of the method and phase."""


def compare_speed(rounds: Path, policy: Policy) -> list[GateFinding]:
    """Judge the ratio of new to old times per round.

    With twice the required rounds or more, the first five rounds and the others must both show the slowdown.

    Args:
        rounds: Folder with the records of each round in `old/1`, `old/2`, … and `new/1`, `new/2`, …
        policy: Thresholds of the check.

    Raises:
        UserError: If there are too few rounds, or if they were made on different machines.
    """
    old, new = _read_times(rounds / "old"), _read_times(rounds / "new")
    findings = [_speed_finding(*key, old[key], new[key], policy) for key in old if key in new]
    if findings:
        return findings
    details = Message(
        "no method took more than {limit:.0f} ms to train or to predict in every round", limit=1000 * MIN_PHASE_SECONDS
    )
    return [GateFinding(name=Message("all methods"), gate="speed", verdict="unsure", details=details)]


def any_slower(findings: list[GateFinding]) -> bool:
    """Return True if any finding is a slowdown."""
    return any(finding.verdict == "worse" for finding in findings)


def _speed_finding(method: str, phase: str, old: list[float], new: list[float], policy: Policy) -> GateFinding:
    log_ratios = [log(new_s / old_s) for old_s, new_s in zip(old, new, strict=True)]
    parts = [log_ratios]
    if len(log_ratios) >= 2 * MIN_ROUNDS:
        parts = [log_ratios[:MIN_ROUNDS], log_ratios[MIN_ROUNDS:]]
    verdict: GateVerdict = "worse" if all(_is_slower(part, policy) for part in parts) else "same"
    ratio, lower_bound = _mean_ratio(log_ratios)
    details = Message(
        "{phase} takes {ratio:.2f} times as long (95 % lower bound {lower_bound:.2f}, {rounds} interleaved rounds)",
        phase=phase,
        ratio=ratio,
        lower_bound=lower_bound,
        rounds=len(log_ratios),
    )
    return GateFinding(name=method, gate="speed", verdict=verdict, details=details)


def _is_slower(log_ratios: list[float], policy: Policy) -> bool:
    ratio, lower_bound = _mean_ratio(log_ratios)
    return ratio > 1 + policy.slower and lower_bound > 1 + policy.slower / 2


def _mean_ratio(log_ratios: list[float]) -> tuple[float, float]:
    """Return the geometric mean of the ratios and its one-sided 95 % lower bound.

    The bound is that of Student's t for the mean of the logarithms.
    """
    mean, std = float(numpy.mean(log_ratios)), float(numpy.std(log_ratios, ddof=1))
    n_rounds = len(log_ratios)
    critical = special.stdtrit(n_rounds - 1, 1 - SIGNIFICANCE_LEVEL)
    return exp(mean), exp(mean - critical * std / sqrt(n_rounds))


def _read_times(folder: Path) -> RoundTimes:
    """Return the times of each method and phase that is long enough in every round."""
    round_folders = sorted((path for path in folder.glob("*") if path.is_dir()), key=lambda path: int(path.name))
    if len(round_folders) < MIN_ROUNDS:
        raise UserError(
            Message(
                "{folder}: {number} rounds; at least {needed} are needed to compare speed",
                folder=folder,
                number=len(round_folders),
                needed=MIN_ROUNDS,
            )
        )
    times: RoundTimes = defaultdict(list)
    all_records: list[Record] = []
    for round_folder in round_folders:
        records = read_records([round_folder])
        all_records += records
        for key, seconds in _round_seconds(records).items():
            if seconds > MIN_PHASE_SECONDS:
                times[key].append(seconds)
    if not same_machine(all_records):
        raise UserError(
            Message("{folder}: the rounds ran on different machines, so their speed cannot be compared", folder=folder)
        )
    return {key: seconds for key, seconds in times.items() if len(seconds) == len(round_folders)}


def _round_seconds(records: list[Record]) -> dict[tuple[str, str], float]:
    """Return the seconds of one round by name of the method and phase, summed over seeds."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for record in records:
        name = f"{record.spec.task.name} · {record.spec.base.name} · {record.spec.method.name}"
        for phase in SPEED_PHASES:
            if record.cost and phase in record.cost.phases:
                seconds[name, phase] += record.cost.phases[phase].wall_s
    return seconds
