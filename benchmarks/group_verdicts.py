"""Coverage and false alarms where questions belong together: `python benchmarks/group_verdicts.py`.

Draws comparisons of equal methods on questions in groups, such as questions on one passage. The answers of a method to
the questions of a group resemble each other, and differ from those of other methods by group. Each comparison is judged
as `bench run` does, and once more as if every question stood for itself. Variances between seeds are distributed as in
`benchmarks/verdicts.py`. The row "fixed" is of methods that do not depend on the seed. Exit code 1 if an interval
covers in less than 93 % of the cases, or more than 6 % of the comparisons show a difference.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy import special
from seed_spread import fit_spread, read_settings

from bench.analysis import significance
from bench.analysis.known_spread import spread_of_scores
from bench.analysis.question_groups import QuestionGroups
from bench.analysis.seed_variance import NO_SPREAD, KnownSpread, Scores, SeedVariancePrior
from bench.analysis.significance import Interval, ScorePair
from bench.analysis.statistic import SIGNIFICANCE_LEVEL, Statistic

MIN_COVERAGE, MAX_FALSE_ALARM_RATE = 0.93, 0.06
SHARED_STD, OWN_STD, QUESTION_STD = 1.0, 0.7, 0.5
"""Standard deviations, as normal scores, that groups add for all methods, groups for each method, and questions."""
Array = NDArray[numpy.float64]


class Scenario(NamedTuple):
    """Groups of questions and the mean score of all methods."""

    n_groups: int
    size: int
    """Mean number of questions of a group."""
    is_equal: bool
    """True if all groups have that size; otherwise sizes are those of a geometric distribution."""
    score: float
    """Score of an average question; the mean over all questions is nearer to a half."""

    def __str__(self) -> str:
        sizes = f"{self.size}" if self.is_equal else f"1 to about {4 * self.size}"
        return f"{self.n_groups} groups of {sizes}, score {self.score:g}"


SCENARIOS = (
    Scenario(5, 40, True, 0.5),
    Scenario(10, 20, True, 0.5),
    Scenario(10, 20, False, 0.5),
    Scenario(20, 15, False, 0.9),
    Scenario(50, 10, True, 0.95),
    Scenario(100, 5, True, 0.5),
    Scenario(200, 5, False, 0.7),
)


class Simulation:
    """Equal methods whose answers depend on the group, on the question and on the seed."""

    def __init__(self, n_methods: int) -> None:
        """Fit the distribution of the variances between seeds."""
        self.rng, self.n_methods = numpy.random.default_rng(0), n_methods
        self.dof, self.share = fit_spread([setting for setting in read_settings() if setting.kind == "trained"])

    def draw(self, scenario: Scenario, n_seeds: int, *, is_fixed: bool) -> tuple[QuestionGroups, list[Scores]]:
        """Draw one comparison: the groups, and binary scores (seeds, questions) of each method."""
        sizes = numpy.full(scenario.n_groups, scenario.size)
        if not scenario.is_equal:
            sizes = self.rng.geometric(1 / scenario.size, scenario.n_groups)
        groups = QuestionGroups(numpy.repeat(numpy.arange(scenario.n_groups), sizes))
        shared = special.ndtri(scenario.score) + SHARED_STD * self.rng.standard_normal(scenario.n_groups)
        questions = QUESTION_STD * self.rng.standard_normal(groups.n_questions)
        methods = []
        for _ in range(self.n_methods):
            own = OWN_STD * self.rng.standard_normal(scenario.n_groups)
            accuracy = special.ndtr((shared + own)[groups.codes] + questions)
            accuracy = numpy.clip(accuracy + self.seed_effects(n_seeds, is_fixed=is_fixed), 0, 1)
            methods.append((self.rng.random((n_seeds, groups.n_questions)) < accuracy).astype(float))
        return groups, methods

    def seed_effects(self, n_seeds: int, *, is_fixed: bool) -> Array:
        """Draw the effect of each seed on the accuracy of a method (seeds, 1)."""
        if is_fixed:
            return numpy.zeros((n_seeds, 1))
        variance = self.share / 4 * self.dof / self.rng.chisquare(self.dof)
        return numpy.asarray(variance**0.5 * self.rng.standard_normal((n_seeds, 1)))

    def true_score(self, scenario: Scenario, *, is_fixed: bool, n_draws: int = 1_000_000) -> float:
        """Return the mean over all groups, questions and seeds."""
        std = (SHARED_STD**2 + OWN_STD**2 + QUESTION_STD**2) ** 0.5
        accuracy = special.ndtr(special.ndtri(scenario.score) + std * self.rng.standard_normal(n_draws))
        if not is_fixed:
            variances = self.share / 4 * self.dof / self.rng.chisquare(self.dof, n_draws)
            accuracy = accuracy + variances**0.5 * self.rng.standard_normal(n_draws)
        return float(numpy.clip(accuracy, 0, 1).mean())


class Rates(NamedTuple):
    """Coverage of intervals and rate of false alarms, with groups and without."""

    coverage: float
    alarms: float
    coverage_without: float
    alarms_without: float


def main() -> None:
    """Simulate comparisons and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000, help="simulated comparisons per row")
    parser.add_argument("--interval-rounds", type=int, default=200, help="comparisons among them with intervals")
    parser.add_argument("--methods", type=int, default=4, help="methods per comparison")
    options = parser.parse_args()
    simulation, is_good = Simulation(options.methods), True
    print(f"{options.methods} methods, {options.rounds} rounds; 'single' takes every question for itself")
    print(f"{'groups':<40} seeds  coverage  false alarms  single: coverage  false alarms")
    for scenario in SCENARIOS:
        for n_seeds in (0, 1, 2, 3, 5):
            rates = measure(simulation, scenario, n_seeds, options.rounds, options.interval_rounds)
            print(
                f"{scenario!s:<40} {n_seeds or 'fixed':>5}  {rates.coverage:8.1%}  {rates.alarms:12.1%}  "
                f"{rates.coverage_without:16.1%}  {rates.alarms_without:12.1%}",
                flush=True,
            )
            is_good &= rates.coverage >= MIN_COVERAGE and rates.alarms <= MAX_FALSE_ALARM_RATE
    sys.exit(int(not is_good))


def measure(simulation: Simulation, scenario: Scenario, n_seeds: int, rounds: int, interval_rounds: int) -> Rates:
    """Return the rates of a scenario; 0 seeds: methods that use none."""
    true_score = simulation.true_score(scenario, is_fixed=not n_seeds)
    covered: list[tuple[bool, bool]] = []
    alarms: list[tuple[bool, bool]] = []
    for number in range(rounds):
        groups, scores = simulation.draw(scenario, n_seeds or 1, is_fixed=not n_seeds)
        spreads = [spread_of_scores("trained", method) if n_seeds else NO_SPREAD for method in scores]
        comparisons = [[Statistic(method, groups=each) for method in scores] for each in (groups, None)]
        alarms.append((has_alarm(comparisons[0], spreads), has_alarm(comparisons[1], spreads)))
        if number < interval_rounds:
            prior = SeedVariancePrior.fit(scores, len(scores))
            intervals = [
                significance.score_intervals(list(zip(statistics, spreads, strict=True)), prior)
                for statistics in comparisons
            ]
            covered += [
                (covers(ours, true_score), covers(single, true_score)) for ours, single in zip(*intervals, strict=True)
            ]
    coverage, coverage_without = numpy.mean(covered, axis=0).tolist()
    alarm_rate, alarm_rate_without = numpy.mean(alarms, axis=0).tolist()
    return Rates(coverage, alarm_rate, coverage_without, alarm_rate_without)


def covers(interval: Interval, true_score: float) -> bool:
    """Tell if an interval contains the true score."""
    return interval.low <= true_score <= interval.high


def has_alarm(statistics: list[Statistic], spreads: list[KnownSpread]) -> bool:
    """Tell if some pair of methods shows a difference."""
    pairs = [
        ScorePair(statistics[first], statistics[second], spreads[first] + spreads[second])
        for first, second in combinations(range(len(statistics)), 2)
    ]
    prior = SeedVariancePrior.fit([pair.differences for pair in pairs], len(statistics))
    return min(significance.holm_adjust([pair.p_value(prior) for pair in pairs])) < SIGNIFICANCE_LEVEL


if __name__ == "__main__":
    main()
