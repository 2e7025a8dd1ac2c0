"""DoRA: LoRA that trains magnitude and direction of each weight vector separately."""

from dataclasses import dataclass
from typing import Any

from .lora import LoRA


@dataclass
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation (arXiv:2402.09353), otherwise as LoRA."""

    def config_fields(self, model: Any) -> dict[str, Any]:
        """Return LoRA's configuration with DoRA switched on."""
        return super().config_fields(model) | {"use_dora": True}
