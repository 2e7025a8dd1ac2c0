"""Instruct tuning: LoRA on questions and answers told as turns of a chat."""

from dataclasses import dataclass
from typing import Any, Self

from bench.method import LM, Budget, Example, TrainingData, Unsupported

from ._retold import retold
from .lora import LoRA


@dataclass
class Instruct(LoRA):
    """Supervised fine-tuning (https://arxiv.org/abs/2203.02155) in the tokenizer's own chat template."""

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA does; the prompt of the task is what the user says, the answer what the assistant does."""
        if not lm.tokenizer.chat_template:
            raise Unsupported("the tokenizer has no chat template; lora trains in the task's own")

        def prompt(input: str, shots: Any = (), *, with_rationale: bool = False) -> str:
            return chat(lm.tokenizer, data.prompt(input, shots, with_rationale=with_rationale))

        def completion(example: Example, *, with_rationale: bool = False) -> str:
            return data.completion(example, with_rationale=with_rationale).lstrip()

        return super().fit(lm, retold(data, prompt=prompt, completion=completion), budget)


def chat(tokenizer: Any, said: str) -> str:
    """One turn of a user, up to where the assistant's begins, without the beginning-of-sequence token."""
    turns = [{"role": "user", "content": said}]
    told = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    return told.removeprefix(tokenizer.bos_token or "")
