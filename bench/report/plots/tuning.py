"""Expected best validation score against the number of tuning trials."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.task_results import TaskResults
from bench.analysis.tuning_curve import expected_best
from bench.i18n import Translate
from bench.report.plot_style import Plot, legend_key, method_looks, new_figure, score_format


def draw_tuning_curves(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the expected best validation score of k trials; a failed trial counts as 0."""
    tunings = [(result, result.records[0].tuning) for result in task_results.comparison.results]
    tuned = [(result, tuning.trials) for result, tuning in tunings if tuning and tuning.trials]
    if not tuned:
        return None
    figure, axes = new_figure(height=4.0)
    looks = method_looks(task_results)
    for result, trials in tuned:
        look = looks[result.key]
        best_scores = expected_best([trial.score or 0.0 for trial in trials])
        axes.plot(range(1, len(best_scores) + 1), best_scores, color=look.color, marker=look.shape, markersize=5)
    axes.set_xlabel(translate("trials"))
    axes.set_ylabel(translate("expected best {metric} on validation", metric=task_results.metric))
    axes.yaxis.set_major_formatter(score_format(task_results.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        handles=[legend_key(looks[result.key], result.name) for result, _ in tuned],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


PLOTS = [
    Plot(
        75,
        "tuning",
        draw_tuning_curves,
        lambda translate: translate("Expected best validation score against the number of tuning trials."),
    )
]
