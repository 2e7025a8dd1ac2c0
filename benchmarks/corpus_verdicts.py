"""Coverage and false alarms of metrics of all answers: `python benchmarks/corpus_verdicts.py`.

Draws comparisons of equal methods on 500 questions with imbalanced labels, the rarest with about 15 questions, and
judges each metric as `bench run` does. Variances between seeds are distributed as in `benchmarks/verdicts.py`. The row
"fixed" is of methods that do not depend on the seed. Exit code 1 if an interval covers in less than 93 % of the cases
or more than 6 % of the comparisons show a difference.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from itertools import combinations

import numpy
from numpy.typing import NDArray
from seed_spread import fit_spread, read_settings

from bench.analysis import significance
from bench.analysis.known_spread import spread_of_scores
from bench.analysis.seed_variance import NO_SPREAD, KnownSpread, Scores, SeedVariancePrior
from bench.analysis.statistic import SIGNIFICANCE_LEVEL, Statistic, corpus_statistic
from bench.metrics import CORPUS_METRICS
from bench.records import corpus_metrics
from bench.records.corpus_metrics import LabelCounts, LabelMetric
from bench.records.labels import LabelCodes

N_QUESTIONS = 500
SHARES = numpy.array([0.50, 0.25, 0.15, 0.07, 0.03])
RECALLS = numpy.array([0.85, 0.80, 0.70, 0.60, 0.50])
NO_LABEL_SHARE = 0.05
"""Share of the wrong answers that name no label."""
MIN_COVERAGE, MAX_FALSE_ALARM_RATE = 0.93, 0.06
Array = NDArray[numpy.float64]


class Simulation:
    """Equal methods whose answers depend on the label, on the question and on the seed."""

    def __init__(self, n_methods: int) -> None:
        """Fit the distribution of the variances between seeds."""
        self.rng, self.n_methods, n_labels = numpy.random.default_rng(0), n_methods, len(SHARES)
        self.dof, self.share = fit_spread([setting for setting in read_settings() if setting.kind == "trained"])
        self.difficulty = numpy.linspace(-0.3, 0.3, 61)
        # Wrong answers name the other labels in proportion to their frequency.
        others = numpy.tile(SHARES, (n_labels, 1)) * (1 - numpy.eye(n_labels))
        others *= (1 - NO_LABEL_SHARE) / others.sum(axis=1, keepdims=True)
        self.wrong_shares = numpy.hstack([others, numpy.full((n_labels, 1), NO_LABEL_SHARE)])

    def seed_effects(self, n_seeds: int, *, is_fixed: bool) -> Array:
        """Draw the effect of each seed on the recall of each label (seeds, labels)."""
        if is_fixed:
            return numpy.zeros((n_seeds, len(SHARES)))
        std = (self.share / 4 * self.dof / self.rng.chisquare(self.dof)) ** 0.5
        effects = self.rng.standard_normal((n_seeds, 1)) + self.rng.standard_normal((n_seeds, len(SHARES)))
        return std * effects / (1 + (SHARES**2).sum()) ** 0.5  # so that em has the measured variance

    def draw(self, n_seeds: int, *, is_fixed: bool) -> list[list[LabelCodes]]:
        """Draw one comparison: for each method the answers of its seeds to the same questions."""
        references = self.rng.choice(len(SHARES), N_QUESTIONS, p=SHARES)
        difficulty = self.rng.choice(self.difficulty, N_QUESTIONS)
        cumulated = self.wrong_shares.cumsum(axis=1)[references]
        methods = []
        for _ in range(self.n_methods):
            runs = []
            for effect in self.seed_effects(n_seeds, is_fixed=is_fixed):
                recall = numpy.clip(RECALLS[references] + difficulty + effect[references], 0, 1)
                wrong = (self.rng.random((N_QUESTIONS, 1)) > cumulated).sum(axis=1)
                answers = numpy.where(self.rng.random(N_QUESTIONS) < recall, references, wrong)
                runs.append(LabelCodes(array("i", references.tolist()), array("i", answers.tolist())))
            methods.append(runs)
        return methods

    def true_scores(self, *, is_fixed: bool, n_seeds: int = 20_000) -> dict[str, float]:
        """Return the mean of each metric over all questions and seeds."""
        effects = numpy.vstack([self.seed_effects(1, is_fixed=is_fixed) for _ in range(1 if is_fixed else n_seeds)])
        recall = numpy.clip(RECALLS + self.difficulty[:, None, None] + effects, 0, 1).mean(axis=0)
        right = (SHARES * recall).T
        answered = right + self.wrong_shares[:, :-1].T @ (SHARES * (1 - recall)).T
        counts = LabelCounts(right, answered, numpy.tile(SHARES[:, None], right.shape[1]))
        return {metric: float(corpus_metrics.corpus_score(metric, counts).mean()) for metric in CORPUS_METRICS}


def main() -> None:
    """Simulate comparisons and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=600, help="simulated comparisons per number of seeds")
    parser.add_argument("--interval-rounds", type=int, default=150, help="comparisons among them with intervals")
    parser.add_argument("--methods", type=int, default=5, help="methods per comparison")
    options = parser.parse_args()
    simulation, is_good = Simulation(options.methods), True
    print(f"{options.methods} methods, {N_QUESTIONS} questions, {options.rounds} rounds: coverage, false alarms")
    print(f"seeds  {'  '.join(f'{metric:>17}' for metric in CORPUS_METRICS)}")
    for n_seeds in (0, 1, 2, 3, 4, 5):
        rates = measure(simulation, n_seeds, options.rounds, options.interval_rounds)
        cells = "  ".join(f"{coverage:8.1%}  {alarms:7.1%}" for coverage, alarms in rates)
        print(f"{n_seeds or 'fixed':>5}  {cells}", flush=True)
        is_good &= all(coverage >= MIN_COVERAGE and alarms <= MAX_FALSE_ALARM_RATE for coverage, alarms in rates)
    sys.exit(int(not is_good))


def measure(simulation: Simulation, n_seeds: int, rounds: int, interval_rounds: int) -> list[tuple[float, float]]:
    """Return coverage and rate of false alarms of each metric; 0 seeds: methods that use none."""
    is_fixed = not n_seeds
    true_scores = simulation.true_scores(is_fixed=is_fixed)
    covered: dict[str, list[bool]] = {metric: [] for metric in CORPUS_METRICS}
    alarms: dict[str, list[bool]] = {metric: [] for metric in CORPUS_METRICS}
    for number in range(rounds):
        methods = simulation.draw(n_seeds or 1, is_fixed=is_fixed)
        for metric in CORPUS_METRICS:
            statistics = [
                corpus_statistic([LabelMetric(metric, codes, len(SHARES)) for codes in runs]) for runs in methods
            ]
            spreads = [
                NO_SPREAD if is_fixed else spread_of_scores("trained", statistic.values) for statistic in statistics
            ]
            alarms[metric].append(has_alarm([statistic.values for statistic in statistics], spreads))
            if number < interval_rounds:
                covered[metric] += covers(statistics, spreads, true_scores[metric])
    return [(float(numpy.mean(covered[metric])), float(numpy.mean(alarms[metric]))) for metric in CORPUS_METRICS]


def covers(statistics: list[Statistic], spreads: list[KnownSpread], true_score: float) -> list[bool]:
    """Tell for each method if its interval contains the true score."""
    prior = SeedVariancePrior.fit([statistic.values for statistic in statistics], len(statistics))
    intervals = significance.score_intervals(list(zip(statistics, spreads, strict=True)), prior)
    return [interval.low <= true_score <= interval.high for interval in intervals]


def has_alarm(values: list[Scores], spreads: list[KnownSpread]) -> bool:
    """Tell if some pair of methods shows a difference."""
    pairs = list(combinations(zip(values, spreads, strict=True), 2))
    prior = SeedVariancePrior.fit([first - second for (first, _), (second, _) in pairs], len(values))
    p_values = [
        significance.p_value(first, second, prior, first_spread + second_spread)
        for (first, first_spread), (second, second_spread) in pairs
    ]
    return min(significance.holm_adjust(p_values)) < SIGNIFICANCE_LEVEL


if __name__ == "__main__":
    main()
