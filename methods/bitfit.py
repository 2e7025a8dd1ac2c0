"""BitFit: only the biases are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat

from bench.method import param
from bench.training.gradient import LR_BY_WIDTH, GradientMethod


@dataclass
class BitFit(GradientMethod):
    """Bias-only fine-tuning (arXiv:2106.10199); layers without bias get one of zeros."""

    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(1e-2, help=LR_BY_WIDTH, search=(1e-3, 5e-2), log=True)

    def adapt(self, model: Any) -> Any:
        """Unfreeze the biases of all linear layers except the output layer."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        for layer in model.modules():
            if isinstance(layer, nn.Linear | Conv1D) and layer is not model.get_output_embeddings():
                if layer.bias is None:
                    layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
                layer.bias.requires_grad_(True)
        return model
