"""Measure coverage of intervals, false alarms and power of comparisons: `python benchmarks/verdicts.py`.

Draws comparisons of methods that differ in accuracy, in variance between seeds and by question, and judges each as
`bench run` does. Exit code 1 if more than 6 % of the comparisons of equal methods show a difference.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations

import numpy

from bench.analysis import significance
from bench.analysis.seed_variance import Scores, SeedVariancePrior
from bench.analysis.significance import SIGNIFICANCE_LEVEL

N_QUESTIONS = 500
MAX_FALSE_ALARM_RATE = 0.06


def simulate_scores(rng: numpy.random.Generator, advantages: list[float], n_seeds: int) -> list[Scores]:
    """Draw binary scores (seeds, questions) of each method.

    Questions are equally difficult for all methods, and the variance between seeds differs by method.
    """
    difficulty = rng.beta(1.5, 1.5, N_QUESTIONS)
    method_scores = []
    for advantage in advantages:
        seed_effects = 0.015 * numpy.exp(0.6 * rng.standard_normal()) * rng.standard_normal((n_seeds, 1))
        accuracy = difficulty + 0.1 * rng.standard_normal(N_QUESTIONS) + advantage + seed_effects
        method_scores.append((rng.random((n_seeds, N_QUESTIONS)) < numpy.clip(accuracy, 0, 1)).astype(float))
    return method_scores


def main() -> None:
    """Simulate comparisons and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="simulated comparisons per number of seeds")
    parser.add_argument("--methods", type=int, default=10, help="methods per comparison")
    options = parser.parse_args()
    rng, highest_rate = numpy.random.default_rng(0), 0.0
    print(f"{options.methods} methods, {N_QUESTIONS} questions, {options.rounds} rounds")
    print("seeds  coverage  false alarms  power: 3 points  5 points  10 points  (advantage of the first method)")
    for n_seeds in (1, 3, 5):
        covered, alarms = [], []
        for _ in range(options.rounds):
            method_scores = simulate_scores(rng, [0.0] * options.methods, n_seeds)
            prior = SeedVariancePrior.fit(method_scores, len(method_scores))
            for scores in method_scores:
                interval = significance.score_interval(scores, prior)
                # Questions are drawn anew in each round, so intervals should cover the mean of all questions: 0.5.
                covered.append(interval.low <= 0.5 <= interval.high)
            alarms.append(min(adjusted_p_values(method_scores)) < SIGNIFICANCE_LEVEL)
        powers = [
            power(rng, options.methods, options.rounds // 3, n_seeds, advantage) for advantage in (0.03, 0.05, 0.10)
        ]
        rates = f"{numpy.mean(covered):8.1%}  {numpy.mean(alarms):12.1%}"
        print(f"{n_seeds:5}  {rates}  {powers[0]:15.1%}  {powers[1]:8.1%}  {powers[2]:9.1%}", flush=True)
        highest_rate = max(highest_rate, float(numpy.mean(alarms)))
    sys.exit(int(highest_rate > MAX_FALSE_ALARM_RATE))


def adjusted_p_values(method_scores: list[Scores]) -> list[float]:
    """Return the adjusted p value of every pair of methods, pairs of the first method first."""
    pairs = list(combinations(method_scores, 2))
    prior = SeedVariancePrior.fit([first - second for first, second in pairs], len(method_scores))
    return significance.holm_adjust([significance.p_value(first, second, prior) for first, second in pairs])


def power(rng: numpy.random.Generator, n_methods: int, rounds: int, n_seeds: int, advantage: float) -> float:
    """Return the share of pairs in which the one better method is detected to be better."""
    p_values: list[float] = []
    for _ in range(rounds):
        method_scores = simulate_scores(rng, [advantage] + [0.0] * (n_methods - 1), n_seeds)
        p_values += adjusted_p_values(method_scores)[: n_methods - 1]
    return float(numpy.mean([p_value < SIGNIFICANCE_LEVEL for p_value in p_values]))


if __name__ == "__main__":
    main()
