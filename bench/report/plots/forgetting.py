"""Gain on the task against the loss change on general text."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.comparison import MethodResult
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.loss_change import measured_texts, perplexity_change
from bench.report.plot_style import GRAY, Plot, new_figure, scatter, score_format

MAX_LABELS = 10
"""With more methods, labels of all of them would overlap."""
Points = dict[str, tuple[float, float]]
"""Loss change and gain of each method by its key."""


def draw_forgetting(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the gain over the unchanged model against the increase in loss on general text."""
    results = task_results.comparison.results
    texts = measured_texts(task_results.summaries, translate)
    if not texts:
        return None
    text = texts[0]  # that of the most methods; those measured on another text are left out
    loss_changes = {row.key: text.loss_change(row) for row in task_results.summaries if row.status == "ok"}
    unchanged = next(filter(_is_unchanged_model, results), None)
    reference = unchanged.interval.mean if unchanged else 0.0
    points: Points = {}
    for result in results:
        loss_change = loss_changes.get(result.key)
        if loss_change is not None:
            points[result.key] = loss_change, result.interval.mean - reference
    if not points:
        return None
    figure, axes = new_figure()
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_xlabel(
        translate("Δ loss on general text ({text}), nats per token; left of 0: the model got better", text=text.name)
    )
    if unchanged:
        axes.set_ylabel(translate("{metric} above {control}", metric=task_results.metric, control=unchanged.name))
    else:
        axes.set_ylabel(task_results.metric)
    axes.yaxis.set_major_formatter(score_format(task_results.metric))
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


PLOTS = [
    Plot(
        100,
        "forgetting",
        draw_forgetting,
        lambda translate: translate(
            "Gain on the task against forgetting (increase in loss on general text; {percent} at +0.10 nats). Methods "
            "measured on another text are left out. With many methods, labels show only those with the largest gain "
            "among all methods with the same or less forgetting.",
            percent=translate("perplexity {percent} higher", percent=perplexity_change(0.1)),
        ),
    )
]
