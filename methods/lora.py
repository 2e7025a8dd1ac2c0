"""LoRA: low-rank updates of all linear layers; the base model stays frozen."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from bench.method import Unsupported, param
from bench.modeling.compat import refused_lora_layers
from bench.training.gradient import LR_BY_WIDTH, GradientMethod, adapter_fields


@dataclass
class LoRA(GradientMethod):
    """Low-rank adaptation (arXiv:2106.09685); training starts from the base model."""

    changes_base_weights: ClassVar[bool] = False
    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(6e-3, help=LR_BY_WIDTH, search=(1e-3, 2e-2), log=True)
    rank: PositiveInt = param(16, help="rank of the updates", search=(4, 64), log=True)
    alpha: PositiveInt = param(32, help="updates are scaled by alpha / rank", search=(8, 128), log=True)
    dropout: Annotated[float, Field(ge=0, lt=1)] = param(0.0, help="dropout before the update", search=(0.0, 0.1))

    def config_fields(self, model: Any) -> dict[str, Any]:
        """Return the fields of PEFT's `LoraConfig`."""
        fields = adapter_fields(model) | {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": "all-linear",
        }
        refused = refused_lora_layers(model)
        return fields | {"exclude_modules": refused} if refused else fields

    def adapt(self, model: Any) -> Any:
        """Return the model with low-rank matrices added to its linear layers."""
        from peft import LoraConfig, get_peft_model

        try:
            return get_peft_model(model, LoraConfig(**self.config_fields(model)))
        except ValueError as error:
            raise Unsupported(f"PEFT cannot add LoRA to this architecture: {error}") from error
