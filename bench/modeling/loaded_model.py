"""What every loaded model counts and batches alike, whether it writes or only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.method import LM
from bench.records.record import Decoding

READ_BATCH = 32


@dataclass
class TokenUsage:
    """Tokens that went in and out while answering."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    truncated_prompts: int = 0
    longest_prompt_tokens: int = 0
    shared_prefix_tokens: int = 0


def describe_reading(lm: LM) -> dict[str, Any]:
    """What bounds a prompt, and how it is read, as chosen for the model."""
    return {"context": lm.context, "attention": getattr(lm.model.config, "_attn_implementation", None)}


@dataclass
class LoadedModel:
    """A loaded model, its weights frozen."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    token_usage: TokenUsage = field(default_factory=TokenUsage)

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    def count_parameters(self) -> tuple[int, int]:
        """Parameters in the model and those that are trained; 4-bit weights count as the numbers they stand for."""
        # Transformers knows what a 4-bit weight stands for, and nothing of what PEFT puts before the prompt.
        frozen = self.model.num_parameters() - self.model.num_parameters(only_trainable=True)
        trained = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        return int(frozen + trained), trained

    @property
    def num_virtual_tokens(self) -> int:
        """Positions that an adapter puts before every prompt."""
        adapter: Any = getattr(self.model, "active_peft_config", None)
        return int(adapter.num_virtual_tokens) if adapter and adapter.is_prompt_learning else 0


def in_chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
