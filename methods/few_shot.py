"""Few-shot prompting: the same solved examples before every question, no training."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from pydantic import PositiveInt

from bench.method import LM, Budget, Example, Method, TrainingData, Unsupported, param
from bench.records import save_prompt

from .zero_shot import answer_prompts

CONTENT_FREE_QUESTION = "N/A"


@dataclass
class FewShot(Method):
    """In-context learning (arXiv:2005.14165) with one set of shots for all questions."""

    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"

    k: PositiveInt = param(4, help="solved examples in the prompt", search=(1, 16), log=True)
    calibrate: bool = param(
        False, help="closed labels: subtract their scores without a question (https://arxiv.org/abs/2102.09690)"
    )

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Choose the shots; with `calibrate`, also score each label without a question."""
        self.lm_, self.data_ = lm, data
        self.shots_ = choose_shots(lm, data, data.train, self.k)
        budget.spend(examples=len(self.shots_.examples))
        self.prior_: list[float] = []
        if self.calibrate:
            if data.labels is None:
                raise Unsupported("calibrate needs closed labels, but the task has open answers")
            self.prior_ = lm.loglikelihood(self.shots_.prompt(CONTENT_FREE_QUESTION), data.options)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer from instruction, shots and question."""
        prompts = [self.shots_.prompt(text) for text in inputs]
        return answer_prompts(self.lm_, self.data_, prompts, self.prior_)

    def save(self, folder: Path) -> None:
        """Save the prompt, and the values that calibration subtracts."""
        self.shots_.save(folder)
        if self.prior_:
            (folder / "prior.json").write_text(json.dumps(self.prior_), "utf-8")


@dataclass(frozen=True)
class Shots:
    """Solved examples that stand before every question."""

    lm: LM
    data: TrainingData
    examples: Sequence[Example]
    with_rationale: bool = False

    def prompt(self, text: str) -> str:
        """Return instruction, as many shots as fit into the context, and the question."""
        return self.data.prompt(text, self.fit_context(text).examples, with_rationale=self.with_rationale)

    def fit_context(self, text: str) -> Self:
        """Return the shots that fit into the context with a question; the last are left out first."""
        max_prompt_tokens = self.lm.context - self.lm.max_new_tokens
        count = len(self.examples)
        while count and len(self.lm.tokens(self._prompt_with(text, count))) > max_prompt_tokens:
            count -= 1
        return replace(self, examples=self.examples[:count])

    def save(self, folder: Path) -> None:
        """Save the prompt with `{input}` in place of the question."""
        save_prompt(folder, self._prompt_with("{input}", len(self.examples)))

    def _prompt_with(self, text: str, count: int) -> str:
        return self.data.prompt(text, self.examples[:count], with_rationale=self.with_rationale)


def choose_shots(
    lm: LM, data: TrainingData, candidates: Sequence[Example], k: int, *, with_rationale: bool = False
) -> Shots:
    """Choose at most `k` shots at random, balanced over labels.

    Args:
        lm: The model, whose context limits the number of shots.
        data: Training data; its seed decides the choice.
        candidates: Examples to choose from.
        k: Number of shots. Fewer are returned if they do not fit together with the longest validation question.
        with_rationale: Show the rationale of each shot.
    """
    shots = Shots(lm, data, _sample_balanced(data, candidates, k), with_rationale)
    longest = max((example.input for example in data.validation), key=lambda text: len(lm.tokens(text)))
    return shots.fit_context(longest)


def _sample_balanced(data: TrainingData, candidates: Sequence[Example], k: int) -> list[Example]:
    """Return `k` examples in random order, balanced over closed labels."""
    rng = random.Random(data.seed)
    shuffled = rng.sample(list(candidates), len(candidates))
    if data.labels is None:
        return shuffled[:k]
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in shuffled:
        by_label[example.target].append(example)
    # One example of each label per turn.
    alternating = [example for turn in range(k) for group in by_label.values() for example in group[turn : turn + 1]]
    return rng.sample(alternating[:k], min(k, len(alternating)))
