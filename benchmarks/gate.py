"""Measure how often `bench check` raises false alarms and detects drops: `python benchmarks/gate.py`.

Simulates checks of trained methods with three seeds on 500 questions. Old and new answers differ randomly by seed and
question; a drop is added to one method, or to all. Exit code 1 if more than 6 % of the checks without a drop fail.
"""

from __future__ import annotations

import argparse
import sys

import numpy

from bench.analysis.regression import score_drop
from bench.analysis.regression.gates import Policy
from bench.analysis.regression.pairing import RecordPair
from bench.analysis.regression.score_drop import COMMON_SHIFT, ChangedPair
from bench.analysis.seed_variance import Scores

N_QUESTIONS, N_SEEDS = 500, 3
MAX_FALSE_ALARM_RATE = 0.06


def simulate_differences(rng: numpy.random.Generator, drop: float, difficulty: Scores, seed_std: float) -> Scores:
    """Draw new minus old scores (seeds, questions) of a method whose answers vary from run to run."""
    sides = []
    for shift in (0.0, -drop):
        accuracy = numpy.clip(difficulty + shift + seed_std * rng.standard_normal((N_SEEDS, 1)), 0, 1)
        sides.append((rng.random((N_SEEDS, N_QUESTIONS)) < accuracy).astype(float))
    return sides[1] - sides[0]


def simulate_check(rng: numpy.random.Generator, drops: list[float], seed_std: float) -> set[str]:
    """Return the names that one check calls worse, for one drop per method."""
    difficulty = rng.beta(0.4, 0.4, N_QUESTIONS)  # most questions are nearly always right or nearly always wrong
    pairs = [
        ChangedPair(
            RecordPair("task", "model", f"m{index}", (), (), {}),
            simulate_differences(rng, drop, difficulty, seed_std),
        )
        for index, drop in enumerate(drops)
    ]
    return {finding.name for finding in score_drop.judge_drops(pairs, pairs, Policy()) if finding.verdict == "worse"}


def main() -> None:
    """Simulate checks and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="simulated checks per case")
    parser.add_argument("--methods", type=int, default=16, help="methods per check")
    parser.add_argument("--jitter", type=float, default=0.01, help="standard deviation of the score between seeds")
    options = parser.parse_args()
    rng, no_drops = numpy.random.default_rng(0), [0.0] * options.methods

    def check_often(drops: list[float]) -> list[set[str]]:
        return [simulate_check(rng, drops, options.jitter) for _ in range(options.rounds)]

    print(f"{options.methods} methods, {N_SEEDS} seeds, {N_QUESTIONS} questions, {options.rounds} checks each")
    false_alarm_rate = numpy.mean([bool(names) for names in check_often(no_drops)])
    print(f"no drop: {false_alarm_rate:.1%} of checks fail")
    for drop in (0.03, 0.05):
        detected = numpy.mean(["task · model · m0" in names for names in check_often([drop, *no_drops[1:]])])
        print(f"drop of one method by {100 * drop:.0f} points: detected in {detected:.1%}")
    for drop in (0.01, 0.015):
        checks = check_often([drop] * options.methods)
        shift = numpy.mean([any("all methods" in name for name in names) for names in checks])
        alone = numpy.mean([len(names - {"task · model · all methods"}) / options.methods for names in checks])
        rates = f"{COMMON_SHIFT} detected in {shift:.1%}, a single method in {alone:.1%}"
        print(f"drop of all methods by {100 * drop:.1f} points: {rates}")
    sys.exit(int(false_alarm_rate > MAX_FALSE_ALARM_RATE))


if __name__ == "__main__":
    main()
