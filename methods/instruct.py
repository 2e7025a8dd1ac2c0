"""Instruct tuning: LoRA on questions and answers as turns of a chat."""

from dataclasses import dataclass
from typing import Any, Self

from bench.method import LM, Budget, Example, TrainingData, Unsupported

from ._training_data_override import override_training_data
from .lora import LoRA


@dataclass
class Instruct(LoRA):
    """Supervised fine-tuning (arXiv:2203.02155) with the tokenizer's chat template."""

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA, with the prompt as the user's turn and the answer as the assistant's."""
        if not lm.tokenizer.chat_template:
            raise Unsupported("the tokenizer has no chat template; lora uses the template of the task")

        def prompt(input: str, shots: Any = (), *, with_rationale: bool = False) -> str:
            return chat_prompt(lm.tokenizer, data.prompt(input, shots, with_rationale=with_rationale))

        def completion(example: Example, *, with_rationale: bool = False) -> str:
            return data.completion(example, with_rationale=with_rationale).lstrip()

        return super().fit(lm, override_training_data(data, prompt=prompt, completion=completion), budget)


def chat_prompt(tokenizer: Any, message: str) -> str:
    """Format a user's message with the chat template, including the generation prompt.

    The template may write the beginning-of-sequence token; `lm.tokens` does not add a second one.
    """
    turns = [{"role": "user", "content": message}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
