"""Score against each cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, NullFormatter

from bench.analysis.summary import uses_cuda
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import (
    GRAY,
    DrawPlot,
    Plot,
    count_format,
    mebibytes_format,
    milliseconds_format,
    new_figure,
    scatter,
    score_format,
    seconds_format,
)

CostField = Literal["query_mean_ms", "train_s", "peak_mib", "trainable"]
Points = dict[str, tuple[float, float]]
"""Cost and score of each method by its key."""


def pareto_plot(
    cost_field: CostField,
    min_cost: float,
    axis_format: Callable[[Translate], Formatter],
    axis_label: Callable[[Translate], str],
) -> DrawPlot:
    """Return a function that draws the score against a cost on a logarithmic axis.

    Args:
        cost_field: Field of the method summary with the cost.
        min_cost: Smaller costs, which make no difference, are drawn here; a logarithmic axis has no zero.
        axis_format: Returns the format of the cost axis.
        axis_label: Returns the label of the cost axis.
    """

    def draw(task_results: TaskResults, translate: Translate) -> Figure | None:
        summaries = [row for row in task_results.summaries if row.status == "ok"]
        # Memory of a GPU and memory of a process have no common axis.
        field = "device_peak_mib" if cost_field == "peak_mib" and uses_cuda(summaries) else cost_field
        costs: dict[str, float | None] = {row.key: getattr(row, field) for row in summaries}
        points: Points = {}
        for result in task_results.comparison.results:
            cost = costs[result.key]
            if cost is not None:
                points[result.key] = max(cost, min_cost), result.interval.mean
        if not points:
            return None
        figure, axes = new_figure()
        axes.set(xscale="log", xlabel=axis_label(translate), ylabel=task_results.metric)
        axes.xaxis.set_major_formatter(axis_format(translate))
        axes.yaxis.set_major_formatter(score_format(task_results.metric))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _draw_front(axes, points)
        scatter(figure, axes, task_results, points, labeled=_pareto_optimal(points))
        return figure

    return draw


def _pareto_optimal(points: Points) -> set[str]:
    """Return the methods for which no other method is at least as good in both cost and score."""
    return {
        key
        for key, (cost, score) in points.items()
        if not any(
            other_cost <= cost and other_score >= score and (other_cost, other_score) != (cost, score)
            for other_cost, other_score in points.values()
        )
    }


def _draw_front(axes: Axes, points: Points) -> None:
    corners = sorted(points[key] for key in _pareto_optimal(points))
    axes.step(*zip(*corners, strict=True), where="post", color=GRAY, linewidth=1, zorder=1)


PLOTS = [
    Plot(
        20,
        "pareto-latency",
        pareto_plot(
            "query_mean_ms", 0.1, milliseconds_format, lambda translate: translate("mean latency of a single query")
        ),
        lambda translate: translate(
            "Score against latency. Methods on the line are Pareto-optimal: no other method is better in both."
        ),
    ),
    Plot(
        30,
        "pareto-training-time",
        pareto_plot(
            "train_s",
            0.1,
            seconds_format,
            lambda translate: translate("training time (0.1 s or less at the left edge)"),
        ),
        lambda translate: translate(
            "Score against training time. Methods on the line are Pareto-optimal: no other method is better in both."
        ),
    ),
    Plot(
        40,
        "pareto-memory",
        pareto_plot("peak_mib", 1.0, mebibytes_format, lambda translate: translate("peak memory over all phases")),
        lambda translate: translate(
            "Score against peak memory. Methods on the line are Pareto-optimal: no other method is better in both."
        ),
    ),
    Plot(
        50,
        "pareto-params",
        pareto_plot(
            "trainable",
            100,
            count_format,
            lambda translate: translate("trainable parameters (none at the left edge)"),
        ),
        lambda translate: translate(
            "Score against trainable parameters. Methods on the line are Pareto-optimal: no other method is better in "
            "both."
        ),
    ),
]
