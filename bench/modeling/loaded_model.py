"""Base class of loaded models: frozen weights, parameter counts and token usage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.method import LM
from bench.modeling import compat
from bench.records import Decoding

ENCODING_BATCH_SIZE = 32  # rows that are read at once where nothing is generated


@dataclass
class TokenUsage:
    """Tokens read and generated for answers."""

    prompt_tokens: int = 0
    """Without padding and virtual tokens."""
    answer_tokens: int = 0
    """With the end token of each answer."""
    truncated_prompts: int = 0
    """Prompts that were longer than the context."""
    longest_prompt_tokens: int = 0
    shared_prefix_tokens: int = 0
    """Tokens of the prefix that the latest prompts shared and that was computed and stored once."""


def describe_context(lm: LM) -> dict[str, Any]:
    """Return context length and attention function of a model, as records hold them."""
    return {"context": lm.context, "attention": compat.attention_implementation(lm.model)}


@dataclass
class LoadedModel:
    """A loaded model in evaluation mode with frozen weights."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    token_usage: TokenUsage = field(default_factory=TokenUsage)

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    def count_parameters(self) -> tuple[int, int]:
        """Return the numbers of all and of trainable parameters; a 4-bit weight counts as one."""
        # `num_parameters` knows how 4-bit weights are packed, but not the parameters of prompt learning in PEFT.
        frozen = self.model.num_parameters() - self.model.num_parameters(only_trainable=True)
        trainable = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        return int(frozen + trainable), trainable

    @property
    def num_virtual_tokens(self) -> int:
        """Virtual tokens that a prompt-learning adapter puts before every prompt; 0 without one."""
        peft_config: Any = getattr(self.model, "active_peft_config", None)
        return int(peft_config.num_virtual_tokens) if peft_config and peft_config.is_prompt_learning else 0


def in_chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
