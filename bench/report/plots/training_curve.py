"""Training and validation loss against optimizer steps."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.records import Record
from bench.report.plot_style import FIGURE_WIDTH, Plot, method_looks, shorten_name

NUM_COLUMNS = 3
OVERFITTING_RATIO = 1.05
"""Overfitting is marked if the last validation loss exceeds the lowest one by more than this factor."""


def draw_training_curves(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw training and validation loss; a ring marks overfitting, a dot the kept weights."""
    results = [result for result in task_results.comparison.results if result.records[0].curve]
    if not results:
        return None
    num_rows = -(-len(results) // NUM_COLUMNS)
    height = 0.6 + 1.05 * num_rows
    # The layout engine is off: with so many axes it takes longer than everything else.
    figure, grid = pyplot.subplots(
        num_rows,
        NUM_COLUMNS,
        figsize=(FIGURE_WIDTH, height),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="none",
    )
    figure.subplots_adjust(0.13, 0.5 / height, 0.99, 1 - 0.2 / height, wspace=0.08, hspace=0.35)
    looks = method_looks(task_results)
    for axes, result in zip(grid.flat, results, strict=False):
        for record in result.records:
            _draw_curve(axes, record, looks[result.key].color)
        axes.set_title(shorten_name(result.name), fontsize=9, loc="left", pad=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(results) :]:
        axes.set_visible(False)
    figure.supxlabel(translate("optimizer steps"), fontsize=10)
    figure.supylabel(translate("loss (nats/token)"), fontsize=10)
    return figure


def _draw_curve(axes: Axes, record: Record, color: Any) -> None:
    curve = record.curve
    training = [(point.step, point.train_loss) for point in curve if point.train_loss is not None]
    validation = [(point.step, point.validation_loss) for point in curve if point.validation_loss is not None]
    marker = "." if len(validation) == 1 else ""  # a line through one point would not be seen
    if training:
        axes.plot(*zip(*training, strict=True), color=color, linewidth=1, linestyle="--", alpha=0.7, marker=marker)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=color, linewidth=1.5, marker=marker)
        step, lowest = min(validation, key=lambda point: point[1])
        last_loss = validation[-1][1]
        if last_loss > OVERFITTING_RATIO * lowest:
            axes.plot([step], [lowest], "o", markerfacecolor="none", markeredgecolor="black", markersize=7)
        kept = record.kept_weights
        if kept is not None and kept.step < curve[-1].step and kept.validation_loss is not None:
            axes.plot([kept.step], [kept.validation_loss], "o", color="black", markersize=3)


PLOTS = [
    Plot(
        80,
        "training-curve",
        draw_training_curves,
        lambda translate: translate(
            "Loss per answer token on training examples (dashed) and validation examples. Ring: the lowest "
            "validation loss, if the loss rose afterwards (overfitting). Dot: the weights that were kept, if not those "
            "of the last step."
        ),
    )
]
