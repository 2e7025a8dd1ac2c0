"""Floating-point operations of training and of the machine."""

from __future__ import annotations

from typing import Any

import pytest
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


def test_flops_quantized_base_takes_as_many_as_lora(lively: Checkpoint) -> None:
    flops_by_method = {}
    for name in ("lora", "qlora"):
        _, budget = fit_method(name, lively, steps=2)
        flops_by_method[name] = budget.flops
    assert flops_by_method["qlora"] == flops_by_method["lora"]


def linear_layer(name: str) -> Any:
    """A layer of 32 inputs and 48 outputs whose weights are frozen."""
    nn: Any = pytest.importorskip("bitsandbytes.nn")
    if name == "4-bit":
        layer = nn.Linear4bit(32, 48, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        layer.load_state_dict({"weight": torch.randn(48, 32)})
    else:
        layer = nn.Linear8bitLt(32, 48, bias=False, has_fp16_weights=False, threshold=6.0)
    return layer.to("cpu").eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["4-bit", "8-bit"])
@pytest.mark.parametrize("trained", [False, True])
def test_flop_counter_quantized_layer_counts_like_float_layer(name: str, trained: bool) -> None:
    layer, counter, rows = linear_layer(name), FlopCounter(), torch.rand(7, 32, requires_grad=trained)
    with counter.count_once(7):
        output = layer(rows)
        if trained:
            output.sum().backward()
    assert counter.flops == (4 if trained else 2) * 7 * 32 * 48


def test_flop_counter_counts_groups_of_experts() -> None:
    counter, rows, experts = FlopCounter(), torch.rand(16, 8, requires_grad=True), torch.rand(3, 8, 24)
    with counter.count_once(16):
        output = torch.nn.functional.grouped_mm(rows, experts, offs=torch.tensor([4, 10, 16], dtype=torch.int32))
        output.backward(torch.ones(16, 24))
    assert counter.flops == 4 * 16 * 8 * 24


def test_flop_counter_counts_attention_like_its_products() -> None:
    flops_by_kernel = {}
    for kernel in (torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.nn.attention.SDPBackend.MATH):
        counter, rows = FlopCounter(), torch.rand(2, 3, 10, 8, requires_grad=True)
        with counter.count_once(1), torch.nn.attention.sdpa_kernel(kernel):
            torch.nn.functional.scaled_dot_product_attention(rows * 1, rows * 2, rows * 3).sum().backward()
        flops_by_kernel[kernel.name] = counter.flops
    # The fused kernel saves no scores, so its backward pass computes them once more.
    assert flops_by_kernel["FLASH_ATTENTION"] == flops_by_kernel["MATH"] * 7 / 6


def test_measure_peak_flops_is_plausible_rate() -> None:
    assert 1e8 < flops.measure_peak_flops("cpu") < 1e15


def test_measure_matmul_rates_names_float32_and_dtype_of_run() -> None:
    assert set(flops.measure_matmul_rates("cpu", "float32")) == {"float32"}
    rates = flops.measure_matmul_rates("cpu", "bfloat16")
    assert set(rates) == {"float32", "bfloat16"} and min(rates.values()) > 1e6


def test_measure_peak_flops_takes_matrices_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []
    make_matrix = torch.rand

    def make_small_matrix(side: int, *args: Any, **kwargs: Any) -> Any:
        sides.append(side)
        if side > 256:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 256.00 MiB.")
        return make_matrix(side, *args, **kwargs)

    monkeypatch.setattr(torch, "rand", make_small_matrix)
    assert flops.measure_peak_flops("cpu") > 1e6
    assert sides == [128, 256, 512]


def test_measure_matmul_rates_broken_device_is_not_measured() -> None:
    assert flops.measure_matmul_rates("cuda:99", "bfloat16") == {}
