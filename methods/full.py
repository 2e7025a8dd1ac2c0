"""Full fine-tuning: all weights are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat

from bench.method import LM, Base, param
from bench.training.gradient import LR_BY_WIDTH, GradientMethod
from bench.training.optimizer import OptimizerName


@dataclass
class Full(GradientMethod):
    """All weights by AdamW; the learning rate is smaller for wider models."""

    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(4e-4, help=LR_BY_WIDTH, search=(5e-5, 3e-3), log=True)
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = param(
        "adamw", help="adamw, or with moments of 8 bits: adamw_8bit, paged_adamw_8bit"
    )

    def load(self, base: Base) -> LM:
        """Load the base model, if the optimizer can be used on its device."""
        from bench.training.optimizer import check_optimizer

        check_optimizer(self.optimizer, base.device)
        return base.load()

    def optimizer_name(self) -> OptimizerName:
        """Return the hyper-parameter `optimizer`."""
        return self.optimizer

    def adapt(self, model: Any) -> Any:
        """Unfreeze all weights."""
        return model.requires_grad_(True)
