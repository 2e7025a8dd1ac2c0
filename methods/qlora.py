"""QLoRA: LoRA on a base model whose linear layers are held in 4 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from bench.method import LM, Base

from .lora import LoRA


@dataclass
class QLoRA(LoRA):
    """LoRA over doubly quantised NF4 weights (https://arxiv.org/abs/2305.14314), computed in the run's own dtype."""

    needs: ClassVar[tuple[str, ...]] = (*LoRA.needs, "bitsandbytes")

    def load(self, base: Base) -> LM:
        """Load the base model with its linear layers quantised."""
        import torch
        from transformers import BitsAndBytesConfig

        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, base.dtype),
        )
        return base.load(quantization_config=quantised)

    def adapt(self, model: Any) -> Any:
        """Prepare the quantised model for training, then add the updates."""
        from peft import prepare_model_for_kbit_training

        return super().adapt(prepare_model_for_kbit_training(model, use_gradient_checkpointing=False))
