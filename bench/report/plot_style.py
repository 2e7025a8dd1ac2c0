"""How pictures of a comparison look: sheets, colors and shapes, and the marks that stand for methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import seaborn
from matplotlib import font_manager, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bench import units
from bench.analysis.comparison import MethodResult
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate

seconds = FuncFormatter(lambda value, _: units.time(value))
milliseconds = FuncFormatter(lambda value, _: units.time(value / 1000))
mebibytes = FuncFormatter(lambda value, _: f"{value:,.0f} MiB")
counts = FuncFormatter(lambda value, _: units.count(value))

WIDTH = 4.8  # inches: at 10 points, text is legible on a telephone's width and three plots stand beside each other
SHAPES = "osD^vP*Xhp<>d8H"
GRAY = "#767676"
GRAYISH = 7  # of seaborn's palette: it would pass for a control
LONGEST = 32  # characters of a name in a picture

Draw = Callable[[TaskResults, Translate], Figure | None]
"""Draws one picture of a section; None where nothing was measured that it could show."""


@dataclass(frozen=True)
class Plot:
    """A picture: its place among the others, its file's name, how it is drawn, and what it shows."""

    place: int
    name: str
    draw: Draw
    caption: Callable[[Translate], str]


@contextmanager
def plot_style() -> Iterator[None]:
    """How all pictures look: colors that color-blind readers tell apart, and letters for Korean."""
    _know_korean_letters()
    look = {
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "font.family": ["DejaVu Sans", "NanumGothic"],
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "adaptbench",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.use_mathtext": False,
        "legend.frameon": False,
    }
    with seaborn.axes_style("ticks"), pyplot.rc_context(look):  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class MethodLook:
    """A method's color and shape; controls are hollow."""

    key: str
    color: Any
    shape: str
    control: bool

    def mark(self, axes: Axes, x: float, y: float, size: float = 7) -> None:
        """Put the method's mark at a point."""
        face = "white" if self.control else self.color
        (line,) = axes.plot(
            [x], [y], self.shape, markersize=size, markerfacecolor=face, markeredgecolor=self.color, zorder=3
        )
        line.set_gid(f"mark:{self.key}")


def method_looks(section: TaskResults) -> dict[str, MethodLook]:
    """Nine colors and fifteen shapes, by the order of names, so that a method looks the same in every picture."""
    colors = [color for place, color in enumerate(seaborn.color_palette("colorblind", 10)) if place != GRAYISH]
    ordered = sorted(section.comparison.results, key=lambda cell: cell.name)
    return {
        cell.key: MethodLook(
            cell.key, GRAY if cell.control else colors[place % len(colors)], SHAPES[place % 15], cell.control
        )
        for place, cell in enumerate(ordered)
    }


def new_figure(height: float = 3.6) -> tuple[Figure, Axes]:
    """One empty pair of axes, of a height in inches."""
    figure, axes = pyplot.subplots(figsize=(WIDTH, height))
    return figure, axes


def shorten_name(name: str) -> str:
    """A method's name, cut where it is longer than a picture bears."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def finish_figure(figure: Figure) -> None:
    """Lay the sheet out once and for all; matplotlib would do it again for every file."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def scatter(
    figure: Figure,
    axes: Axes,
    section: TaskResults,
    cells: Sequence[MethodResult],
    points: dict[str, tuple[float, float]],
    named: set[str],
) -> None:
    """A mark for each method, and names beside those that matter; all else on the sheet must be there already."""
    from adjustText import adjust_text

    look, texts = method_looks(section), []
    for cell in cells:
        x, y = points[cell.key]
        look[cell.key].mark(axes, x, y)
        if cell.key in named:
            texts.append(axes.text(x, y, shorten_name(cell.name), fontsize=9, zorder=5))
    axes.margins(x=0.15, y=0.12)
    finish_figure(figure)  # names are moved apart on the sheet as it will be
    xs, ys = zip(*points.values(), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adjust_text(
            texts,
            list(xs),
            list(ys),
            ax=axes,
            expand=(1.15, 1.5),
            ensure_inside_axes=True,
            iter_lim=60,  # not a limit of time, by which pictures of the same records would differ
            arrowprops={"arrowstyle": "-", "color": GRAY, "lw": 0.6},
        )


def legend_key(look: MethodLook, label: str) -> Line2D:
    """A method's line in a legend."""
    return Line2D([], [], color=look.color, marker=look.shape, markersize=5, label=shorten_name(label))


@cache
def _know_korean_letters() -> None:
    """Once in a process: a font that is made known again is looked through again for every text."""
    spec = find_spec("koreanize_matplotlib")
    places = list(spec.submodule_search_locations or []) if spec else []
    for font in (font for place in places for font in Path(place, "fonts").glob("NanumGothic.ttf")):
        font_manager.fontManager.addfont(font)
