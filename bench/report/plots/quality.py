"""How good each method is, and how sure that is."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import GRAY, Plot, method_looks, new_figure, shorten_name


def quality(section: TaskResults, translate: Translate) -> Figure | None:
    """The main metric with its interval, and each seed's own value as a dot."""
    cells = section.comparison.results[::-1]
    if not cells:
        return None
    figure, axes = new_figure(height=0.8 + 0.24 * len(cells))
    look, places = method_looks(section), range(len(cells))
    ends, colors = zip(*((cell.interval, look[cell.key].color) for cell in cells), strict=True)
    axes.hlines(places, [one.low for one in ends], [one.high for one in ends], colors=colors, linewidth=2, zorder=2)
    for place, cell in enumerate(cells):
        look[cell.key].mark(axes, cell.interval.mean, place)
    dots = [(score, place) for place, cell in enumerate(cells) for score in cell.scores.mean(axis=1)]
    axes.plot(*zip(*dots, strict=True), ".", color="black", markersize=2.5, zorder=4)
    if section.comparison.control:
        axes.axvline(section.comparison.control.interval.mean, color=GRAY, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_yticks(
        places, [f"{shorten_name(cell.name)} °" if cell.control else shorten_name(cell.name) for cell in cells]
    )
    axes.set_xlabel(section.metric)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.margins(y=0.02)
    return figure


PLOTS = [
    Plot(
        10,
        "quality",
        quality,
        lambda translate: translate(
            "How good each method is. Bars: 95 % intervals over questions and seeds. Dots: single seeds. Dotted line: "
            "the best control (°)."
        ),
    )
]
