"""Total cost against the number of questions."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bench.analysis import break_even
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, legend_key, method_looks, new_figure, seconds


def costs(section: TaskResults, translate: Translate) -> Figure | None:
    """Seconds of adapting and answering together: the best of each kind in color, all others in gray."""
    priced = {row.label: (row, price) for row in section.rows if (price := break_even.cost_model(row))}
    if not priced:
        return None
    figure, axes = new_figure(height=4.0)
    look, volumes = method_looks(section), [10 ** (step / 8) for step in range(49)]
    best = _best([row for row, _ in priced.values()])
    for row, price in priced.values():
        totals = [price.total(volume) for volume in volumes]
        if row in best:
            axes.plot(volumes, totals, color=look[row.key].color, linewidth=1.8, zorder=3)
            look[row.key].mark(axes, volumes[-1], totals[-1], size=6)
        else:
            axes.plot(volumes, totals, color="#cccccc", linewidth=0.7, zorder=1)
    for ours, theirs in pairwise(row for row in best if not row.control):
        at = break_even.break_even_queries(priced[ours.label][1], priced[theirs.label][1])
        if at is not None and 1 <= at <= volumes[-1]:
            total = priced[ours.label][1].total(at)
            axes.plot([at], [total], "o", markerfacecolor="none", markeredgecolor="black", markersize=9, zorder=4)
            axes.annotate(f"{at:,}", (at, total), (0, 9), textcoords="offset points", ha="right", fontsize=9)
    least = min(price.total(1) for row, price in priced.values() if row in best)
    axes.set(xscale="log", yscale="log", xlabel=translate("questions answered"), ylabel=translate("time in all"))
    axes.set_ylim(bottom=max(least / 2, 1e-4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(seconds)
    figure.legend(
        handles=[legend_key(look[row.key], f"{row.label} °" if row.control else row.label) for row in best],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


def _best(found: list[MethodSummary]) -> list[MethodSummary]:
    """The best control, the best method that trains nothing and the best that trains."""
    kinds = (
        [row for row in found if row.control],
        [row for row in found if not row.control and not row.trainable],
        [row for row in found if not row.control and row.trainable],
    )
    return [kind[0] for kind in kinds if kind]


PLOTS = [
    Plot(
        60,
        "costs",
        costs,
        lambda translate: translate(
            "What all answers together cost: adapting once, then each question. In color: the best control (°), the "
            "best method that trains nothing, the best that trains. The ring: from that many questions on, "
            "training is cheaper than prompting."
        ),
    )
]
