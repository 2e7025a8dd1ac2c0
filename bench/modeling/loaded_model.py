"""Base class of loaded models: frozen weights, parameter counts and token usage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from bench.method import LM
from bench.modeling import compat
from bench.modeling.chat_template import ChatTemplate
from bench.records import Decoding

MAX_CONTEXT = 2**40
"""A model or a tokenizer that names a longer context has no limit."""
ENCODING_BATCH_SIZE = 32  # rows that are read at once where nothing is generated
MAX_REPEATED_TOKENS = 16
"""Tokens of the longest n-gram whose repetition is counted."""
MIN_REPEATS = 4
MIN_REPETITION_TOKENS = 8

PaddingSide = Literal["right", "left"]


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
    generated_answers: int | None = None
    """Answers that were generated as text; None if there were none, e.g. because labels were chosen."""
    cut_answers: int | None = None
    """Generated answers that reached the token limit before they ended."""
    repeating_answers: int | None = None
    """Cut answers whose last tokens repeat (`ends_in_repetition`)."""

    def count_generated(self, cut_answers: Sequence[Sequence[int]], count: int) -> None:
        """Count generated answers.

        Args:
            cut_answers: Token ids of the answers that reached the token limit before they ended.
            count: Number of all answers.
        """
        self.generated_answers = (self.generated_answers or 0) + count
        self.cut_answers = (self.cut_answers or 0) + len(cut_answers)
        self.repeating_answers = (self.repeating_answers or 0) + sum(map(ends_in_repetition, cut_answers))


def ends_in_repetition(tokens: Sequence[int]) -> bool:
    """Tell if the last tokens of an answer are one n-gram again and again.

    That is so if the last `max(MIN_REPEATS * n, MIN_REPETITION_TOKENS)` tokens have the period n, for some n up to
    `MAX_REPEATED_TOKENS`.
    """
    for size in range(1, MAX_REPEATED_TOKENS + 1):
        length = max(MIN_REPEATS * size, MIN_REPETITION_TOKENS)
        tail = tokens[-length:]
        if len(tail) == length and list(tail[size:]) == list(tail[:-size]):
            return True
    return False


def context_limit(lm: LM) -> int | None:
    """Return the most tokens of a prompt and its answer together; None without limit."""
    return lm.context if lm.context <= MAX_CONTEXT else None


def describe_context(lm: LM) -> dict[str, Any]:
    """Return context length, attention function and unused fast paths of a model, for records."""
    paths = getattr(lm, "fast_paths", None)  # an encoder has none
    return {
        "context": context_limit(lm),
        "attention": compat.attention_implementation(lm.model),
        "unused_fast_paths": paths.unused if paths else None,
    }


@dataclass
class LoadedModel:
    """A loaded model in evaluation mode with frozen weights."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    chat: ChatTemplate | None = None
    """Chat template of the prompts; None for plain prompts."""
    token_usage: TokenUsage = field(default_factory=TokenUsage)

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    @property
    def padding_side(self) -> PaddingSide | None:
        """Side on which `model_inputs` pads; None if padding would change other states."""
        return "right"

    def model_inputs(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        """Return encoded rows as arguments of the model, padded to the longest of them."""
        padded = self.tokenizer.pad(
            {"input_ids": list(rows)}, padding_side=self.padding_side or "right", return_tensors="pt"
        )
        return {name: padded[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def length_batches(self, lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        """Yield the indices of rows that `model_inputs` may take together, shortest first."""
        for indices in self.padding_groups(lengths):
            yield from in_chunks(indices, size)

    def padding_groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the indices of all rows by length; one group per length if padding is not allowed."""
        order = sorted(range(len(lengths)), key=lambda index: lengths[index])
        if self.padding_side is not None:
            yield order
            return
        for _, same_length in groupby(order, key=lambda index: lengths[index]):
            yield list(same_length)

    def check_reading(self) -> None:
        """Check before anything is trained that the model can be read as methods read it.

        Raises:
            Unsupported: It cannot.
        """

    def count_parameters(self) -> tuple[int, int]:
        """Return the numbers of all and of trainable parameters; a 4-bit weight counts as one."""
        from bench.measurement import memory_estimate

        # `num_parameters` knows how 4-bit weights are packed, but not the parameters of prompt learning in PEFT.
        frozen = self.model.num_parameters() - self.model.num_parameters(only_trainable=True)
        trainable = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        return int(frozen + trainable) + memory_estimate.packed_weights(self.model), trainable

    @property
    def num_virtual_tokens(self) -> int:
        """Virtual tokens that a prompt-learning adapter puts before every prompt; 0 without one."""
        peft_config: Any = getattr(self.model, "active_peft_config", None)
        return int(peft_config.num_virtual_tokens) if peft_config and peft_config.is_prompt_learning else 0


def in_chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
