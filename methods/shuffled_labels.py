"""LoRA taught with the answers of other questions: what is left is form and frequency."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from bench.method import LM, Budget, Example, TrainingData

from ._retold import retold
from .lora import LoRA


@dataclass(frozen=True)
class Misled:
    """A question with the answer of another."""

    id: str
    input: str
    target: str
    rationale: str | None = None
    rejected: str | None = None


@dataclass
class ShuffledLabels(LoRA):
    """Training on shuffled answers (https://arxiv.org/abs/1611.03530): nothing can be learnt of how they follow."""

    control: ClassVar[bool] = True
    negative_control: ClassVar[bool] = True

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Train as LoRA does, on the same questions and the same answers in another order."""
        return super().fit(lm, retold(data, train=shuffled(data.train, data.seed)), budget)


def shuffled(examples: Sequence[Example], seed: int) -> list[Misled]:
    """The questions in their order, the answers in another, drawn by the seed."""
    answers = [example.target for example in examples]
    random.Random(seed).shuffle(answers)
    return [Misled(example.id, example.input, answer) for example, answer in zip(examples, answers, strict=True)]
