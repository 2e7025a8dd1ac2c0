"""Keeping the best weights: those of the lowest validation loss, restored exactly, or the last with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import fit_method

from bench.modeling.checkpoint import Checkpoint
from bench.records import Keep, KeptWeights
from bench.training import selection
from bench.training.selection import WeightSelection


def select(
    folder: Path, losses: list[float], keep: Keep = "best", patience: int = 0
) -> tuple[KeptWeights, list[float]]:
    """Add a point per step, at which both weights hold the number of the step; what is kept, and the weights."""
    weights = [torch.zeros(3), torch.zeros(2, 2)]
    chosen = WeightSelection(weights, folder, keep=keep, patience=patience)
    for step, loss in enumerate(losses):
        for weight in weights:
            weight.fill_(step)
        chosen.add_point(step, loss, is_last=step == len(losses) - 1)
        if chosen.should_stop:
            break
    return chosen.finish(step), [float(weight.unique()) for weight in weights]


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([3.0, 2.0, 1.0, 1.5, 2.0], 2),
        ([3.0, 2.0, 1.0, 0.5], 3),
        ([1.0, 2.0, 3.0, 4.0], 0),
        ([3.0, 1.0, 2.0, 1.0, 2.0], 3),  # of equal losses the later one is kept
    ],
)
def test_selection_best_restores_weights_of_lowest_loss(tmp_path: Path, losses: list[float], kept: int) -> None:
    result, weights = select(tmp_path, losses)
    assert (result.step, result.validation_loss, result.not_chosen) == (kept, losses[kept], None)
    assert weights == [kept, kept]


def test_selection_last_keeps_last_and_copies_nothing(tmp_path: Path) -> None:
    result, weights = select(tmp_path, [3.0, 1.0, 2.0, 4.0], keep="last")
    assert result == KeptWeights(keep="last", step=3, validation_loss=4.0)
    assert weights == [3, 3] and not list(tmp_path.iterdir())


def test_selection_few_points_keeps_last_with_reason(tmp_path: Path) -> None:
    result, weights = select(tmp_path, [3.0, 1.0, 2.0])
    assert (result.step, result.not_chosen, weights) == (2, selection.TOO_FEW_POINTS, [2, 2])


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 3)])
def test_selection_patience_stops_after_points_without_gain(tmp_path: Path, keep: Keep, kept: int) -> None:
    result, weights = select(tmp_path, [3.0, 1.0, 2.0, 1.5, 0.5, 0.1], keep=keep, patience=2)
    assert (result.step, weights) == (kept, [kept, kept])


@pytest.fixture
def script_losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[int, list[torch.Tensor]]]:
    """Let the points of a training have the losses 3, 1, 2, 2, 2, …; returns the weights at each step."""

    def script() -> dict[int, list[torch.Tensor]]:
        copies: dict[int, list[torch.Tensor]] = {}
        add_point = WeightSelection.add_point

        def add_scripted_point(chosen: WeightSelection, step: int, loss: float, *, is_last: bool = False) -> None:
            scripted_loss = {0: 3.0, 1: 1.0}.get(len(copies), 2.0)
            copies[step] = [weight.detach().clone() for weight in chosen.weights]
            add_point(chosen, step, scripted_loss, is_last=is_last)

        monkeypatch.setattr(WeightSelection, "add_point", add_scripted_point)
        return copies

    return script


ScriptLosses = Callable[[], dict[int, list[torch.Tensor]]]


@pytest.mark.parametrize("name", ["lora", "full", "head", "prefix"])
def test_fit_keep_best_leaves_weights_of_best_point(lively: Checkpoint, name: str, script_losses: ScriptLosses) -> None:
    copies = script_losses()
    method, budget = fit_method(name, lively, steps=10, keep="best")
    kept = method.kept_weights_
    assert (kept.step, kept.validation_loss, kept.not_chosen, budget.steps) == (1, 1.0, None, 10)
    weights = [weight for weight in method.lm_.model.parameters() if weight.requires_grad]
    assert kept.copied_mib == pytest.approx(sum(weight.numel() for weight in weights) * 4 / 2**20, abs=1e-3)
    assert all(torch.equal(weight, copy) for weight, copy in zip(weights, copies[1], strict=True))
    assert not all(torch.equal(weight, copy) for weight, copy in zip(weights, copies[10], strict=True))


def test_fit_keep_best_trains_as_keep_last(lively: Checkpoint) -> None:
    losses = []
    for keep in ("last", "best"):
        method, budget = fit_method("lora", lively, steps=6, keep=keep)
        losses.append([(point.step, point.train_loss, point.validation_loss) for point in method.curve_])
        assert budget.validation_s > 0
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["lora", "head", "dpo"])
def test_fit_patience_ends_training_and_is_recorded(lively: Checkpoint, name: str, script_losses: ScriptLosses) -> None:
    script_losses()
    params: dict[str, Any] = {"share": 0.5} if name == "dpo" else {}
    method, budget = fit_method(name, lively, steps=20, keep="best", patience=2, **params)
    usage, kept = budget.usage(), method.kept_weights_
    assert usage.stopped_by == "patience"
    if name != "dpo":
        assert (usage.steps, kept.step, kept.not_chosen) == (6, 2, None)
        return
    assert usage.steps == 6 + 10, "the steps that patience has saved are not spent on preferences"
    assert kept.step == 16 and "went on from the weights of step 2" in kept.not_chosen
