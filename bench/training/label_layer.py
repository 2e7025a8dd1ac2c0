"""Learning rate of the new output layer of an encoder, for all methods that train one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from bench.training.gradient import LABEL_LAYER_LR, REFERENCE_WIDTH

WRAPPER_NAMES = re.compile(r"\.(?:modules_to_save\.[^.]+|original_module)\b")
"""Parts of a name that PEFT adds to a layer that it trains as a whole."""
SCALE_ROWS = 16
"""Training rows whose inputs of the output layer decide the scale of its learning rate."""


def learning_rate(lm: Any, rows: Sequence[list[int]]) -> float:
    """Return the peak learning rate of the output layer.

    AdamW moves every weight by about the learning rate, so a score moves by the learning rate times the sum of the
    absolute inputs of the layer: the rate falls with their size (RMS) and their number. A layer that starts from random
    weights has to move far; at the rate of an adapter it would hardly move in a short budget.

    Args:
        lm: Encoder with its new output layer.
        rows: Token ids of training rows.
    """
    layer = _find_layer(lm.model, lm.output_layer)
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0].detach().float()))
    was_training = lm.model.training
    lm.model.eval()
    try:
        with torch.no_grad():
            for group in lm.padding_groups([len(row) for row in rows[:SCALE_ROWS]]):
                lm.model(**lm.model_inputs([rows[index] for index in group]))
    finally:
        hook.remove()
        lm.model.train(was_training)
    squares = torch.cat([batch.square().flatten() for batch in inputs])
    rms = float(squares.mean().sqrt())
    return LABEL_LAYER_LR / rms * REFERENCE_WIDTH / layer.in_features if rms > 0 else LABEL_LAYER_LR


def give_own_rate(optimizer: torch.optim.Optimizer, model: Any, name: str, rate: float) -> None:
    """Give the weights of the output layer a learning rate of their own.

    Args:
        optimizer: Optimizer of the trained weights, before its first step.
        model: The trained model, which may be wrapped by PEFT.
        name: Name of the output layer in the model before it was wrapped.
        rate: Peak learning rate of the layer.
    """
    own = {
        id(weight)
        for weight_name, weight in model.named_parameters()
        if _is_layer(weight_name.rpartition(".")[0], name)
    }
    for group in list(optimizer.param_groups):
        weights = [weight for weight in group["params"] if id(weight) in own]
        if not weights:
            continue
        group["params"] = [weight for weight in group["params"] if id(weight) not in own]
        settings = {key: value for key, value in group.items() if key != "params"}
        optimizer.add_param_group(settings | {"params": weights, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def _find_layer(model: Any, name: str) -> Any:
    """Return the trained layer of a name, which PEFT may have wrapped and copied."""
    layers = [
        module
        for module_name, module in model.named_modules()
        if _is_layer(module_name, name) and isinstance(module, torch.nn.Linear)
    ]
    return next((layer for layer in layers if layer.weight.requires_grad), layers[-1])


def _is_layer(module_name: str, name: str) -> bool:
    """Return True if a module has this name in the model before PEFT wrapped it."""
    return f".{WRAPPER_NAMES.sub('', module_name)}".endswith(f".{name}")
