"""Answers of a run: question ids and scores in memory, texts loaded when they are used."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from math import fsum
from typing import Any, Protocol, TypeVar, overload

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from bench.metrics import metric_of_single_answers
from bench.records.base import FrozenModel, Line, Score

MEAN_TOLERANCE = 1e-6
"""Rounding error by which the mean of a record may differ from that of its samples."""


class Sample(FrozenModel):
    """The answer to one question of the split, with its scores."""

    id: str = Field(description="id of the question in the task")
    references: tuple[str, ...] = Field(description="accepted answers")
    raw: str = Field(description="generated text")
    answer: str | None = Field(description="answer parsed from the raw text; null: no answer found")
    scores: dict[Line, Score] = Field(description="score of each metric")
    group: str | None = Field(
        None,
        exclude_if=lambda group: group is None,  # so that records of tasks without groups stay the same
        description="group of questions that belong together, such as those on one passage; missing: the task has none",
    )


Codes = TypeVar("Codes", covariant=True)


class AnswerRule(Hashable, Protocol[Codes]):
    """Rule that reads from each answer what metrics of all answers together count."""

    def read_codes(self, samples: Iterable[Sample], /) -> Codes:
        """Return the codes of samples, in their order.

        Raises:
            ValueError: The samples are not those of this rule.
        """


class Samples(Sequence[Sample]):
    """A sequence of samples whose texts need not be in memory.

    Thousands of records are compared by their scores, but a page shows only a few answers of each. So a record that was
    read from a folder holds the question ids, the main scores and a digest of the raw answers; the texts are read from
    its file again when the samples are used.

    Args:
        ids: Question ids, in the order of the samples.
        digest: Digest of the raw answers, see `digest_answers`.
        columns: Scores of all samples by metric, for the metrics that are held in memory.
        load: Function that returns all samples.
        codes: What metrics of all answers count, by the rule that reads it, as far as it was read already.
        groups: Group of the question of each sample; None if the task has no groups.
    """

    __slots__ = ("_codes", "_columns", "_load", "digest", "groups", "ids")

    def __init__(
        self,
        ids: tuple[str, ...],
        digest: bytes,
        columns: dict[str, array[float]],
        load: Callable[[], Sequence[Sample]],
        codes: Mapping[AnswerRule[Any], Any] | None = None,
        groups: tuple[str, ...] | None = None,
    ) -> None:
        self.ids = ids
        self.digest = digest
        self.groups = groups
        self._columns, self._load, self._codes = columns, load, dict(codes or {})

    @classmethod
    def from_list(cls, samples: Sequence[Sample]) -> Samples:
        """Return `Samples` that hold all samples in memory."""
        if isinstance(samples, Samples):
            return samples
        in_memory = tuple(samples)
        digest = digest_answers([sample.raw for sample in in_memory])
        ids, groups = tuple(sample.id for sample in in_memory), read_groups(in_memory)
        return cls(ids, digest, {}, lambda: in_memory, groups=groups)

    def scores(self, metric: str) -> array[float]:
        """Return one metric's score of every sample, in their order.

        Raises:
            KeyError: If a sample has no score of this metric.
        """
        column = self._columns.get(metric)
        return array("d", [sample.scores[metric] for sample in self._load()]) if column is None else column

    def codes(self, rule: AnswerRule[Codes]) -> Codes:
        """Return what a rule reads from the samples, in their order; it reads them once.

        Raises:
            ValueError: The samples are not those of the rule.
        """
        if rule not in self._codes:
            self._codes[rule] = rule.read_codes(self._load())
        codes: Codes = self._codes[rule]
        return codes

    def take(self, indices: Sequence[int]) -> list[Sample]:
        """Return the samples at several indices; the record file is read once at most."""
        samples = self._load() if indices else ()
        return [samples[index] for index in indices]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._load())

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        selected = self._load()[index]
        return selected if isinstance(selected, Sample) else Samples.from_list(selected)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Samples):
            return NotImplemented
        return self.ids == other.ids and self.digest == other.digest and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((self.ids, self.digest))

    def __repr__(self) -> str:
        return f"<{len(self)} samples>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate and serialize as a list of `Sample`."""
        list_schema = handler.generate_schema(tuple[Sample, ...])
        return core_schema.no_info_after_validator_function(
            cls.from_list,
            list_schema,
            serialization=core_schema.plain_serializer_function_ser_schema(tuple, return_schema=list_schema),
        )


def digest_answers(raw_answers: Sequence[str]) -> bytes:
    """Return a SHA-1 digest of raw answers: equal only if all answers are equal byte for byte."""
    # The lengths come first, so that the same text with other borders between the answers has another digest.
    digest = hashlib.sha1(array("I", map(len, raw_answers)).tobytes(), usedforsecurity=False)
    digest.update("".join(raw_answers).encode())
    return digest.digest()


class GroupedSample(Protocol):
    """A sample, as far as its group is read."""

    @property
    def group(self) -> str | None:
        """Group of the question; None if the task has no groups."""


def read_groups(samples: Sequence[GroupedSample]) -> tuple[str, ...] | None:
    """Return the group of the question of each sample; None if there are no groups.

    Raises:
        ValueError: If only some samples have a group.
    """
    groups = tuple([sample.group for sample in samples if sample.group is not None])
    if groups and len(groups) < len(samples):
        raise ValueError("some samples have a group, and others have none")
    return groups or None


def answer_metric(metric: str, scores: Mapping[str, float]) -> str:
    """Return the score that tells if a single answer is right, see `metric_of_single_answers`.

    Args:
        metric: Main metric; it may be computed from all answers together.
        scores: Scores of an answer, or means of them.

    Raises:
        KeyError: If there are no scores.
    """
    return metric_of_single_answers(metric, scores)


class ScoredSample(Protocol):
    """A sample, as far as its scores are checked."""

    @property
    def id(self) -> str:
        """Id of the question."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Score of each metric."""


def check_scores(means: Mapping[str, float], samples: Sequence[ScoredSample]) -> None:
    """Check that the scores of a record are the means of its samples.

    Raises:
        ValueError: If a mean differs, if a sample has other metrics, if two samples have one id, or if there are scores
            without samples.
    """
    if means and not samples:
        raise ValueError("scores without samples")
    for sample in samples:
        if sample.scores.keys() != means.keys():
            raise ValueError(f"sample {sample.id!r} has the scores {[*sample.scores]}, the record {[*means]}")
    for metric, mean in means.items():
        mean_of_samples = fsum([sample.scores[metric] for sample in samples]) / len(samples)
        if not abs(mean_of_samples - mean) <= MEAN_TOLERANCE:
            raise ValueError(f"{metric} is {mean}, but {mean_of_samples:.6g} is the mean of the samples")
    if len({sample.id for sample in samples}) < len(samples):
        raise ValueError("two samples have the same id")
