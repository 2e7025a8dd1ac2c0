"""Floating-point operations of training and of the machine."""

from __future__ import annotations

import torch
from support import fit_method

from bench.measurement import flops
from bench.measurement.flops import FlopCounter
from bench.modeling.checkpoint import Checkpoint


def test_flop_counter_first_pass_is_counted_and_scaled() -> None:
    counter, layer, rows = FlopCounter(), torch.nn.Linear(8, 5, bias=False), torch.rand(7, 8)
    for _ in range(3):
        with counter.count_once(7):
            layer(rows)
    assert counter.scaled_to(7) == 2 * 7 * 8 * 5
    assert counter.scaled_to(70) == 10 * counter.scaled_to(7)
    assert FlopCounter().scaled_to(70) == 0


def test_full_training_takes_six_flops_per_weight_and_token(lively: Checkpoint) -> None:
    full, budget = fit_method("full", lively, steps=10)
    weights = full.lm_.count_parameters()[0]
    assert budget.flops is not None
    # Padding is computed too, the embedding is tied, and logits are computed for answers only.
    assert 0.6 < budget.flops / (6 * weights * budget.tokens) < 1.5


def test_flops_per_token_frozen_base_takes_fewer(lively: Checkpoint) -> None:
    per_token = {}
    for name, params in {"full": {}, "lora": {"rank": 1}, "features": {}}.items():
        _, budget = fit_method(name, lively, steps=10, **params)
        assert budget.flops is not None
        per_token[name] = budget.flops / budget.tokens
    assert per_token["features"] < per_token["lora"] < per_token["full"]


def test_measure_peak_flops_is_plausible_rate() -> None:
    assert 1e8 < flops.measure_peak_flops("cpu") < 1e15
