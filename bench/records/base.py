"""Base class of every part of a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.i18n import Message, literal

_CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Controls, line and paragraph separators, and marks that change the direction of the text after them."""
MAX_SHOWN_CHARS = 60
"""Characters of an invalid value that an error shows."""
Line = Annotated[str, Field(pattern=rf"^[^{_CONTROL_CHARACTERS}]*$")]
"""Text that can be printed on one line."""
Name = Annotated[str, Field(pattern=rf"^[^./\\{_CONTROL_CHARACTERS}][^/\\{_CONTROL_CHARACTERS}]*$")]
"""Text that can be part of a file name: no path separator, no control character, no dot at its start."""

MAX_INT = 2**63 - 1
"""Largest integer of NumPy and Parquet."""
MAX_FLOAT = 1e30
"""No measurement is larger, and the sum of a billion such numbers is still finite."""
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveInt = Annotated[int, Field(gt=0, le=MAX_INT)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=MAX_FLOAT, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, le=MAX_FLOAT, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-MAX_FLOAT, le=MAX_FLOAT, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Score of an answer or a mean of such scores, or a share: such metrics are from 0 to 1."""
CorpusScore = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
"""Metric of all answers together: from 0 to 1, MCC from -1."""


def _none_if_diverged(value: Any) -> Any:
    """Return None for a number that is infinite, not a number, or too large to be a loss."""
    is_diverged = isinstance(value, float) and not abs(value) <= MAX_FLOAT
    return None if is_diverged else value


def _check_json(values: dict[str, Any]) -> dict[str, Any]:
    """Raise `ValueError` for values that JSON cannot hold, or that are nested too deeply."""
    try:
        json.dumps(values)
    except TypeError:
        pass  # An object of Python, which Pydantic writes in its own way.
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return values


Loss = Annotated[Number | None, BeforeValidator(_none_if_diverged)]
"""A loss in nats; None if it diverged."""
Params = Annotated[dict[Line, Any], AfterValidator(_check_json)]
"""Values of hyper-parameters by name."""


class FrozenModel(BaseModel):
    """An immutable Pydantic model that rejects unknown keys and writes NaN as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, ser_json_inf_nan="null")

    def model_post_init(self, context: Any, /) -> None:
        """Let all instances of a class share one set of field names as their `model_fields_set`.

        Nothing reads that set, and one set per instance takes half the memory of a record.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _field_names(type(self)))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, in which cached properties are computed anew."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy


@cache
def _field_names(model_class: type[FrozenModel]) -> set[str]:
    return set(model_class.model_fields)


def describe_error(error: ValidationError) -> str:
    """Return the path and the problem of the first invalid field."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    if first["type"] == "string_pattern_mismatch":
        text = repr(first["input"])
        shortened = text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
        if first["ctx"]["pattern"].startswith("^[^./"):
            problem = Message(
                "{text} is empty, or has a control character, a path separator, or a dot at its start", text=shortened
            )
        else:
            problem = Message("{text} has a control character or a line break", text=shortened)
    elif first["type"] == "value_error":
        problem = Message("{problem}", problem=first["ctx"]["error"])
    else:
        problem = literal(first["msg"].lower())
    return Message("{path}: {problem}", path=path, problem=problem) if path else problem
