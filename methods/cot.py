"""Chain of thought: few-shot prompting whose examples show the steps before the answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import PositiveFloat, PositiveInt

from bench.method import LM, Budget, Example, Method, TrainingData, Unsupported, param

from .few_shot import choose_shots


@dataclass
class CoT(Method):
    """Worked examples (https://arxiv.org/abs/2201.11903) before every question; the last line is the answer."""

    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)

    k: PositiveInt = param(4, help="worked examples in the prompt", search=(1, 16), log=True)
    m: PositiveInt = param(1, help="solutions drawn per question, of which the commonest conclusion is the answer")
    temperature: PositiveFloat = param(0.7, help="how freely solutions are drawn where m is above 1")

    @property
    def export_template(self) -> str | None:
        """Of one solution a question; several are drawn by the harness's own dice."""
        return "chain_of_thought" if self.m == 1 else None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Choose the shots among the training examples that have a worked solution."""
        self.lm_, self.data_ = lm, data
        self.shots_ = choose_shots(lm, data, _workable(data), self.k, worked=True)
        if not self.shots_.examples:
            raise Unsupported("the model's context holds no worked example beside the longest question")
        budget.spend(examples=len(self.shots_.examples))
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Let the model work, and give back what it concludes; nothing where it never came to an answer."""
        prompts = [self.shots_.prompt(text) for text in inputs]
        if self.m == 1:
            return [self.data_.final_answer(text) for text in self.lm_.generate(prompts)]
        draws = [self.lm_.generate(prompts, temperature=self.temperature, sample_index=draw) for draw in range(self.m)]
        return [self.vote(worked) for worked in zip(*draws, strict=True)]

    def vote(self, worked: Sequence[str]) -> str:
        """The commonest conclusion (self-consistency, https://arxiv.org/abs/2203.11171); of several the first drawn."""
        concluded = Counter(answer for text in worked if (answer := self.data_.final_answer(text)))
        return concluded.most_common(1)[0][0] if concluded else ""

    def save(self, folder: Path) -> None:
        """Save the prompt, with a hole where the question goes."""
        self.shots_.save(folder)


def _workable(data: TrainingData) -> list[Example]:
    """Examples whose answer can be told from the steps before it."""
    solved = [example for example in data.train if (example.rationale or "").strip()]
    if not solved:
        raise Unsupported("no training example has a worked solution (its 'rationale')")
    clear = [
        example
        for example in solved
        if data.final_answer(data.completion(example, with_rationale=True)) == example.target.strip()
    ]
    if not clear:
        raise Unsupported("the template ends an answer before a worked solution ends, or answers span several lines")
    return clear
