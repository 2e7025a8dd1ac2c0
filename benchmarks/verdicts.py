"""Measure coverage of intervals, false alarms and power of comparisons: `python benchmarks/verdicts.py`.

Draws comparisons of methods that differ in accuracy, in variance between seeds and by question, and judges each as
`bench run` does. The variances between seeds are distributed as those of the trained methods in
`benchmarks/seed_spread.csv`. Exit code 1 if more than 6 % of the comparisons of equal methods show a difference.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations

import numpy
from seed_spread import fit_spread, read_settings

from bench.analysis import significance
from bench.analysis.known_spread import spread_of_scores
from bench.analysis.seed_variance import Scores, SeedVariancePrior
from bench.analysis.statistic import SIGNIFICANCE_LEVEL

N_QUESTIONS = 500
MAX_FALSE_ALARM_RATE = 0.06
ADVANTAGES = (0.05, 0.10, 0.20)
"""Advantages of the first method for which power is measured."""


class Simulation:
    """Comparisons with the spread between seeds that was measured."""

    def __init__(self, n_methods: int, spread_factor: float) -> None:
        """Fit the distribution of the variances between seeds.

        Args:
            n_methods: Methods per comparison.
            spread_factor: Factor on every standard deviation between seeds; 1 is as measured.
        """
        self.rng, self.n_methods, self.spread_factor = numpy.random.default_rng(0), n_methods, spread_factor
        self.dof, self.share = fit_spread([setting for setting in read_settings() if setting.kind == "trained"])

    def draw(self, n_seeds: int, advantage: float = 0.0) -> list[Scores]:
        """Draw binary scores (seeds, questions) of each method; the first has an advantage.

        Questions are equally difficult for all methods, and the variance between seeds differs by method.
        """
        difficulty = self.rng.beta(1.5, 1.5, N_QUESTIONS)
        method_scores = []
        for index in range(self.n_methods):
            variance = self.share / 4 * self.dof / self.rng.chisquare(self.dof)
            seed_effects = self.spread_factor * variance**0.5 * self.rng.standard_normal((n_seeds, 1))
            accuracy = difficulty + 0.1 * self.rng.standard_normal(N_QUESTIONS) + seed_effects
            accuracy += 0.0 if index else advantage
            method_scores.append((self.rng.random((n_seeds, N_QUESTIONS)) < numpy.clip(accuracy, 0, 1)).astype(float))
        return method_scores

    def power(self, rounds: int, n_seeds: int, advantage: float) -> float:
        """Return the share of pairs in which the one better method is detected to be better."""
        p_values: list[float] = []
        for _ in range(rounds):
            p_values += adjusted_p_values(self.draw(n_seeds, advantage))[: self.n_methods - 1]
        return float(numpy.mean([p_value < SIGNIFICANCE_LEVEL for p_value in p_values]))


def main() -> None:
    """Simulate comparisons and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="simulated comparisons per number of seeds")
    parser.add_argument("--methods", type=int, default=10, help="methods per comparison")
    parser.add_argument("--spread", type=float, default=1, help="factor on the spread between seeds, e.g. 2")
    options = parser.parse_args()
    simulation, highest_rate = Simulation(options.methods, options.spread), 0.0
    print(f"{options.methods} methods, {N_QUESTIONS} questions, {options.rounds} rounds, spread x {options.spread:g}")
    print(
        "seeds  coverage  false alarms  power: " + "  ".join(f"{100 * advantage:g} points" for advantage in ADVANTAGES)
    )
    for n_seeds in (1, 2, 3, 5):
        covered, alarms = [], []
        for _ in range(options.rounds):
            method_scores = simulation.draw(n_seeds)
            prior = SeedVariancePrior.fit(method_scores, len(method_scores))
            for scores in method_scores:
                interval = significance.score_interval(scores, prior, spread_of_scores("trained", scores))
                # Questions are drawn anew in each round, so intervals should cover the mean of all questions: 0.5.
                covered.append(interval.low <= 0.5 <= interval.high)
            alarms.append(min(adjusted_p_values(method_scores)) < SIGNIFICANCE_LEVEL)
        powers = [simulation.power(options.rounds // 3, n_seeds, advantage) for advantage in ADVANTAGES]
        rates = f"{numpy.mean(covered):8.1%}  {numpy.mean(alarms):12.1%}"
        print(f"{n_seeds:5}  {rates}  {'  '.join(f'{power:9.1%}' for power in powers)}", flush=True)
        highest_rate = max(highest_rate, float(numpy.mean(alarms)))
    sys.exit(int(highest_rate > MAX_FALSE_ALARM_RATE))


def adjusted_p_values(method_scores: list[Scores]) -> list[float]:
    """Return the adjusted p value of every pair of methods, pairs of the first method first."""
    pairs = list(combinations([(scores, spread_of_scores("trained", scores)) for scores in method_scores], 2))
    prior = SeedVariancePrior.fit([first - second for (first, _), (second, _) in pairs], len(method_scores))
    return significance.holm_adjust(
        [
            significance.p_value(first, second, prior, first_spread + second_spread)
            for (first, first_spread), (second, second_spread) in pairs
        ]
    )


if __name__ == "__main__":
    main()
