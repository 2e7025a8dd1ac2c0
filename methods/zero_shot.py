"""Zero-shot prompting: the base model untouched, told only the instruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from bench.method import LM, Budget, Method, TrainingData
from bench.records import save_prompt


@dataclass
class ZeroShot(Method):
    """What the base model does by itself: the floor every adaptation must rise above."""

    control: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Nothing is learnt."""
        self.lm_, self.data_ = lm, data
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer instruction and question."""
        return reply(self.lm_, self.data_, [self.data_.prompt(text) for text in inputs])

    def save(self, folder: Path) -> None:
        """Save the prompt, with a hole where the question goes."""
        save_prompt(folder, self.data_.prompt("{input}"))


def reply(lm: LM, data: TrainingData, prompts: Sequence[str], prior: Sequence[float] = ()) -> list[str]:
    """Answers of a model that was only prompted: the likeliest label, or on open answers what it continues."""
    if data.labels is None:
        return lm.generate(prompts)
    return [data.labels[place] for place in lm.choose_label(prompts, data.options, prior)]
