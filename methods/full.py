"""Full fine-tuning: every weight is trained."""

from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat

from bench.gradient import WIDTH, Gradient, by_width
from bench.method import param


@dataclass
class Full(Gradient):
    """All weights by AdamW, at a learning rate that falls as models grow wider."""

    lr: PositiveFloat = param(
        1e-3,
        help=f"peak learning rate of AdamW at a width of {WIDTH}; a model of another gets lr * {WIDTH} / width",
        search=(1e-4, 3e-3),
        log=True,
    )

    def peak(self, model: Any) -> float:
        """The learning rate for this model's width."""
        return by_width(self.lr, model)

    def adapt(self, model: Any) -> Any:
        """Unfreeze everything."""
        return model.requires_grad_(True)
