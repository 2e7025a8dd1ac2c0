"""Negative control: LoRA on shuffled answers; only format and frequency can be learned."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from bench.method import LM, Budget, Example, TrainingData

from ._training_data_override import override_training_data
from .lora import LoRA


@dataclass(frozen=True)
class ShuffledExample:
    """A question with the answer to another question."""

    id: str
    input: str
    target: str
    rationale: str | None = None
    rejected: str | None = None


@dataclass
class ShuffledLabels(LoRA):
    """Training on shuffled answers (https://arxiv.org/abs/1611.03530)."""

    control: ClassVar[bool] = True
    negative_control: ClassVar[bool] = True

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA does, on the same questions with the answers in another order."""
        train = shuffle_answers(data.train, data.seed)
        return super().fit(lm, override_training_data(data, train=train), budget)


def shuffle_answers(examples: Sequence[Example], seed: int) -> list[ShuffledExample]:
    """Return the questions in their order with the answers in a random order."""
    answers = [example.target for example in examples]
    random.Random(seed).shuffle(answers)
    return [
        ShuffledExample(example.id, example.input, answer) for example, answer in zip(examples, answers, strict=True)
    ]
