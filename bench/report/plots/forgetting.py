"""What adapting took from the model, against what it brought."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.analysis.comparison import MethodResult
from bench.analysis.summary import forgetting_nats
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import GRAY, Plot, new_figure, scatter

ROOM = 10  # names that can stand beside each other


def forgetting(section: TaskResults, translate: Translate) -> Figure | None:
    """What adapting took from the model's grasp of general text, against what it brought on the task."""
    lost = {cell.key: _lost(cell) for cell in section.comparison.results}
    cells = [cell for cell in section.comparison.results if lost[cell.key] is not None]
    if not cells:
        return None
    figure, axes = new_figure()
    untouched = next(filter(_untouched, section.comparison.results), None)
    base = untouched.interval.mean if untouched else 0.0
    points = {cell.key: (lost[cell.key] or 0.0, cell.interval.mean - base) for cell in cells}
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_xlabel(translate("forgotten (nats per token of general text)"))
    axes.set_ylabel(
        translate("{metric} above {control}", metric=section.metric, control=untouched.name)
        if untouched
        else section.metric,
    )
    scatter(figure, axes, section, cells, points, named=_named(points))
    return figure


def _named(points: dict[str, tuple[float, float]]) -> set[str]:
    """All, where there is room; else those that gain more than any that forget as little."""
    if len(points) <= ROOM:
        return set(points)
    return {key for key, (x, y) in points.items() if not any(a <= x and b > y for a, b in points.values())}


def _untouched(cell: MethodResult) -> bool:
    """Whether it is the model itself that answers, and nothing of it was trained."""
    parameters = [record.cost.parameters for record in cell.records if record.cost]
    return cell.control and all(one is not None and one.trainable == 0 for one in parameters)


def _lost(cell: MethodResult) -> float | None:
    told = [nats for record in cell.records if (nats := forgetting_nats(record)) is not None]
    return sum(told) / len(told) if told else None


PLOTS = [
    Plot(
        100,
        "forgetting",
        forgetting,
        lambda translate: translate(
            "What a method gains on the task and what the model forgets of general text. Of many, those are named that "
            "gain more than any that forget as little."
        ),
    )
]
