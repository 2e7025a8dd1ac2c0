"""The answers of a run: scores and questions as columns, texts where they are asked for."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from bench.records.cost import FrozenModel


class Sample(FrozenModel):
    """The answer to one question of the exam, and its scores."""

    id: str
    references: tuple[str, ...]
    raw: str
    answer: str | None = Field(description="what was parsed out of the raw text; null: no answer found")
    scores: dict[str, float]


class Samples(Sequence[Sample]):
    """A sequence of samples that need not be in memory.

    Thousands of records are compared by their scores, and of each a page shows ten answers. So a record of a folder
    holds the questions it answered, its main scores, and a digest of what it said; all else is read from its file again
    by whoever goes through the samples.
    """

    __slots__ = ("_columns", "_whole", "digest", "ids")

    def __init__(
        self, ids: tuple[str, ...], said: bytes, columns: dict[str, array[float]], whole: Callable[[], Sequence[Sample]]
    ) -> None:
        self.ids = ids
        self.digest = said
        self._columns, self._whole = columns, whole

    @classmethod
    def from_list(cls, some: Sequence[Sample]) -> Samples:
        """Samples that are in memory."""
        if isinstance(some, Samples):
            return some
        held = tuple(some)
        return cls(tuple(one.id for one in held), digest_answers([one.raw for one in held]), {}, lambda: held)

    def scores(self, metric: str) -> array[float]:
        """One score of every sample, in their order; raises KeyError where a sample has it not."""
        known = self._columns.get(metric)
        return array("d", [one.scores[metric] for one in self._whole()]) if known is None else known

    def take(self, places: Sequence[int]) -> list[Sample]:
        """Those at some places, with one look at where they are."""
        whole = self._whole() if places else ()
        return [whole[place] for place in places]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._whole())

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Samples: ...
    def __getitem__(self, place: int | slice) -> Sample | Samples:
        found = self._whole()[place]
        return found if isinstance(found, Sample) else Samples.from_list(found)

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
        """In JSON they are a list, and in a list each of them is checked."""
        listed = handler.generate_schema(tuple[Sample, ...])
        return core_schema.no_info_after_validator_function(
            cls.from_list,
            listed,
            serialization=core_schema.plain_serializer_function_ser_schema(tuple, return_schema=listed),
        )


def digest_answers(raws: Sequence[str]) -> bytes:
    """What tells answers that are the same byte for byte from others."""
    found = hashlib.sha1(array("I", map(len, raws)).tobytes(), usedforsecurity=False)
    found.update("".join(raws).encode())
    return found.digest()
