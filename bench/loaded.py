"""What every loaded model counts and batches alike, whether it writes or only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.method import LM

READ_BATCH = 32


@dataclass
class Tally:
    """Tokens that went in and out while answering."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    cut_prompts: int = 0
    longest_prompt: int = 0
    shared_prompt: int = 0


def reads(lm: LM) -> dict[str, Any]:
    """What bounds a prompt, and how it is read, as chosen for the model."""
    return {"context": lm.context, "attention": getattr(lm.model.config, "_attn_implementation", None)}


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters in a model and those that are trained."""
    # Transformers knows what a 4-bit weight stands for, and nothing of what PEFT puts before the prompt.
    frozen = model.num_parameters() - model.num_parameters(only_trainable=True)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return int(frozen + trained), trained


def in_chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
