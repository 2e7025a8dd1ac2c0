"""LoRA: low-rank updates beside all frozen linear layers."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from bench.gradient import Gradient
from bench.method import param


@dataclass
class LoRA(Gradient):
    """Low-rank adaptation (https://arxiv.org/abs/2106.09685); its first step starts from the base model itself."""

    lr: PositiveFloat = param(2e-3, help="peak learning rate of AdamW", search=(1e-4, 1e-2), log=True)
    rank: PositiveInt = param(16, help="rank of the updates", search=(4, 64), log=True)
    alpha: PositiveInt = param(32, help="updates are scaled by alpha / rank", search=(8, 128), log=True)
    dropout: Annotated[float, Field(ge=0, lt=1)] = param(0.0, help="dropout before the update", search=(0.0, 0.1))

    def adapt(self, model: Any) -> Any:
        """Add the updates; only they are trained."""
        from peft import LoraConfig, get_peft_model

        shape = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear",
        )
        return get_peft_model(model, shape)
