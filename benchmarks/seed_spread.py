"""Fit the known spread between seeds to runs: `python benchmarks/seed_spread.py [RECORDS...]`.

Prints the values of `bench/analysis/known_spread.py` for the runs in `benchmarks/seed_spread.csv`. With folders of
records, their rows for that file are printed instead.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path

import numpy
from scipy import optimize, special

from bench.analysis import comparison
from bench.analysis.known_spread import REFERENCE_DOF, kind_of
from bench.records import collect

FILE = Path(__file__).with_suffix(".csv")
INTERACTION_SHARE = 0.4
"""Interaction of seed and question, as a share of the variance over the questions; used where it was not measured."""


@dataclass(frozen=True)
class Setting:
    """Runs of one method on one model and task that differ in the seed only."""

    kind: str
    model: str
    task: str
    method: str
    budget: str
    questions: int
    scores: tuple[float, ...]
    """Mean score of each seed."""

    @property
    def question_variance(self) -> float:
        """Variance over the questions of a score that is 0 or 1."""
        mean = float(numpy.mean(self.scores))
        return mean * (1 - mean)


def main() -> None:
    """Print rows of the file, or the values that are fitted to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="*", help="folders of records")
    if folders := parser.parse_args().records:
        for setting in settings_of(folders):
            values = [setting.kind, setting.model, setting.task, setting.method, setting.budget, setting.questions]
            print(",".join([*map(str, values), " ".join(f"{score:.4g}" for score in setting.scores)]))
        return
    by_kind: dict[str, list[Setting]] = defaultdict(list)
    for setting in read_settings():
        by_kind[setting.kind].append(setting)
    for kind, settings in by_kind.items():
        dof, share = fit_spread(settings)
        known_share, runs = equivalent_share(dof, share), sum(len(setting.scores) for setting in settings)
        print(
            f"{kind}: {len(settings)} settings with variances of {share:.5f} and {dof:.1f} degrees of freedom; "
            f"MeasuredSpread(share={known_share:.4f}, n_runs={runs}), {100 * sqrt(known_share / 4):.1f} points at 0.5"
        )


def read_settings() -> list[Setting]:
    """Return the settings of the file."""
    with FILE.open(encoding="utf-8") as file:
        return [
            Setting(
                row["kind"],
                row["model"],
                row["task"],
                row["method"],
                row["budget"],
                int(row["questions"]),
                tuple(map(float, row["scores"].split())),
            )
            for row in csv.DictReader(file)
        ]


def settings_of(folders: Sequence[Path]) -> list[Setting]:
    """Return the settings of records that have three seeds or more."""
    groups = defaultdict(list)
    for record in collect.read_records(folders):
        if record.status == "ok":
            groups[record.spec.key].append(record)
    settings = []
    for group in groups.values():
        spec, kind = group[0].spec, kind_of(group[0])
        scores = comparison.scores_by_question([record.samples for record in group], spec.task.metric)
        if len(group) >= 3 and kind is not None:
            settings.append(
                Setting(
                    kind,
                    spec.base.name,
                    spec.task.name,
                    spec.method.name,
                    f"{spec.budget.examples or 'all'}x{spec.budget.epochs}",
                    scores.shape[1],
                    tuple(scores.mean(axis=1)),
                )
            )
    return settings


def fit_spread(settings: Sequence[Setting]) -> tuple[float, float]:
    """Return degrees of freedom and typical share of a scaled inverse chi-squared distribution of the shares.

    Maximum likelihood of the variances over seeds. The share of each setting is integrated over; degrees of freedom far
    from four need evidence (a log-normal prior of width one), since a dozen variances hardly show them.
    """
    log_shares = numpy.linspace(log(1e-6), log(4), 600)

    def loss(parameters: Sequence[float]) -> float:
        dof, share = exp(parameters[0]), exp(parameters[1])
        log_prior = dof / 2 * log(dof * share / 2) - special.gammaln(dof / 2)
        log_prior = log_prior - dof / 2 * log_shares - dof * share / 2 / numpy.exp(log_shares)
        total = ((parameters[0] - log(4)) ** 2) / 2
        for setting in settings:
            own_dof, weight = len(setting.scores) - 1, setting.question_variance
            # A score has a resolution of one question, so a variance of zero is a variance below that.
            variance = float(numpy.var(setting.scores, ddof=1)) + 1 / setting.questions**2 / 12
            expected = (numpy.exp(log_shares) + INTERACTION_SHARE / setting.questions) * weight
            likelihood = own_dof / 2 * numpy.log(own_dof * variance / 2 / expected)
            likelihood = likelihood - own_dof * variance / 2 / expected
            total -= float(special.logsumexp(log_prior + likelihood))
        return total

    best = optimize.minimize(loss, [log(4), log(0.002)], method="Nelder-Mead")
    return exp(best.x[0]), exp(best.x[1])


def equivalent_share(dof: float, share: float) -> float:
    """Return the share whose 98 % range, with the degrees of freedom that are used, is the range of the fit.

    With the range of 95 %, comparisons of ten equal methods found a difference in 6.6 of 100 cases.
    """
    return share * float(special.stdtrit(dof, 0.99) / special.stdtrit(REFERENCE_DOF, 0.99)) ** 2


if __name__ == "__main__":
    main()
