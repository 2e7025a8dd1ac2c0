"""IA³: learned factors on keys, values and feed-forward states; the rest stays frozen."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat

from bench.method import Unsupported, param
from bench.training.gradient import GradientMethod, adapter_fields


@dataclass
class IA3(GradientMethod):
    """Infused adapters that inhibit and amplify inner activations (arXiv:2205.05638)."""

    changes_base_weights: ClassVar[bool] = False

    lr: PositiveFloat = param(6e-2, help="peak learning rate of AdamW", search=(3e-3, 3e-1), log=True)

    def adapt(self, model: Any) -> Any:
        """Add factors, all one at the start, where the paper has them."""
        from peft import IA3Config, get_peft_model

        try:
            return get_peft_model(model, IA3Config(**adapter_fields(model)))
        except ValueError as error:
            raise Unsupported(f"PEFT does not know the layers of this architecture for IA³: {error}") from error
