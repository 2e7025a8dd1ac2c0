"""BitFit: only biases are trained."""

from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat

from bench.gradient import WIDTH, Gradient, by_width
from bench.method import param


@dataclass
class BitFit(Gradient):
    """Bias-only fine-tuning (https://arxiv.org/abs/2106.10199); linear layers that have no bias get one of zeros."""

    lr: PositiveFloat = param(
        1e-2,
        help=f"peak learning rate of AdamW at a width of {WIDTH}; a model of another gets lr * {WIDTH} / width",
        search=(1e-3, 5e-2),
        log=True,
    )

    def peak(self, model: Any) -> float:
        """The learning rate for this model's width."""
        return by_width(self.lr, model)

    def adapt(self, model: Any) -> Any:
        """Unfreeze the biases of all linear layers but the output layer's."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        for layer in model.modules():
            if isinstance(layer, nn.Linear | Conv1D) and layer is not model.get_output_embeddings():
                if layer.bias is None:
                    layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
                layer.bias.requires_grad_(True)
        return model
