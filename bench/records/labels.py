"""Closed labels of a task: the labels that answers and references of a run name."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

from pydantic import Field

from bench import registry
from bench.errors import UserError
from bench.metrics import Normalizer, matching_labels
from bench.records.base import FrozenModel
from bench.records.spec import TaskSpec
from bench.task import digest_task
from bench.task_card import TaskCard, parse_answer, read_card


class LabelCodes(NamedTuple):
    """Labels of reference and answer of each question, as positions in `AnswerLabels.names`."""

    references: array[int]
    answers: array[int]
    """The number of labels stands for an answer that names none of them."""


class LabeledSample(Protocol):
    """A sample, as far as its labels are read."""

    @property
    def references(self) -> Sequence[str]:
        """Accepted answers."""

    @property
    def answer(self) -> str | None:
        """Answer parsed from the raw text."""


class AnswerLabels(FrozenModel):
    """All possible answers of a task, and the rule by which an answer names one of them."""

    names: tuple[str, ...] = Field(description="the labels, in the order of the task card")
    compared: tuple[str, ...] = Field(description="the part of each label that an answer is compared with")
    normalize: Normalizer = Field(description="what is ignored when answers are compared")

    @classmethod
    def from_card(cls, card: TaskCard) -> AnswerLabels | None:
        """Return the labels of a task card; None for open answers."""
        if card.labels is None:
            return None
        compared = tuple(parse_answer(card, label) or label for label in card.labels)
        return cls(names=card.labels, compared=compared, normalize=card.normalize)

    def read_codes(self, samples: Iterable[LabeledSample]) -> LabelCodes:
        """Return the labels that references and answers of samples name.

        With several accepted labels, the reference is the one that the answer names, or else the first.

        Raises:
            ValueError: A reference is none of the labels.
        """
        position_of = {name: position for position, name in enumerate(self.names)}
        named: dict[str | None, list[int]] = {None: []}
        references, answers = array("i"), array("i")
        for sample in samples:
            answer = sample.answer
            if answer not in named:
                named[answer] = matching_labels(answer or "", self.compared, self.normalize)
            try:
                accepted = [position_of[reference] for reference in sample.references]
                first = accepted[0]
            except (KeyError, IndexError):
                raise ValueError(f"the references {[*sample.references]} are not labels of the task") from None
            right = next((code for code in accepted if code in named[answer]), None)
            references.append(first if right is None else right)
            answers.append(next(iter(named[answer]), len(self.names)) if right is None else right)
        return LabelCodes(references, answers)


@cache
def find_task_labels(spec: TaskSpec) -> AnswerLabels | None:
    """Return the labels of the task of a record that does not hold them.

    Returns:
        The labels; None for open answers, and if the task is not found or is not the same any more. No code of the
        task is run.
    """
    try:
        folder = registry.find_task(spec.ref)
        card = read_card(folder / "task.yaml")
        if card.labels is None or digest_task(folder) != spec.sha256:
            return None
    except (UserError, OSError):  # The name may be longer than a path can be, and rows of the hub lie elsewhere.
        return None
    return AnswerLabels.from_card(card)
