"""DoRA: LoRA that trains the length of each weight vector apart from its direction."""

from dataclasses import dataclass
from typing import Any

from .lora import LoRA


@dataclass
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation (https://arxiv.org/abs/2402.09353), otherwise as LoRA."""

    def shape(self, model: Any) -> dict[str, Any]:
        """LoRA's configuration, with magnitudes of their own."""
        return super().shape(model) | {"use_dora": True}
