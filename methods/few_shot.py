"""Few-shot prompting: the same solved examples before every question, no training."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import PositiveInt

from bench.method import LM, Budget, Example, Lesson, Method, param


@dataclass
class FewShot(Method):
    """In-context learning (https://arxiv.org/abs/2005.14165) with one set of shots for all questions."""

    needs: ClassVar[tuple[str, ...]] = ("bench.lm",)

    k: PositiveInt = param(4, help="solved examples in the prompt", search=(1, 16), log=True)

    def fit(self, lm: LM, lesson: Lesson, budget: Budget) -> Self:
        """Draw shots by the lesson's seed, balanced over labels; drop whole shots that the context cannot hold."""
        self.lm_, self.lesson_ = lm, lesson
        self.shots_ = _draw(lesson, self.k)
        longest = max((example.input for example in lesson.validation), key=lambda text: len(lm.tokens(text)))
        self.shots_ = self._fitting(longest)
        budget.draw(examples=len(self.shots_))
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Continue instruction, shots and question."""
        return self.lm_.answer([self.lesson_.prompt(text, self._fitting(text)) for text in inputs])

    def save(self, folder: Path) -> None:
        """Save the prompt, with a hole where the question goes."""
        prompt = {"prompt": self.lesson_.prompt("{input}", self.shots_)}
        (folder / "prompt.json").write_text(json.dumps(prompt, ensure_ascii=False, indent=1), "utf-8")

    def _fitting(self, text: str) -> list[Example]:
        """The shots that fit into the context together with a question: whole ones only, the last go first."""
        room = self.lm_.context - self.lm_.max_new_tokens
        count = len(self.shots_)
        while count and len(self.lm_.tokens(self.lesson_.prompt(text, self.shots_[:count]))) > room:
            count -= 1
        return self.shots_[:count]


def _draw(lesson: Lesson, k: int) -> list[Example]:
    """`k` training examples in random order, as evenly over the labels of a closed task as can be."""
    dice = random.Random(lesson.seed)
    pool = dice.sample(list(lesson.train), len(lesson.train))
    if lesson.labels is None:
        return pool[:k]
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in pool:
        by_label[example.target].append(example)
    rounds = [example for turn in range(k) for group in by_label.values() for example in group[turn : turn + 1]]
    return dice.sample(rounds[:k], min(k, len(rounds)))
