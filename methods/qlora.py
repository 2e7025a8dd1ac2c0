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
        """Load the base model with quantized linear layers."""
        import torch
        from bitsandbytes.nn import Linear4bit
        from transformers import BitsAndBytesConfig

        quantization_config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, base.dtype),
        )
        lm = base.load(quantization_config=quantization_config)
        for layer in lm.model.modules():
            if isinstance(layer, Linear4bit):
                # On CPUs with AVX512-BF16 the first answer would repack the weights for a bfloat16 kernel without
                # gradient: later training would be wrong without an error, and answers would have another precision
                # than those of other methods.
                layer.support_avx512bf16_for_cpu = False
        return lm

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
