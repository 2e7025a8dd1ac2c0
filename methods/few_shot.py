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

from .zero_shot import reply

NO_QUESTION = "N/A"


@dataclass
class FewShot(Method):
    """In-context learning (https://arxiv.org/abs/2005.14165) with one set of shots for all questions."""

    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)
    export_template = "prompted"

    k: PositiveInt = param(4, help="solved examples in the prompt", search=(1, 16), log=True)
    calibrate: bool = param(
        False, help="closed labels: subtract what each scores without a question (https://arxiv.org/abs/2102.09690)"
    )

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Choose the shots, and find out which labels they favour by themselves."""
        self.lm_, self.data_ = lm, data
        self.shots_ = choose_shots(lm, data, data.train, self.k)
        budget.spend(examples=len(self.shots_.examples))
        self.prior_: list[float] = []
        if self.calibrate:
            if data.labels is None:
                raise Unsupported("calibration compares labels, and the answers of this task are open")
            self.prior_ = lm.loglikelihood(self.shots_.prompt(NO_QUESTION), data.options)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Answer instruction, shots and question."""
        return reply(self.lm_, self.data_, [self.shots_.prompt(text) for text in inputs], self.prior_)

    def save(self, folder: Path) -> None:
        """Save the prompt, and what calibration subtracts from each label."""
        self.shots_.save(folder)
        if self.prior_:
            (folder / "prior.json").write_text(json.dumps(self.prior_), "utf-8")


@dataclass(frozen=True)
class Shots:
    """Solved examples to stand before every question, with their steps if they are `worked`."""

    lm: LM
    data: TrainingData
    examples: Sequence[Example]
    worked: bool = False

    def prompt(self, text: str) -> str:
        """Instruction, as many shots as the context holds, and the question."""
        return self.data.prompt(text, self.beside(text).examples, with_rationale=self.worked)

    def beside(self, text: str) -> Self:
        """The shots that fit into the context together with a question: whole ones only, the last go first."""
        room = self.lm.context - self.lm.max_new_tokens
        count = len(self.examples)
        while count and len(self.lm.tokens(self._show(text, count))) > room:
            count -= 1
        return replace(self, examples=self.examples[:count])

    def save(self, folder: Path) -> None:
        """Save the prompt, with a hole where the question goes."""
        save_prompt(folder, self._show("{input}", len(self.examples)))

    def _show(self, text: str, count: int) -> str:
        return self.data.prompt(text, self.examples[:count], with_rationale=self.worked)


def choose_shots(lm: LM, data: TrainingData, pool: Sequence[Example], k: int, *, worked: bool = False) -> Shots:
    """Shots drawn by the data's seed, balanced over labels; no more than fit beside the longest question."""
    shots = Shots(lm, data, _draw(data, pool, k), worked)
    return shots.beside(max((example.input for example in data.validation), key=lambda text: len(lm.tokens(text))))


def _draw(data: TrainingData, pool: Sequence[Example], k: int) -> list[Example]:
    """`k` examples in random order, as evenly over the labels of a closed task as can be."""
    dice = random.Random(data.seed)
    shuffled = dice.sample(list(pool), len(pool))
    if data.labels is None:
        return shuffled[:k]
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in shuffled:
        by_label[example.target].append(example)
    rounds = [example for turn in range(k) for group in by_label.values() for example in group[turn : turn + 1]]
    return dice.sample(rounds[:k], min(k, len(rounds)))
