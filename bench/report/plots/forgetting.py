"""Gain on the task against the loss change on general text."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.comparison import MethodResult
from bench.analysis.summary import forgetting_nats
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import GRAY, Plot, new_figure, scatter

MAX_LABELS = 10
"""With more methods, labels of all of them would overlap."""
Points = dict[str, tuple[float, float]]
"""Loss change and gain of each method by its key."""


def draw_forgetting(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the gain over the unchanged model against the increase in loss on general text."""
    results = task_results.comparison.results
    loss_changes = {result.key: _mean_loss_change(result) for result in results}
    unchanged = next(filter(_is_unchanged_model, results), None)
    reference = unchanged.interval.mean if unchanged else 0.0
    points: Points = {}
    for result in results:
        loss_change = loss_changes[result.key]
        if loss_change is not None:
            points[result.key] = loss_change, result.interval.mean - reference
    if not points:
        return None
    figure, axes = new_figure()
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_xlabel(translate("Δ loss on general text (nats per token)"))
    if unchanged:
        axes.set_ylabel(translate("{metric} above {control}", metric=task_results.metric, control=unchanged.name))
    else:
        axes.set_ylabel(task_results.metric)
    scatter(figure, axes, task_results, points, labeled=_labeled(points))
    return figure


def _labeled(points: Points) -> set[str]:
    """Return the keys of the methods to label.

    With too many methods, these are the ones that no other method exceeds in gain at the same or less forgetting.
    """
    if len(points) <= MAX_LABELS:
        return set(points)
    return {
        key
        for key, (loss_change, gain) in points.items()
        if not any(other_change <= loss_change and other_gain > gain for other_change, other_gain in points.values())
    }


def _is_unchanged_model(result: MethodResult) -> bool:
    """Return True for a control that trains no parameter, such as zero-shot."""
    parameters = [record.cost.parameters for record in result.records if record.cost]
    return result.control and all(counts is not None and counts.trainable == 0 for counts in parameters)


def _mean_loss_change(result: MethodResult) -> float | None:
    """Return the mean over the seeds; None if it was measured for none."""
    loss_changes = [nats for record in result.records if (nats := forgetting_nats(record)) is not None]
    return sum(loss_changes) / len(loss_changes) if loss_changes else None


PLOTS = [
    Plot(
        100,
        "forgetting",
        draw_forgetting,
        lambda translate: translate(
            "Gain on the task against forgetting (increase in loss on general text). With many methods, labels show "
            "only those with the largest gain among all methods with the same or less forgetting."
        ),
    )
]
