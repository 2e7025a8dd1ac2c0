"""Gradient training under a budget.

Authors of methods import from here; it does not import torch. The trainer is imported when a method is fitted.
"""

from bench.training.gradient import (
    LR_BY_WIDTH,
    GradientMethod,
    PreferencePair,
    Rows,
    adapter_fields,
    add_virtual_tokens,
    task_type,
)

__all__ = [
    "LR_BY_WIDTH",
    "GradientMethod",
    "PreferencePair",
    "Rows",
    "adapter_fields",
    "add_virtual_tokens",
    "task_type",
]
