"""What tuning brought: the score that the best of so many trials has on average."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis import tuning_curve
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, legend_key, method_looks, new_figure


def trials(section: TaskResults, translate: Translate) -> Figure | None:
    """E[best of k] on validation for each tuned method; a trial that failed counts as 0."""
    known = [(cell, cell.records[0].tuning) for cell in section.comparison.results]
    tuned = [(cell, tuning.trials) for cell, tuning in known if tuning and tuning.trials]
    if not tuned:
        return None
    figure, axes = new_figure(height=4.0)
    look = method_looks(section)
    for cell, attempts in tuned:
        best = tuning_curve.expected_best([attempt.score or 0.0 for attempt in attempts])
        axes.plot(range(1, len(best) + 1), best, color=look[cell.key].color, marker=look[cell.key].shape, markersize=5)
    axes.set(
        xlabel=translate("trials"), ylabel=translate("{metric} on validation, best of so many", metric=section.metric)
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        handles=[legend_key(look[cell.key], cell.name) for cell, _ in tuned],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


PLOTS = [
    Plot(
        75,
        "trials",
        trials,
        lambda translate: translate(
            "What the best of so many trials of hyper-parameters scores on average, on validation."
        ),
    )
]
