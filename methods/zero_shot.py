"""Zero-shot prompting: the unchanged base model with the instruction only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from bench.method import LM, Budget, Method, TrainingData
from bench.records import save_prompt


@dataclass
class ZeroShot(Method):
    """The score of the base model without any adaptation."""

    control: ClassVar[bool] = True
    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Learn nothing."""
        self.lm_, self.data_ = lm, data
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer each question from a prompt that holds the instruction and the question only."""
        return answer_prompts(self.lm_, self.data_, [self.data_.prompt(text) for text in inputs])

    def save(self, folder: Path) -> None:
        """Save the prompt with `{input}` in place of the question."""
        save_prompt(folder, self.data_.prompt("{input}"))


def answer_prompts(lm: LM, data: TrainingData, prompts: Sequence[str], prior: Sequence[float] = ()) -> list[str]:
    """Return each prompt's most likely label, or its continuation for open answers.

    Args:
        lm: The model.
        data: Training data with the labels.
        prompts: Prompts up to where the answer begins.
        prior: Value subtracted from the log-likelihood of each label, in nats per token; empty for none.
    """
    if data.labels is None:
        return lm.generate(prompts)
    return [data.labels[index] for index in lm.choose_label(prompts, data.options, prior)]
