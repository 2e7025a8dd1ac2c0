"""Score of each method with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import GRAY, Plot, marked_name, method_looks, new_figure, score_format


def draw_quality(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the main metric with its 95 % interval, and the value of each seed as a dot."""
    results = task_results.comparison.results[::-1]
    if not results:
        return None
    figure, axes = new_figure(height=0.8 + 0.24 * len(results))
    looks, positions = method_looks(task_results), range(len(results))
    axes.hlines(
        positions,
        [result.interval.low for result in results],
        [result.interval.high for result in results],
        colors=[looks[result.key].color for result in results],
        linewidth=2,
        zorder=2,
    )
    for position, result in enumerate(results):
        looks[result.key].draw_marker(axes, result.interval.mean, position)
    dots = [
        (seed_score, position) for position, result in enumerate(results) for seed_score in result.scores.mean(axis=1)
    ]
    axes.plot(*zip(*dots, strict=True), ".", color="black", markersize=2.5, zorder=4)
    control = task_results.comparison.control
    if control:
        axes.axvline(control.interval.mean, color=GRAY, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_yticks(positions, [marked_name(result) for result in results])
    axes.set_xlabel(task_results.metric)
    axes.xaxis.set_major_formatter(score_format(task_results.metric))
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.margins(y=0.02)
    return figure


PLOTS = [
    Plot(
        10,
        "quality",
        draw_quality,
        lambda translate: translate(
            "Score of each method. Bars: 95 % intervals over questions and seeds. Dots: single seeds. Dotted line: the "
            "best control (°)."
        ),
    )
]
