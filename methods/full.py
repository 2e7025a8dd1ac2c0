"""Full fine-tuning: all weights are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat

from bench.method import param
from bench.training.gradient import LR_BY_WIDTH, GradientMethod


@dataclass
class Full(GradientMethod):
    """All weights by AdamW; the learning rate is smaller for wider models."""

    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(1e-3, help=LR_BY_WIDTH, search=(1e-4, 3e-3), log=True)

    def adapt(self, model: Any) -> Any:
        """Unfreeze all weights."""
        return model.requires_grad_(True)
