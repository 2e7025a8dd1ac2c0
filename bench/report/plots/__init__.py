"""Plots of a task's results. Each module of this folder lists its plots in `PLOTS`.

Names for a plot of your own: `from bench.report.plots import Plot, method_looks, new_figure`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from bench.report.plot_style import Plot, method_looks, new_figure

__all__ = ["Plot", "all_plots", "method_looks", "new_figure"]


def all_plots() -> list[Plot]:
    """Import every module of this folder and return their plots in the order of the page."""
    plots: list[Plot] = []
    for module in iter_modules(__path__):
        plots += import_module(f"{__name__}.{module.name}").PLOTS
    return sorted(plots, key=lambda plot: plot.order)
