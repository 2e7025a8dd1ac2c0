"""Pictures of one comparison: a file each, and every file's `PLOTS` are drawn."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from bench.report.plot_style import Plot


def all_plots() -> list[Plot]:
    """All plots, in the order in which a reader should see them."""
    found: list[Plot] = []
    for module in iter_modules(__path__):
        found += import_module(f"{__name__}.{module.name}").PLOTS
    return sorted(found, key=lambda plot: plot.place)
