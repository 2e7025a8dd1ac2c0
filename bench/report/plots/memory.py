"""Measured and estimated peak memory of each phase."""

from __future__ import annotations

from dataclasses import dataclass

import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.comparison import MethodResult
from bench.analysis.summary import uses_cuda
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.report.plot_style import Plot, new_figure, shorten_name

SHOWN_PHASES = ("load", "fit", "predict")
BAR_OFFSETS = (0.27, 0.0, -0.27)


@dataclass(frozen=True)
class PhasePeak:
    """Peak memory of a phase, maximum over the seeds.

    Attributes:
        measured_mib: Measured peak in MiB.
        estimated_mib: Estimated peak in MiB; None if there was no estimate.
    """

    measured_mib: float
    estimated_mib: float | None


def draw_memory(task_results: TaskResults, translate: Translate) -> Figure | None:
    """Draw the peak of each phase as a bar, and the estimate as a black line."""
    has_cuda = uses_cuda(task_results.summaries)
    peaks_by_method = [(result, _phase_peaks(result, has_cuda)) for result in task_results.comparison.results[::-1]]
    measured = [(result, peaks) for result, peaks in peaks_by_method if peaks]
    if not measured:
        return None
    figure, axes = new_figure(height=1.2 + 0.34 * len(measured))
    colors = dict(zip(SHOWN_PHASES, seaborn.color_palette("colorblind", 3), strict=True))
    for position, (_, peaks) in enumerate(measured):
        for phase, offset in zip(SHOWN_PHASES, BAR_OFFSETS, strict=True):
            if phase not in peaks:
                continue
            peak, center = peaks[phase], position + offset
            axes.barh(center, peak.measured_mib, height=0.25, color=colors[phase])
            if peak.estimated_mib is not None:
                axes.plot([peak.estimated_mib] * 2, [center - 0.13, center + 0.13], color="black", linewidth=1.4)
    axes.set_yticks(range(len(measured)), [shorten_name(result.name) for result, _ in measured])
    axes.set_xlabel(translate("MiB on the GPU") if has_cuda else "MiB")
    axes.margins(y=0.01)
    keys = [Line2D([], [], color=color, linewidth=5, label=phase) for phase, color in colors.items()]
    keys.append(Line2D([], [], color="black", marker="|", linestyle="", label=translate("estimate")))
    figure.legend(handles=keys, loc="outside upper center", ncols=4, fontsize=9, handlelength=1)
    return figure


def _phase_peaks(result: MethodResult, has_cuda: bool) -> dict[str, PhasePeak]:
    """Return the peak of each phase that was measured; with `has_cuda`, only on a GPU."""
    peaks = {}
    costs = [record.cost for record in result.records if record.cost]
    if has_cuda:
        costs = [cost for cost in costs if cost.device_peak_mib is not None]
    for name in SHOWN_PHASES:
        phases = [cost.phases[name] for cost in costs if name in cost.phases]
        measured = [phase.peak_mib for phase in phases if phase.peak_mib is not None]
        estimated = [phase.estimated_mib for phase in phases if phase.estimated_mib is not None]
        if measured:
            peaks[name] = PhasePeak(max(measured), max(estimated, default=None))
    return peaks


PLOTS = [
    Plot(
        90,
        "memory",
        draw_memory,
        lambda translate: translate("Peak memory of loading, training and answering. Black lines: estimates."),
    )
]
