"""Scores on questions of another time or source, beside those of the test."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from bench import units
from bench.analysis import significance
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.significance import Interval
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated


@dataclass(frozen=True)
class ShiftRow:
    """One method.

    Attributes:
        name: The method.
        control: True for a control.
        test: Score on the test questions.
        shifted: Score on the shifted questions.
        gap: Shifted score minus test score, of independent samples of questions.
    """

    name: str
    control: bool
    test: Interval
    shifted: Interval
    gap: Interval


def shift_rows(task_results: TaskResults) -> list[ShiftRow]:
    """Return a row for each method, the best on the shifted questions first."""
    comparison = task_results.shifted_comparison
    if comparison is None:
        return []
    test_results = {result.key: result for result in task_results.comparison.results}
    return [
        ShiftRow(
            test_results[result.key].name,
            result.control,
            test_results[result.key].interval,
            result.interval,
            significance.independent_gap(result.interval, test_results[result.key].interval),
        )
        for result in comparison.results
    ]


def describe_new_leader(
    task_results: TaskResults, candidates: Container[str] | None = None, translate: Translate = untranslated
) -> list[str]:
    """Name the method that leads on the shifted questions, unless it leads on the test, too.

    Args:
        task_results: The results.
        candidates: Methods to choose from; None for all that are no controls.
        translate: Translates a sentence and fills in its values.
    """
    comparison = task_results.shifted_comparison
    if comparison is None:
        return []
    # A label names the hyper-parameters that differ among all runs, so those of the test are used.
    names = {result.key: result.name for result in task_results.comparison.results}
    keys = {key for key, name in names.items() if candidates is None or name in candidates}
    leader, new_leader = _leader(task_results.comparison, keys), _leader(comparison, keys)
    old = next((result for result in comparison.results if leader is not None and result.key == leader.key), None)
    if old is None or new_leader is None or old.key == new_leader.key:
        return []
    facts = {
        "name": names[new_leader.key],
        "score": units.format_score(new_leader.interval.mean, comparison.metric),
        "other": names[old.key],
        "other_score": units.format_score(old.interval.mean, comparison.metric),
    }
    contrast = comparison.against_leader.get(old.key)
    if contrast is not None and contrast.reference_key == new_leader.key and contrast.verdict == "worse":
        return [
            translate(
                "On the questions of another time or source {name} is better than {other}: {score} against "
                "{other_score}.",
                **facts,
            )
        ]
    return [
        translate(
            "On the questions of another time or source {name} leads with {score}; {other} has {other_score} (no "
            "significant difference).",
            **facts,
        )
    ]


def _leader(comparison: Comparison, keys: Container[str]) -> MethodResult | None:
    """Return the best of some methods that is no control."""
    return next((result for result in comparison.results if not result.control and result.key in keys), None)


def describe_shift(task_results: TaskResults, translate: Translate = untranslated) -> list[str]:
    """Describe the gap of the method that leads on the test; empty without shifted questions."""
    leader, comparison = task_results.comparison.leader, task_results.shifted_comparison
    row = next((row for row in shift_rows(task_results) if leader is not None and row.name == leader.name), None)
    if row is None or comparison is None:
        return []
    return [
        translate(
            "On {items} questions of another time or source {name} scores {score} instead of {test}: {gap:+.1f} "
            "points, 95 % interval {low:+.1f} to {high:+.1f}.",
            items=comparison.results[0].scores.shape[1],
            name=row.name,
            score=units.format_score(row.shifted.mean, comparison.metric),
            test=units.format_score(row.test.mean, comparison.metric),
            gap=100 * row.gap.mean,
            low=100 * row.gap.low,
            high=100 * row.gap.high,
        ),
        *describe_new_leader(task_results, None, translate),
    ]
