"""Total time of training and answering against the number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from bench.analysis.break_even import CostModel, break_even_queries, cost_model
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, legend_key, method_looks, new_figure, seconds_format

QUERIES = [10 ** (step / 8) for step in range(49)]
"""Points of the lines: 1 to 1,000,000 queries."""
MIN_TIME_S = 1e-4
"""Lower end of the time axis, which is logarithmic."""


def draw_break_even(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the total time of each method: the best of each kind in color, the others in gray."""
    costs = {row.label: cost for row in task_results.summaries if (cost := cost_model(row))}
    rows = [row for row in task_results.summaries if row.label in costs and row.status == "ok"]
    if not rows:
        return None
    figure, axes = new_figure(height=4.0)
    looks, best = method_looks(task_results), _best_of_each_kind(rows)
    for row in rows:
        totals = [costs[row.label].total_s(queries) for queries in QUERIES]
        if row in best:
            axes.plot(QUERIES, totals, color=looks[row.key].color, linewidth=1.8, zorder=3)
            looks[row.key].draw_marker(axes, QUERIES[-1], totals[-1], size=6)
        else:
            axes.plot(QUERIES, totals, color="#cccccc", linewidth=0.7, zorder=1)
    for first, second in pairwise(row for row in best if not row.control):
        _draw_break_even_point(axes, costs[first.label], costs[second.label])
    lowest = min(costs[row.label].total_s(1) for row in best)
    axes.set(xscale="log", yscale="log", xlabel=translate("queries"), ylabel=translate("total time"))
    axes.set_ylim(bottom=max(lowest / 2, MIN_TIME_S))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(seconds_format(translate))
    figure.legend(
        handles=[legend_key(looks[row.key], f"{row.label} °" if row.control else row.label) for row in best],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


def _draw_break_even_point(axes: Axes, first: CostModel, second: CostModel) -> None:
    """Mark the number of queries from which the costs change order, if it lies on the axis."""
    queries = break_even_queries(first, second)
    if queries is None or not 1 <= queries <= QUERIES[-1]:
        return
    total_s = first.total_s(queries)
    axes.plot([queries], [total_s], "o", markerfacecolor="none", markeredgecolor="black", markersize=9, zorder=4)
    axes.annotate(f"{queries:,}", (queries, total_s), (0, 9), textcoords="offset points", ha="right", fontsize=9)


def _best_of_each_kind(rows: Sequence[MethodSummary]) -> list[MethodSummary]:
    """Return the best control, the best method without training, and the best trained method."""
    kinds = (
        [row for row in rows if row.control],
        [row for row in rows if not row.control and not row.trainable],
        [row for row in rows if not row.control and row.trainable],
    )
    return [kind[0] for kind in kinds if kind]


PLOTS = [
    Plot(
        60,
        "break-even",
        draw_break_even,
        lambda translate: translate(
            "Total time for a number of queries: training once, then answering each. Colored lines: the best control "
            "(°), the best method without training, the best trained method. Ring: from this number of queries on, "
            "training is cheaper than prompting."
        ),
    )
]
