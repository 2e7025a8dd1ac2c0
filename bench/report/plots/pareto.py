"""Quality against each cost."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, NullFormatter

from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import GRAY, Draw, Plot, counts, mebibytes, milliseconds, new_figure, scatter, seconds


def pareto(measure: str, least: float, written: Formatter, label: Callable[[Translate], str]) -> Draw:
    """Draws quality against a cost; on the line stand those that no other one beats in both.

    What costs less than `least` stands there: it makes no difference, and a logarithm has no place for nothing.
    """

    def draw(section: TaskResults, translate: Translate) -> Figure | None:
        costs = {row.key: getattr(row, measure) for row in section.rows if row.status == "ok"}
        cells = [cell for cell in section.comparison.results if costs[cell.key] is not None]
        if not cells:
            return None
        points = {cell.key: (max(costs[cell.key], least), cell.interval.mean) for cell in cells}
        figure, axes = new_figure()
        axes.set(xscale="log", xlabel=label(translate), ylabel=section.metric)
        axes.xaxis.set_major_formatter(written)
        axes.xaxis.set_minor_formatter(NullFormatter())
        _front(axes, points)
        scatter(figure, axes, section, cells, points, named=_undominated(points))
        return figure

    return draw


def _undominated(points: dict[str, tuple[float, float]]) -> set[str]:
    """Those that no other one beats in cost without being worse."""
    return {
        key
        for key, (x, y) in points.items()
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    }


def _front(axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    corners = sorted(points[key] for key in _undominated(points))
    axes.step(*zip(*corners, strict=True), where="post", color=GRAY, linewidth=1, zorder=1)


PLOTS = [
    Plot(
        20,
        "pareto-latency",
        pareto("query_p50_ms", 0.1, milliseconds, lambda translate: translate("time of an answer (median)")),
        lambda translate: translate(
            "Quality and the time of an answer. No method is better in both than those on the line."
        ),
    ),
    Plot(
        30,
        "pareto-fit",
        pareto("train_s", 0.1, seconds, lambda translate: translate("time to adapt (0.1 s or less at the left edge)")),
        lambda translate: translate(
            "Quality and the time to adapt. No method is better in both than those on the line."
        ),
    ),
    Plot(
        40,
        "pareto-memory",
        pareto("peak_mib", 1.0, mebibytes, lambda translate: translate("peak memory of all phases")),
        lambda translate: translate("Quality and memory. No method is better in both than those on the line."),
    ),
    Plot(
        50,
        "pareto-trainable",
        pareto("trainable", 100, counts, lambda translate: translate("trained parameters (none at the left edge)")),
        lambda translate: translate(
            "Quality and trained parameters. No method is better in both than those on the line."
        ),
    ),
]
