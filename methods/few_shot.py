"""Few-shot prompting: solved examples before every question, no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveInt

from bench.method import LM, Budget, Method, TrainingData, Unsupported, param

from ._prompting import OPEN_SHOTS, answer_prompts, choose_prompt, select_shots


@dataclass
class FewShot(Method):
    """In-context learning (arXiv:2005.14165)."""

    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"
    open_shots: ClassVar[int] = OPEN_SHOTS
    """Shots if `k` is `auto` and the answers are open."""

    k: PositiveInt | Literal["auto"] = param(
        "auto",
        help="solved examples in the prompt; auto: whole rounds over closed labels, 4 on open answers",
        search=(1, 32),
        log=True,
    )
    select: Literal["auto", "random", "validated", "nearest"] = param(
        "auto",
        help="shots: random, the best of several draws on validation (validated), or the nearest to each question; "
        "auto: validated on closed labels, random on open answers",
    )
    draws: PositiveInt = param(4, help="random draws of the shots that select=validated tries")
    calibrate: Literal["auto"] | bool = param(
        "auto",
        help="closed labels: subtract their scores without a question (https://arxiv.org/abs/2102.09690); auto: if "
        "validation is better so",
    )

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Select the shots, and decide on validation what is left to decide."""
        self.lm_, self.data_ = lm, data
        calibrate, select = self.calibrate, self.select
        if select == "auto":
            select = "random" if data.labels is None else "validated"
        if data.labels is None or select == "nearest":
            if calibrate is True:
                reason = (
                    "the task has open answers" if data.labels is None else "select=nearest has other shots each time"
                )
                raise Unsupported(f"calibrate needs closed labels and the same shots for all questions, but {reason}")
            calibrate = False
        shot_sets = select_shots(lm, data, data.train, k=self.k, select=select, draws=self.draws)
        self.prompt_ = choose_prompt(lm, data, budget, shot_sets, calibrate=calibrate)
        self.fit_report_ = {"select": select} | self.prompt_.report
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer from instruction, shots and question."""
        prompts = [self.prompt_.shots.prompt(text) for text in inputs]
        return answer_prompts(self.lm_, self.data_, prompts, self.prompt_.prior)

    def save(self, folder: Path) -> None:
        """Save the prompt, or the examples to choose from, and the values of calibration."""
        self.prompt_.save(folder)
