"""IA³: learnt factors on keys, values and feed-forward states; the rest stays frozen."""

from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat

from bench.method import Unsupported, param
from bench.training import GradientMethod, task_type


@dataclass
class IA3(GradientMethod):
    """Infused adapters by inhibiting and amplifying inner activations (https://arxiv.org/abs/2205.05638)."""

    lr: PositiveFloat = param(3e-2, help="peak learning rate of AdamW", search=(1e-3, 1e-1), log=True)

    def adapt(self, model: Any) -> Any:
        """Add factors of one where the paper has them, in the architectures that PEFT knows."""
        from peft import IA3Config, get_peft_model

        try:
            return get_peft_model(model, IA3Config(task_type=task_type(model)))
        except ValueError as error:
            raise Unsupported(f"PEFT does not know where this architecture takes IA³: {error}") from error
