"""Memory of each phase, forecast and measured."""

from __future__ import annotations

import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.comparison import MethodResult
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, new_figure, shorten_name

SHOWN_PHASES = ("load", "fit", "predict")


def memory(section: TaskResults, translate: Translate) -> Figure | None:
    """The peak of each phase, and a line where it was forecast."""
    measured = [cell for cell in section.comparison.results[::-1] if _peaks(cell)]
    if not measured:
        return None
    figure, axes = new_figure(height=1.2 + 0.34 * len(measured))
    shades = dict(zip(SHOWN_PHASES, seaborn.color_palette("colorblind", 3), strict=True))
    for place, cell in enumerate(measured):
        for (phase, shade), offset in zip(shades.items(), (0.27, 0.0, -0.27), strict=True):
            peak, forecast = _peaks(cell).get(phase, (None, None))
            if peak is not None:
                axes.barh(place + offset, peak, height=0.25, color=shade)
            if forecast is not None:
                axes.plot([forecast] * 2, [place + offset - 0.13, place + offset + 0.13], color="black", linewidth=1.4)
    axes.set_yticks(range(len(measured)), [shorten_name(cell.name) for cell in measured])
    axes.set_xlabel("MiB")
    axes.margins(y=0.01)
    keys = [Line2D([], [], color=shade, linewidth=5, label=phase) for phase, shade in shades.items()]
    keys.append(Line2D([], [], color="black", marker="|", linestyle="", label=translate("forecast")))
    figure.legend(handles=keys, loc="outside upper center", ncols=4, fontsize=9, handlelength=1)
    return figure


def _peaks(cell: MethodResult) -> dict[str, tuple[float | None, float | None]]:
    """The highest peak of each phase over the seeds, and what was forecast for it."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for name in SHOWN_PHASES:
        phases = [record.cost.phases[name] for record in cell.records if record.cost and name in record.cost.phases]
        peaks = [phase.peak_mib for phase in phases if phase.peak_mib is not None]
        told = [phase.estimated_mib for phase in phases if phase.estimated_mib is not None]
        if peaks:
            found[name] = max(peaks), max(told, default=None)
    return found


PLOTS = [
    Plot(
        90,
        "memory",
        memory,
        lambda translate: translate(
            "Peak memory of loading, fitting and answering; black lines: as forecast beforehand."
        ),
    )
]
