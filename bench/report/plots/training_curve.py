"""Loss while training, and where it turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.records.record import CurvePoint
from bench.report.plot_style import WIDTH, Plot, method_looks, shorten_name

OVERFIT = 1.05  # validation loss at the end that exceeds its least by more than this has turned


def curves(section: TaskResults, translate: Translate) -> Figure | None:
    """Loss while training, dashed, and on validation; a ring where validation was at its least before it turned."""
    runs = {cell.key: cell for cell in section.comparison.results if cell.records[0].curve}
    if not runs:
        return None
    columns = 3
    lines = -(-len(runs) // columns)
    height = 0.6 + 1.05 * lines
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(WIDTH, height), sharex=True, sharey=True, squeeze=False, layout="none"
    )  # so many axes take the layout engine longer than all else
    figure.subplots_adjust(0.13, 0.5 / height, 0.99, 1 - 0.2 / height, wspace=0.08, hspace=0.35)
    look = method_looks(section)
    for axes, (key, cell) in zip(grid.flat, runs.items(), strict=False):
        for record in cell.records:
            _curve(axes, record.curve, look[key].color)
        axes.set_title(shorten_name(cell.name), fontsize=9, loc="left", pad=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(runs) :]:
        axes.set_visible(False)
    figure.supxlabel(translate("optimizer steps"), fontsize=10)
    figure.supylabel(translate("loss (nats per answer token)"), fontsize=10)
    return figure


def _curve(axes: Axes, curve: Sequence[CurvePoint], color: Any) -> None:
    seen = [(point.step, point.validation_loss) for point in curve if point.validation_loss is not None]
    taught = [(point.step, point.train_loss) for point in curve if point.train_loss is not None]
    if taught:
        axes.plot(*zip(*taught, strict=True), color=color, linewidth=1, linestyle="--", alpha=0.7)
    if seen:
        axes.plot(*zip(*seen, strict=True), color=color, linewidth=1.5)
        step, least = min(seen, key=lambda point: point[1])
        if seen[-1][1] > OVERFIT * least:
            axes.plot([step], [least], "o", markerfacecolor="none", markeredgecolor="black", markersize=7)


PLOTS = [
    Plot(
        80,
        "curves",
        curves,
        lambda translate: translate(
            "Loss on training (dashed) and validation examples. A ring marks the least validation loss where it rose "
            "afterwards: overfitting."
        ),
    )
]
