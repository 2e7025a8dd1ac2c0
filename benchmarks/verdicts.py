"""How often intervals hold the truth, and how often verdicts are wrong or open: `python benchmarks/verdicts.py`.

Draws comparisons of methods that differ in skill, in how much they depend on the seed, and by question, and judges each
as `bench run` does. Exit code 1 if more than 6 % of the comparisons of equals see a difference.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations

import numpy

from bench.analysis import significance
from bench.analysis.seed_variance import Scores, SeedVariancePrior
from bench.analysis.significance import SIGNIFICANCE_LEVEL

ITEMS = 500


def draw(dice: numpy.random.Generator, skills: list[float], seeds: int) -> list[Scores]:
    """Right or wrong of each method: questions are hard for all alike, and seeds matter more to some methods."""
    hard = dice.beta(1.5, 1.5, ITEMS)
    made = []
    for skill in skills:
        wobble = 0.015 * numpy.exp(0.6 * dice.standard_normal()) * dice.standard_normal((seeds, 1))
        chance = numpy.clip(hard + 0.1 * dice.standard_normal(ITEMS) + skill + wobble, 0, 1)
        made.append((dice.random((seeds, ITEMS)) < chance).astype(float))
    return made


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--methods", type=int, default=10)
    asked = parser.parse_args()
    dice, worst = numpy.random.default_rng(0), 0.0
    print(f"{asked.methods} methods, {ITEMS} questions, {asked.rounds} rounds")
    print("seeds  covered  false alarms  seen: 3 points  5 points  10 points  (the first method is that much better)")
    for seeds in (1, 3, 5):
        covered, alarms = [], []
        for _ in range(asked.rounds):
            drawn = draw(dice, [0.0] * asked.methods, seeds)
            prior = SeedVariancePrior.fit(drawn, len(drawn))
            # Questions are drawn anew each time, so what should be covered is the mean over all of them: 0.5.
            covered += [(found := significance.score_interval(one, prior)).low <= 0.5 <= found.high for one in drawn]
            alarms.append(min(judged(drawn)) < SIGNIFICANCE_LEVEL)
        seen = [power(dice, asked.methods, asked.rounds // 3, seeds, gap) for gap in (0.03, 0.05, 0.10)]
        told = "       ".join(f"{share:6.1%}" for share in seen)
        print(f"{seeds:5}  {numpy.mean(covered):7.1%}  {numpy.mean(alarms):12.1%}          {told}", flush=True)
        worst = max(worst, float(numpy.mean(alarms)))
    sys.exit(int(worst > 0.06))


def judged(drawn: list[Scores]) -> list[float]:
    """The adjusted p value of every pair."""
    pairs = list(combinations(drawn, 2))
    prior = SeedVariancePrior.fit([ours - theirs for ours, theirs in pairs], len(drawn))
    return significance.holm_adjust([significance.p_value(ours, theirs, prior) for ours, theirs in pairs])


def power(dice: numpy.random.Generator, methods: int, rounds: int, seeds: int, gap: float) -> float:
    """How often the one better method is seen to be better than another one."""
    seen = [judged(draw(dice, [gap] + [0.0] * (methods - 1), seeds))[: methods - 1] for _ in range(rounds)]
    return float(numpy.mean([p < SIGNIFICANCE_LEVEL for ps in seen for p in ps]))


if __name__ == "__main__":
    main()
