"""Floating-point operations (FLOPs) of training, and the peak rate of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measurement import memory_limit
from bench.measurement.meter import synchronize

MATRIX_SIDE = 1024
CUDA_MATRIX_SIDE = 8192
"""Side of the matrices on a CUDA device, which smaller ones do not fill."""
REPEATS = 8
MAX_SECONDS = 2.0
"""Seconds that all repetitions together may take."""


class FlopCounter:
    """Counter of the operations of the first training step.

    Those of all steps are estimated by their tokens. Matrix products, attention and convolutions are counted, forward
    and backward; attention in full, also where a causal mask leaves half of it out.
    """

    def __init__(self) -> None:
        self.flops: int = 0
        self.tokens: int = 0

    @contextmanager
    def count_once(self, tokens: int) -> Iterator[None]:
        """Count the operations of the body, which processes `tokens` tokens, on the first call."""
        if self.tokens:
            yield
            return
        with FlopCounterMode(display=False, custom_mapping=_added_formulas()) as counter:
            yield
        self.flops, self.tokens = counter.get_total_flops(), tokens

    def scaled_to(self, tokens: int) -> float:
        """Return the operations of `tokens` tokens by proportion; 0 if none were counted."""
        return self.flops / self.tokens * tokens if self.tokens else 0.0


def measure_peak_flops(device: str, dtype: str = "float32") -> float:
    """Return the operations per second of a large matrix product, the best of a few.

    The matrices are smaller than usual if the memory that is left does not hold them, or if larger ones would take
    seconds, as some dtypes do on a CPU.

    Args:
        device: Torch device name.
        dtype: Name of the matrices' dtype.
    """
    max_side = CUDA_MATRIX_SIDE if device.partition(":")[0] == "cuda" else MATRIX_SIDE
    side, flops_per_s = max_side // 8, 0.0
    while True:
        try:
            seconds = _product_seconds(device, dtype, side)
        except Exception as error:
            if not flops_per_s or not memory_limit.is_out_of_memory(error):
                raise
            return flops_per_s
        flops_per_s = 2 * side**3 / seconds
        if side == max_side or 8 * REPEATS * seconds > MAX_SECONDS:  # twice the side takes eight times as long
            return flops_per_s
        side *= 2


def measure_matmul_rates(device: str, dtype: str) -> dict[str, float]:
    """Return the rates of a large matrix product by dtype, in operations per second.

    The dtypes are float32 and that of the run. A rate that cannot be measured is missing, e.g. after an error of the
    device that the process cannot recover from.
    """
    rates = {}
    for name in dict.fromkeys(("float32", dtype)):
        with suppress(Exception):  # the errors of a broken device have types of their own
            rates[name] = measure_peak_flops(device, name)
    return rates


def _product_seconds(device: str, dtype: str, side: int) -> float:
    """Return the seconds of the fastest of a few products of square matrices."""
    matrix = torch.rand(side, side, device=device).to(getattr(torch, dtype))
    best_seconds = float("inf")
    for _ in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best_seconds = min(best_seconds, time.perf_counter() - start)
    return best_seconds


def _added_formulas() -> dict[Any, Callable[..., int]]:
    """Return the formulas of operations for which torch has none and would count nothing.

    These are grouped products (mixtures of experts), attention on the CPU, and products with quantized weights, whose
    operations exist once bitsandbytes is imported.
    """
    aten: Any = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {
        aten._grouped_mm: _grouped_product,
        aten._scaled_grouped_mm: _grouped_product,
        aten._int_mm: _product,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    quantized: dict[str, Callable[..., int]] = {
        "gemm_4bit": _linear_layer_4bit,
        "gemv_4bit": _linear_layer_4bit,
        "int8_linear_matmul": _linear_layer,
        "int8_scaled_mm": _linear_layer,
        "int8_mixed_scaled_mm": _linear_layer_8bit_mixed,
    }
    operations = torch.ops.bitsandbytes
    return formulas | {getattr(operations, name): quantized[name] for name in quantized if hasattr(operations, name)}


# The arguments of a formula are those of the operation, with the shape of a tensor in its place.
Shape = Sequence[int]


def _product(left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of a product (rows, inner) × (inner, columns)."""
    return 2 * prod(left) * right[1]


def _linear_layer(inputs: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of a linear layer; the weight is (columns, inner)."""
    return 2 * prod(inputs) * weight[0]


def _linear_layer_4bit(inputs: Shape, packed: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of a linear layer whose weight (columns, inner) is packed."""
    return _linear_layer(inputs, weight)


def _linear_layer_8bit_mixed(inputs: Shape, rounded: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of a linear layer that reads its inputs in two precisions."""
    return _linear_layer(inputs, weight)


def _grouped_product(left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of products of groups.

    An operand without a third dimension is cut into the groups.
    """
    groups = left[0] if len(left) == len(right) == 3 else 1
    return 2 * groups * left[-2] * left[-1] * right[-1]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of attention: the scores, and the mean of the values."""
    return 2 * prod(query[:3]) * key[2] * (query[3] + value[3])


def _attention_backward(_gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of the backward pass, which computes the scores once more."""
    return 2 * prod(query[:3]) * key[2] * (3 * query[3] + 2 * value[3])
