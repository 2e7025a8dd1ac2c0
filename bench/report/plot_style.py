"""Style of the plots: figure sizes, colors and markers of the methods, axis formats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
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
from matplotlib.ticker import Formatter, FuncFormatter, PercentFormatter, ScalarFormatter

from bench import units
from bench.analysis.comparison import MethodResult
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, format_duration

FIGURE_WIDTH = 4.8
"""Inches. At 10 points the text is legible on a phone, and three plots fit beside each other on a page."""
MARKERS = "osD^vP*Xhp<>d8H"
GRAY = "#767676"
GRAY_PALETTE_INDEX = 7
"""Color of seaborn's palette that is left out, since it looks like the gray of the controls."""
MAX_NAME_CHARS = 32
"""Longer method names are cut in a plot."""

DrawPlot = Callable[[TaskResults, Translate], Figure | None]
"""Draws one plot of a task; returns None if nothing was measured that it could show."""


@dataclass(frozen=True)
class Plot:
    """A plot of the report.

    Attributes:
        order: Position among the plots; the smallest comes first.
        name: Name of the plot in file names.
        draw: Draws the plot from the results of a task; returns None if there is nothing to show.
        caption: Returns the text below the plot.
    """

    order: int
    name: str
    draw: DrawPlot
    caption: Callable[[Translate], str]


def score_format(metric: str) -> Formatter:
    """Return the format of an axis of scores from 0 to 1, `80 %`, or of MCC, `0.8`."""
    return PercentFormatter(1.0, symbol=" %") if units.is_percentage(metric) else ScalarFormatter()


@contextmanager
def plot_style() -> Iterator[None]:
    """Apply the style of all plots, with a font that has Korean letters."""
    _register_korean_font()
    rc_params = {
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "font.family": ["DejaVu Sans", "NanumGothic"],
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "adaptbench",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.use_mathtext": False,
        "text.parse_math": False,  # A name with two dollar signs is not a formula.
        "legend.frameon": False,
    }
    with seaborn.axes_style("ticks"), pyplot.rc_context(rc_params):  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class MethodLook:
    """Color and marker of a method; markers of controls are hollow.

    Attributes:
        key: Key of the method and its settings.
        color: A matplotlib color.
        shape: A matplotlib marker.
        control: True for a control.
    """

    key: str
    color: Any
    shape: str
    control: bool

    def draw_marker(self, axes: Axes, x: float, y: float, size: float = 7) -> None:
        """Draw the marker of the method at a point; on a page it shows a tooltip."""
        face = "white" if self.control else self.color
        (line,) = axes.plot(
            [x], [y], self.shape, markersize=size, markerfacecolor=face, markeredgecolor=self.color, zorder=3
        )
        line.set_gid(f"mark:{self.key}")


def method_looks(task_results: TaskResults) -> dict[str, MethodLook]:
    """Assign a color and a marker to each method, the same in every plot of a task.

    The nine colors are safe for color-blind readers; methods take them and the fifteen markers in the order of names.

    Returns:
        The look of each method by its key; controls are gray.
    """
    palette = seaborn.color_palette("colorblind", 10)
    colors = [color for index, color in enumerate(palette) if index != GRAY_PALETTE_INDEX]
    looks = {}
    for index, result in enumerate(sorted(task_results.comparison.results, key=lambda result: result.name)):
        color = GRAY if result.control else colors[index % len(colors)]
        looks[result.key] = MethodLook(result.key, color, MARKERS[index % len(MARKERS)], result.control)
    return looks


def new_figure(height: float = 3.6) -> tuple[Figure, Axes]:
    """Return an empty figure of a height in inches, and its axes."""
    figure, axes = pyplot.subplots(figsize=(FIGURE_WIDTH, height))
    return figure, axes


def shorten_name(name: str) -> str:
    """Cut a method name that is too long for a plot."""
    return name if len(name) <= MAX_NAME_CHARS else f"{name[: MAX_NAME_CHARS - 1]}…"


def marked_name(result: MethodResult) -> str:
    """Return the shortened name of a method, with the sign for a control."""
    return f"{shorten_name(result.name)} °" if result.control else shorten_name(result.name)


def finish_figure(figure: Figure) -> None:
    """Lay the figure out once; otherwise matplotlib does it again for every file."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def scatter(
    figure: Figure,
    axes: Axes,
    task_results: TaskResults,
    points: dict[str, tuple[float, float]],
    labeled: set[str],
) -> None:
    """Draw a marker for each method, and labels that do not overlap.

    Everything else must be drawn already, since the labels are placed on the final layout.

    Args:
        figure: The figure, which is laid out here.
        axes: The axes of the figure.
        task_results: The results with the names of the methods.
        points: Position of each method by its key.
        labeled: Keys of the methods whose names are written beside their markers.
    """
    from adjustText import adjust_text

    looks, texts = method_looks(task_results), []
    for result in task_results.comparison.results:
        if result.key not in points:
            continue
        x, y = points[result.key]
        looks[result.key].draw_marker(axes, x, y)
        if result.key in labeled:
            texts.append(axes.text(x, y, shorten_name(result.name), fontsize=9, zorder=5))
    axes.margins(x=0.15, y=0.12)
    finish_figure(figure)  # The labels are moved on the final layout.
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
            iter_lim=60,  # A time limit would make plots of the same records differ.
            arrowprops={"arrowstyle": "-", "color": GRAY, "lw": 0.6},
        )


def legend_key(look: MethodLook, label: str) -> Line2D:
    """Return the line of a method in a legend."""
    return Line2D([], [], color=look.color, marker=look.shape, markersize=5, label=shorten_name(label))


def seconds_format(translate: Translate) -> Formatter:
    """Return the axis format of values in seconds."""
    return FuncFormatter(lambda value, _: format_duration(value, translate))


def milliseconds_format(translate: Translate) -> Formatter:
    """Return the axis format of values in milliseconds."""
    return FuncFormatter(lambda value, _: format_duration(value / 1000, translate))


def mebibytes_format(translate: Translate) -> Formatter:
    """Return the axis format of values in MiB."""
    return FuncFormatter(lambda value, _: f"{value:,.0f} MiB")


def count_format(translate: Translate) -> Formatter:
    """Return the axis format of counts such as 279k."""
    return FuncFormatter(lambda value, _: units.format_count(value))


@cache
def _register_korean_font() -> None:
    """Register the font once per process.

    After each registration matplotlib searches the font again for every text.
    """
    spec = find_spec("koreanize_matplotlib")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for font in Path(folder, "fonts").glob("NanumGothic.ttf"):
            font_manager.fontManager.addfont(font)
