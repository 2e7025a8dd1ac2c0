"""QLoRA: LoRA on a base model whose linear layers are held in 4 bits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.method import LM, Base

from .lora import LoRA


@dataclass
class QLoRA(LoRA):
    """LoRA over doubly quantized NF4 weights (https://arxiv.org/abs/2305.14314), computed in the run's own dtype."""

    preload_modules: ClassVar[tuple[str, ...]] = (*LoRA.preload_modules, "bitsandbytes")

    def load(self, base: Base) -> LM:
        """Load the base model with its linear layers quantized."""
        import torch
        from bitsandbytes.nn import Linear4bit
        from transformers import BitsAndBytesConfig

        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, base.dtype),
        )
        lm = base.load(quantization_config=quantized)
        for layer in lm.model.modules():
            if isinstance(layer, Linear4bit):
                # On such CPUs the first answer would repack the weights for a bfloat16 kernel without a gradient:
                # training after it goes silently wrong, and answers come in another precision than everyone's.
                layer.support_avx512bf16_for_cpu = False
        return lm

    def adapt(self, model: Any) -> Any:
        """Prepare the quantized model for training, then add the updates."""
        from peft import prepare_model_for_kbit_training

        return super().adapt(prepare_model_for_kbit_training(model, use_gradient_checkpointing=False))

    def save(self, folder: Path) -> None:
        """Save the adapter, and how the base it belongs to is held."""
        super().save(folder)
        held = self.lm_.model.config.quantization_config.to_dict()
        (folder / "quantization.json").write_text(json.dumps(held, indent=1), "utf-8")
