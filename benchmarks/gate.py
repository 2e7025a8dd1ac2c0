"""What `bench check` sees and how often it cries wolf: `python benchmarks/gate.py`.

Simulates checks of trained methods, three seeds each, on 500 questions. Before and after differ by the luck of seeds
and questions; a fall is planted in one method, or in all. Exit code 1 if more than 6 % of the checks of equals fail.
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

ITEMS, SEEDS = 500, 3


def draw(dice: numpy.random.Generator, fall: float, hard: Scores, jitter: float) -> Scores:
    """Scores after less scores before: of a method some of whose answers change from run to run."""
    sides = []
    for skill in (0.0, -fall):
        chance = numpy.clip(hard + skill + jitter * dice.standard_normal((SEEDS, 1)), 0, 1)
        sides.append((dice.random((SEEDS, ITEMS)) < chance).astype(float))
    return sides[1] - sides[0]


def check(dice: numpy.random.Generator, methods: int, fallen: list[float], jitter: float) -> set[str]:
    """The names of what one check calls worse."""
    hard = dice.beta(0.4, 0.4, ITEMS)  # most questions are nearly always right or nearly always wrong
    changed = [
        ChangedPair(RecordPair("task", "model", f"m{place}", (), (), {}), draw(dice, fallen[place], hard, jitter))
        for place in range(methods)
    ]
    return {one.name for one in score_drop.judge_drops(changed, changed, Policy()) if one.verdict == "worse"}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--methods", type=int, default=16)
    parser.add_argument("--jitter", type=float, default=0.01, help="how far seeds lie apart (standard deviation)")
    asked = parser.parse_args()
    dice, none = numpy.random.default_rng(0), [0.0] * asked.methods
    print(f"{asked.methods} methods, {SEEDS} seeds, {ITEMS} questions, {asked.rounds} checks each")
    alarms = numpy.mean([bool(check(dice, asked.methods, none, asked.jitter)) for _ in range(asked.rounds)])
    print(f"nothing fell: {alarms:.1%} of checks fail")
    for fall in (0.03, 0.05):
        one = [fall, *none[1:]]
        seen = numpy.mean(
            ["task · model · m0" in check(dice, asked.methods, one, asked.jitter) for _ in range(asked.rounds)]
        )
        print(f"one method fell by {100 * fall:.0f} points: seen in {seen:.1%}")
    for fall in (0.01, 0.015):
        every = [fall] * asked.methods
        found = [check(dice, asked.methods, every, asked.jitter) for _ in range(asked.rounds)]
        shift = numpy.mean([any("all methods" in name for name in names) for names in found])
        alone = numpy.mean([len(names - {"task · model · all methods"}) / asked.methods for names in found])
        detected = f"{COMMON_SHIFT} seen in {shift:.1%}, one of the methods in {alone:.1%}"
        print(f"all fell by {100 * fall:.1f} points: {detected}")
    sys.exit(int(alarms > 0.06))


if __name__ == "__main__":
    main()
