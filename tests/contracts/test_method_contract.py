"""`check_method`: every shipped method passes, and each broken rule is found and named."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from bench import registry
from bench.method import LM, Base, Budget, Method, TrainingData, Unsupported, param
from bench.testing import check_method

PEFT_TYPES = ("peft:VERA", "peft:LN_TUNING", "peft:IA3", "peft:ADALORA")
SHIPPED = sorted(name for name, entry in registry.list_entries("methods").items() if not entry.is_family) + list(
    PEFT_TYPES
)


@dataclass
class ValidMethod(Method):
    """Answers with the first training answer and the first word of the question."""

    words: int = param(1, help="words of the question in the answer")

    def load(self, base: Base) -> None:
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        budget.spend(examples=1)
        self.answer_ = data.train[0].target
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        return [f"{self.answer_} {' '.join(text.split()[: self.words])}" for text in inputs]

    def save(self, folder: Path) -> None:
        (folder / "answer.txt").write_text(self.answer_, "utf-8")


@dataclass
class SetsAttributeInInit(ValidMethod):
    def __post_init__(self) -> None:
        self.ready = True


@dataclass
class HasParamWithoutDefault(ValidMethod):
    depth: int = field(kw_only=True)


@dataclass
class FitReturnsNone(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        super().fit(lm, data, budget)
        return None  # type: ignore[return-value]


@dataclass
class FitReturnsAnotherInstance(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        return type(self)().fit_this_instance(lm, data, budget)

    def fit_this_instance(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        return super().fit(lm, data, budget)


@dataclass
class KeepsFirstFit(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        if not hasattr(self, "answer_"):
            super().fit(lm, data, budget)
        return self


@dataclass
class ChangesHyperParameter(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        self.words = 2
        return super().fit(lm, data, budget)


@dataclass
class ReordersAnswers(ValidMethod):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return super().predict(sorted(inputs))


@dataclass
class DropsAnswer(ValidMethod):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return super().predict(inputs)[1:]


@dataclass
class ReturnsTuple(ValidMethod):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return tuple(super().predict(inputs))  # type: ignore[return-value]


@dataclass
class ReturnsNone(ValidMethod):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return [None for _ in inputs]  # type: ignore[misc]


@dataclass
class IsNotRepeatable(ValidMethod):
    counter: ClassVar[Any] = itertools.count()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        super().fit(lm, data, budget)
        self.answer_ += str(next(self.counter))
        return self


@dataclass
class TrainsWithoutSpending(ValidMethod):
    spent_steps: ClassVar[int] = 0

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        import torch

        budget.spend(steps=self.spent_steps)
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight])
        for _ in range(2):
            weight.grad = torch.ones(1)
            optimizer.step()
        return super().fit(lm, data, budget)


@dataclass
class SpendsLessThanItTrains(TrainsWithoutSpending):
    spent_steps: ClassVar[int] = 1


@dataclass
class SpendsTooMuch(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        while True:
            budget.spend(steps=1)


@dataclass
class SavesNoFile(ValidMethod):
    def save(self, folder: Path) -> None:
        pass


@dataclass
class SavesEmptyFolder(ValidMethod):
    def save(self, folder: Path) -> None:
        (folder / "empty").mkdir()


@dataclass
class PromptsInWrongOrder(ValidMethod):
    def load(self, base: Base) -> LM:
        return base.load()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        self.lm_, self.data_ = lm, data
        return super().fit(lm, data, budget)

    def predict(self, inputs: Sequence[str]) -> list[str]:
        return self.lm_.generate([self.data_.prompt(text) for text in sorted(inputs)])


@dataclass
class TrainsAgainstItsDeclaration(PromptsInWrongOrder):
    trains_weights: ClassVar[bool] = False

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        lm.model.get_input_embeddings().weight.requires_grad_(True)
        return super().fit(lm, data, budget)


@dataclass
class RaisesUnsupported(ValidMethod):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        raise Unsupported("only open answers")


@pytest.mark.parametrize("name", SHIPPED)
def test_check_method_shipped_method_passes(name: str) -> None:
    check_method(registry.find_method(name))


@pytest.mark.parametrize("cls", [ValidMethod, RaisesUnsupported])
def test_check_method_valid_or_unsupported_method_passes(cls: type[Method]) -> None:
    check_method(cls)


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (SetsAttributeInInit, r"__init__ sets \['ready'\]"),
        (HasParamWithoutDefault, "cannot be constructed without arguments.*depth"),
        (FitReturnsNone, "fit must return the method itself"),
        (FitReturnsAnotherInstance, "fit must return the method itself"),
        (KeepsFirstFit, "second fit must discard"),
        (ChangesHyperParameter, "must not change the hyper-parameters"),
        (ReordersAnswers, "order"),
        (PromptsInWrongOrder, "order"),
        (TrainsAgainstItsDeclaration, "trains_weights = False"),
        (DropsAnswer, "4 answers to 5 questions"),
        (ReturnsTuple, "list of strings"),
        (ReturnsNone, "list of strings"),
        (IsNotRepeatable, "same seed must give the same answers"),
        (TrainsWithoutSpending, "took 2 optimizer steps, but spent 0"),
        (SpendsLessThanItTrains, "took 2 optimizer steps, but spent 1"),
        (SpendsTooMuch, "spends more than its budget"),
        (SavesNoFile, "save must write"),
        (SavesEmptyFolder, "save must write"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_check_method_broken_rule_raises_with_its_name(cls: type[Method], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_method(cls)
