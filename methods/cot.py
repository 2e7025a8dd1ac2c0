"""Chain of thought: few-shot prompting with reasoning steps before each answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, PositiveInt

from bench.method import LM, Budget, Example, Method, TrainingData, Unsupported, param

from ._prompting import choose_prompt, select_shots


@dataclass
class CoT(Method):
    """Chain-of-thought prompting (arXiv:2201.11903); the last line is the answer."""

    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = ("bench.modeling.causal_lm",)

    k: PositiveInt | Literal["auto"] = param(
        "auto",
        help="solved examples in the prompt; auto: whole rounds over closed labels, 4 on open answers",
        search=(1, 16),
        log=True,
    )
    select: Literal["random", "validated", "nearest"] = param(
        "random", help="shots: random, the best of several draws on validation, or the nearest to each question"
    )
    draws: PositiveInt = param(4, help="random draws of the shots that select=validated tries")
    m: PositiveInt = param(1, help="solutions sampled per question; the most frequent answer wins")
    temperature: PositiveFloat = param(0.7, help="sampling temperature if m is above 1")

    @property
    def export_template(self) -> str | None:
        """Template for one solution per question; several need the sampler of adaptbench."""
        return "chain_of_thought" if self.m == 1 else None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Choose shots among the training examples that have a rationale."""
        self.lm_, self.data_ = lm, data
        shot_sets = select_shots(
            lm, data, _usable_examples(data), k=self.k, select=self.select, draws=self.draws, with_rationale=True
        )
        if not all(shots.examples for shots in shot_sets):
            raise Unsupported("no solved example fits into the context of the model with the longest question")
        choice = choose_prompt(lm, data, budget, shot_sets, answer=self._answers)
        self.shots_, self.fit_report_ = choice.shots, {"select": self.select} | choice.report
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Generate solutions and return their answers; empty if no solution reached one."""
        return self._answers([self.shots_.prompt(text) for text in inputs])

    def _answers(self, prompts: Sequence[str]) -> list[str]:
        if self.m == 1:
            return [self.data_.final_answer(text) for text in self.lm_.generate(prompts, with_rationale=True)]
        samples = [
            self.lm_.generate(prompts, temperature=self.temperature, sample_index=index, with_rationale=True)
            for index in range(self.m)
        ]
        return [self.vote(solutions) for solutions in zip(*samples, strict=True)]

    def vote(self, solutions: Sequence[str]) -> str:
        """Return the most frequent answer (self-consistency, https://arxiv.org/abs/2203.11171).

        Of equally frequent answers the one sampled first wins.
        """
        answers = [self.data_.final_answer(solution) for solution in solutions]
        counts = Counter(answer for answer in answers if answer)
        return counts.most_common(1)[0][0] if counts else ""

    def save(self, folder: Path) -> None:
        """Save the prompt with `{input}` in place of the question, or the examples to choose from."""
        self.shots_.save(folder)


def _usable_examples(data: TrainingData) -> list[Example]:
    """Return the training examples whose answer can be separated from their rationale."""
    solved = [example for example in data.train if (example.rationale or "").strip()]
    if not solved:
        raise Unsupported("no training example has a 'rationale'")
    usable = [
        example
        for example in solved
        if data.final_answer(data.completion(example, with_rationale=True)) == example.target.strip()
    ]
    if not usable:
        raise Unsupported("the template ends an answer before its rationale ends, or answers span several lines")
    return usable
