"""Full fine-tuning from random weights: what is missing to `full` is what pre-training was worth."""

from dataclasses import dataclass
from typing import ClassVar

from bench.method import LM, Base

from .full import Full


@dataclass
class RandomWeights(Full):
    """The base's architecture and tokenizer without its knowledge."""

    control: ClassVar[bool] = True
    negative_control: ClassVar[bool] = True

    def load(self, base: Base) -> LM:
        """Load the base and overwrite it with weights as its architecture draws them before any training."""
        lm = base.load()
        fresh = type(lm.model)(lm.model.config)
        lm.model.load_state_dict(fresh.state_dict())
        return lm
