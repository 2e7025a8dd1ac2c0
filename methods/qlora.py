"""QLoRA: LoRA on a base model whose linear layers are quantized to 4 bits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.method import LM, Base

from .lora import LoRA


@dataclass
class QLoRA(LoRA):
    """LoRA on NF4 weights with double quantization (https://arxiv.org/abs/2305.14314)."""

    preload_modules: ClassVar[tuple[str, ...]] = (*LoRA.preload_modules, "bitsandbytes")

    def load(self, base: Base) -> LM:
        """Load the base model with quantized linear layers; stored quantized weights stay."""
        if base.quantization:
            return base.load()
        import torch
        from transformers import BitsAndBytesConfig

        quantization_config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, base.dtype),
        )
        return base.load(quantization_config=quantization_config)

    def adapt(self, model: Any) -> Any:
        """Prepare the quantized model for training, then add the updates."""
        from peft import prepare_model_for_kbit_training

        head = [weight for weight in model.parameters() if weight.requires_grad]
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        for weight in head:  # the preparation freezes the head of an encoder too
            weight.requires_grad_(True)
        return super().adapt(model)

    def save(self, folder: Path) -> None:
        """Save the adapter, and the quantization of its base model."""
        super().save(folder)
        quantization = self.lm_.model.config.quantization_config.to_dict()
        (folder / "quantization.json").write_text(json.dumps(quantization, indent=1), "utf-8")
