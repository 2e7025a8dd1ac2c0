"""Zero-shot prompting: the unchanged base model with the instruction only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from bench.method import LM, Budget, Method, TrainingData, Unsupported, param

from ._prompting import Shots, answer_prompts, choose_prompt


@dataclass
class ZeroShot(Method):
    """The score of the base model without any adaptation."""

    control: ClassVar[bool] = True
    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"

    calibrate: Literal["auto"] | bool = param(
        "auto",
        help="closed labels: subtract their scores without a question (https://arxiv.org/abs/2102.09690); auto: if "
        "validation is better so",
    )

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Learn nothing; on closed labels, decide on validation if their scores are calibrated."""
        if self.calibrate is True and data.labels is None:
            raise Unsupported("calibrate needs closed labels, but the task has open answers")
        self.lm_, self.data_ = lm, data
        calibrate = False if data.labels is None else self.calibrate
        self.prompt_ = choose_prompt(lm, data, budget, [Shots(lm, data)], calibrate=calibrate)
        self.fit_report_ = self.prompt_.report
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer each question from a prompt that holds the instruction and the question only."""
        prompts = [self.prompt_.shots.prompt(text) for text in inputs]
        return answer_prompts(self.lm_, self.data_, prompts, self.prompt_.prior)

    def save(self, folder: Path) -> None:
        """Save the prompt with `{input}` in place of the question, and the values of calibration."""
        self.prompt_.save(folder)
