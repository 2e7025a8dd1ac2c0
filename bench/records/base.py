"""Base class of every part of a record."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable Pydantic model that rejects unknown keys and writes NaN as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, ser_json_inf_nan="null")

    def model_post_init(self, context: Any, /) -> None:
        """Let all instances of a class share one set of field names as their `model_fields_set`.

        Nothing reads that set, and one set per instance takes half the memory of a record.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _field_names(type(self)))


@cache
def _field_names(model_class: type[FrozenModel]) -> set[str]:
    return set(model_class.model_fields)
