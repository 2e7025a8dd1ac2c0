"""Plot of the training curves: lines, single points, and the marks of overfitting and of the weights that were kept."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRecord
from matplotlib.figure import Figure

from bench.analysis.task_results import group_by_task
from bench.i18n import untranslated
from bench.records import Record
from bench.report.plots.training_curve import draw_training_curves

LOSSES = (1.0, 0.4, 0.2, 0.6)


def curve(losses: tuple[float, ...], first_step: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "step": first_step + index, "tokens": 9, "seconds": 1.0, "train_loss": loss, "validation_loss": loss,
            "next_token_accuracy": 0.5,
        }
        for index, loss in enumerate(losses)
    ]  # fmt: skip


def draw(record: Record) -> Figure | None:
    return draw_training_curves(group_by_task([record])[0], untranslated)


def points(figure: Figure, marker: str, filled: bool | None = None) -> list[tuple[float, float]]:
    """The single points with a marker; of dots, those that are filled or not."""
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() == marker]
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))  # type: ignore[index]
        for line in lines
        if filled is None or (line.get_markerfacecolor() != "none") == filled
    ]


@pytest.mark.parametrize(("step", "dots"), [(2, [(2.0, 0.2)]), (3, [])])
def test_curve_dot_marks_kept_step_before_the_last(
    make_record: MakeRecord, step: int, dots: list[tuple[float, float]]
) -> None:
    kept = {"keep": "best", "step": step, "validation_loss": LOSSES[step]}
    figure = draw(make_record(curve=curve(LOSSES), kept_weights=kept))
    assert figure is not None
    assert points(figure, "o", filled=True) == dots
    assert points(figure, "o", filled=False) == [(2.0, 0.2)]


def test_curve_of_one_point_is_visible(make_record: MakeRecord) -> None:
    figure = draw(make_record(curve=curve((0.5,), first_step=9)))
    assert figure is not None
    assert points(figure, ".") == [(9.0, 0.5)] * 2


def test_curve_without_points_draws_nothing(make_record: MakeRecord) -> None:
    assert draw(make_record(curve=[])) is None
