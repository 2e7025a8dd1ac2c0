"""Scores of a method by group of questions, the lowest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from bench.analysis import comparison, known_spread, significance
from bench.analysis.significance import Interval, VarianceComponents
from bench.analysis.statistic import SIGNIFICANCE_LEVEL
from bench.records import Record
from bench.records.samples import answer_metric

MAX_GROUPS = 20
"""Groups that a table shows."""
MIN_QUESTIONS = 2
"""A group of one question has no score worth a row."""


@dataclass(frozen=True)
class GroupRow:
    """One group of questions.

    Attributes:
        name: The group.
        questions: Number of its questions.
        interval: Mean score over questions and seeds, with an interval that holds for all groups together.
    """

    name: str
    questions: int
    interval: Interval


@dataclass(frozen=True)
class GroupTable:
    """The groups of a method over its seeds.

    Attributes:
        metric: The score: the main metric, or that of single answers that stands for it.
        rows: The groups with the lowest scores, the lowest first.
        n_groups: Number of groups with enough questions; the intervals are adjusted for it.
    """

    metric: str
    rows: tuple[GroupRow, ...]
    n_groups: int


def group_table(records: Sequence[Record]) -> GroupTable | None:
    """Return the scores of a method by group; None if no group has two or more questions."""
    answered = [record for record in records if record.samples]
    groups = comparison.groups_of(answered[0].samples) if answered else None
    if groups is None:
        return None
    metric = answer_metric(answered[0].spec.task.metric, answered[0].scores)
    scores = comparison.statistic_of(answered, metric).values
    known = known_spread.known_spread(answered[0], scores)
    components = VarianceComponents.estimate(scores, known=known, groups=groups)
    codes = numpy.flatnonzero(groups.sizes >= MIN_QUESTIONS).tolist()
    level = SIGNIFICANCE_LEVEL / len(codes)  # Bonferroni
    rows = [
        GroupRow(
            groups.names[code],
            int(groups.sizes[code]),
            significance.group_interval(scores[:, groups.codes == code], level, components.seed_stderr, components.dof),
        )
        for code in codes
    ]
    rows.sort(key=lambda row: (row.interval.mean, row.name))
    return GroupTable(metric, tuple(rows[:MAX_GROUPS]), len(codes))
