"""The contract of a method: every shipped method keeps it, and each way of breaking it is found and named."""

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

FAMILIES = ("peft:VERA", "peft:LN_TUNING", "peft:IA3", "peft:ADALORA")
SHIPPED = sorted(name for name, claim in registry.list_entries("methods").items() if not claim.is_family) + list(
    FAMILIES
)


@dataclass
class Sound(Method):
    """Answers with the first answer it was taught and the question's first word."""

    words: int = param(1, help="words of the question that are given back")

    def load(self, base: Base) -> None:
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        budget.spend(examples=1)
        self.taught_ = data.train[0].target
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        return [f"{self.taught_} {' '.join(text.split()[: self.words])}" for text in inputs]

    def save(self, folder: Path) -> None:
        (folder / "taught").write_text(self.taught_, "utf-8")


@dataclass
class WorksInInit(Sound):
    def __post_init__(self) -> None:
        self.ready = True


@dataclass
class HasNoDefault(Sound):
    depth: int = field(kw_only=True)


@dataclass
class FitReturnsNone(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        super().fit(lm, data, budget)
        return None  # type: ignore[return-value]


@dataclass
class FitReturnsAnother(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        return type(self)().fit_for_good(lm, data, budget)

    def fit_for_good(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        return super().fit(lm, data, budget)


@dataclass
class Remembers(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        if not hasattr(self, "taught_"):
            super().fit(lm, data, budget)
        return self


@dataclass
class ChangesItself(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        self.words = 2
        return super().fit(lm, data, budget)


@dataclass
class Reorders(Sound):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return super().predict(sorted(inputs))


@dataclass
class Drops(Sound):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return super().predict(inputs)[1:]


@dataclass
class GivesATuple(Sound):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return tuple(super().predict(inputs))  # type: ignore[return-value]


@dataclass
class GivesNoText(Sound):
    def predict(self, inputs: Sequence[str]) -> list[str]:
        return [None for _ in inputs]  # type: ignore[misc]


@dataclass
class IsFickle(Sound):
    mood: ClassVar[Any] = itertools.count()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        super().fit(lm, data, budget)
        self.taught_ += str(next(self.mood))
        return self


@dataclass
class TrainsOnTheSly(Sound):
    drawn: ClassVar[int] = 0

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        import torch

        budget.spend(steps=self.drawn)
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight])
        for _ in range(2):
            weight.grad = torch.ones(1)
            optimizer.step()
        return super().fit(lm, data, budget)


@dataclass
class DrawsLessThanItTrains(TrainsOnTheSly):
    drawn: ClassVar[int] = 1


@dataclass
class AsksForTooMuch(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        while True:
            budget.spend(steps=1)


@dataclass
class SavesNothing(Sound):
    def save(self, folder: Path) -> None:
        pass


@dataclass
class SavesAnEmptyFolder(Sound):
    def save(self, folder: Path) -> None:
        (folder / "empty").mkdir()


@dataclass
class AsksTheModelInTheWrongOrder(Sound):
    def load(self, base: Base) -> LM:
        return base.load()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        self.lm_, self.data_ = lm, data
        return super().fit(lm, data, budget)

    def predict(self, inputs: Sequence[str]) -> list[str]:
        return self.lm_.generate([self.data_.prompt(text) for text in sorted(inputs)])


@dataclass
class CannotDoIt(Sound):
    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        raise Unsupported("only open answers")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_method_keeps_the_contract(name: str) -> None:
    check_method(registry.find_method(name))


@pytest.mark.parametrize("cls", [Sound, CannotDoIt])
def test_a_sound_method_passes(cls: type[Method]) -> None:
    check_method(cls)


@pytest.mark.parametrize(
    ("cls", "fault"),
    [
        (WorksInInit, r"__init__ sets \['ready'\]"),
        (HasNoDefault, "cannot be made without arguments.*depth"),
        (FitReturnsNone, "fit must return the method itself"),
        (FitReturnsAnother, "fit must return the method itself"),
        (Remembers, "second fit must forget"),
        (ChangesItself, "must not change the hyper-parameters"),
        (Reorders, "order"),
        (AsksTheModelInTheWrongOrder, "order"),
        (Drops, "4 answers to 5 questions"),
        (GivesATuple, "list of texts"),
        (GivesNoText, "list of texts"),
        (IsFickle, "same seed must give the same answers"),
        (TrainsOnTheSly, "took 2 optimizer steps and drew 0"),
        (DrawsLessThanItTrains, "took 2 optimizer steps and drew 1"),
        (AsksForTooMuch, "asked for more than its budget"),
        (SavesNothing, "save must write"),
        (SavesAnEmptyFolder, "save must write"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_way_of_breaking_the_contract_is_found_and_named(cls: type[Method], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_method(cls)
