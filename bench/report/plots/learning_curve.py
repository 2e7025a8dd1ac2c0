"""Score against the number of training examples."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.learning_curve import learning_curves
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, method_looks, new_figure, score_format, shorten_name


def draw_learning_curves(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the main metric of each method over the training sizes, with 95 % intervals."""
    curves = learning_curves(task_results)
    if not curves:
        return None
    figure, axes = new_figure(height=4.4)
    looks = method_looks(task_results)
    for key, curve in sorted(curves.items(), key=lambda item: -item[1].results[-1].interval.mean):
        intervals = [result.interval for result in curve.results]
        lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]
        axes.fill_between(curve.sizes, lows, highs, color=looks[key].color, alpha=0.12)
        axes.plot(
            curve.sizes,
            [interval.mean for interval in intervals],
            color=looks[key].color,
            marker=looks[key].shape,
            markersize=5,
            linestyle=":" if curve.control else "-",
            label=f"{shorten_name(curve.name)} °" if curve.control else shorten_name(curve.name),
        )
    sizes = sorted(task_results.records_by_size)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(translate("training examples"))
    axes.set_ylabel(task_results.metric)
    axes.yaxis.set_major_formatter(score_format(task_results.metric))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


PLOTS = [
    Plot(
        70,
        "learning-curve",
        draw_learning_curves,
        lambda translate: translate("Score against the number of training examples, with 95 % intervals."),
    )
]
