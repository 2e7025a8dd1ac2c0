"""Negative control: full fine-tuning from random weights; shows what pre-training adds."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveFloat

from bench.method import LM, Base, param
from bench.training.gradient import LR_BY_WIDTH

from .full import Full


@dataclass
class RandomWeights(Full):
    """Architecture and tokenizer of the base model with newly initialized weights."""

    control: ClassVar[bool] = True
    negative_control: ClassVar[bool] = True

    lr: PositiveFloat = param(1e-3, help=LR_BY_WIDTH, search=(1e-4, 1e-2), log=True)

    def load(self, base: Base) -> LM:
        """Load the base model and replace its weights by the initialization of its architecture."""
        lm = super().load(base)
        initialized = type(lm.model)(lm.model.config)
        lm.model.load_state_dict(initialized.state_dict())
        return lm
