"""Quality against training size."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis import learning_curve
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, method_looks, new_figure, shorten_name


def labels(section: TaskResults, translate: Translate) -> Figure | None:
    """Quality against training size, with intervals."""
    found = learning_curve.learning_curves(section)
    if not found:
        return None
    figure, axes = new_figure(height=4.4)
    look = method_looks(section)
    for key, curve in sorted(found.items(), key=lambda one: -one[1].cells[-1].interval.mean):
        bounds = [cell.interval for cell in curve.cells]
        axes.fill_between(
            curve.sizes, [one.low for one in bounds], [one.high for one in bounds], color=look[key].color, alpha=0.12
        )
        axes.plot(
            curve.sizes,
            [one.mean for one in bounds],
            color=look[key].color,
            marker=look[key].shape,
            markersize=5,
            linestyle=":" if curve.control else "-",
            label=f"{shorten_name(curve.name)} °" if curve.control else shorten_name(curve.name),
        )
    axes.set_xscale("log")
    axes.set_xticks(sizes := sorted(section.sizes), [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(translate("training examples"))
    axes.set_ylabel(section.metric)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


PLOTS = [
    Plot(
        70,
        "labels",
        labels,
        lambda translate: translate("What more training examples bring, with 95 % intervals."),
    )
]
