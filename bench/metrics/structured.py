"""Comparison of numbers within a tolerance, and of the fields of JSON objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

from bench.i18n import Message
from bench.metrics.short_answers import Normalizer, canonical_number, normalize_text

# More digits than any answer has, so that differences of decimal numbers are exact: 3.1 is 3.0 within 0.1.
_ARITHMETIC = Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_PERCENTAGE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")

FieldPath = tuple[str | int, ...]
"""Keys of nested objects and positions in lists that lead to a value."""


@dataclass(frozen=True)
class Tolerance:
    """Difference by which a number may be wrong."""

    amount: Decimal
    is_relative: bool
    """The amount is a share of the reference, and no difference."""

    @classmethod
    def parse(cls, value: float | str) -> Tolerance:
        """Return the tolerance that a task card states: a number, or a share such as `1%`.

        Raises:
            ValueError: The value is neither.
        """
        if isinstance(value, str):
            match = _PERCENTAGE.fullmatch(value.strip())
            if match is None:
                raise ValueError(Message("write a number, or a share of the reference such as 1%"))
            return cls(Decimal(match[1]) / 100, is_relative=True)
        amount = Decimal(str(value))
        if not (amount.is_finite() and amount >= 0):
            raise ValueError(Message("a tolerance is 0 or more"))
        return cls(amount, is_relative=False)

    def covers(self, number: Decimal, reference: Decimal) -> bool:
        """Tell if a number differs from the reference by at most the tolerance."""
        allowed = _ARITHMETIC.multiply(self.amount, abs(reference)) if self.is_relative else self.amount
        return bool(abs(_ARITHMETIC.subtract(number, reference)) <= allowed)


def read_number(text: str) -> Decimal | None:
    """Return the number that a text is; None for another text.

    Quotes around it and full stops at its end do not count. Numbers are those of `canonical_number`, so a unit or a
    percent sign makes a text that is no number.
    """
    number = canonical_number(normalize_text(text, "text"))
    return None if number is None else Decimal(number)


def numbers_match(answer: str, reference: str, tolerance: Tolerance | None = None) -> bool:
    """Tell if an answer is the number of the reference; False if one of them is no number.

    Args:
        answer: The answer.
        reference: The right number.
        tolerance: Difference that is allowed; None for equal numbers.
    """
    number, right = read_number(answer), read_number(reference)
    if number is None or right is None:
        return False
    return number == right or (tolerance is not None and tolerance.covers(number, right))


def json_field_share(answer: str, reference: str, normalize: Normalizer = "text") -> float:
    """Return the share of the fields of two JSON objects that are equal.

    Nested objects and lists are flattened: each value is one field, under its keys and positions. A field that only
    one of them has is wrong. Texts are compared after normalization, numbers by value, and a text is never equal to a
    number. An answer that is no JSON object has 0.

    Args:
        answer: The answer.
        reference: The right object.
        normalize: Normalization of texts.

    Raises:
        ValueError: The reference is no JSON object.
    """
    right = read_json_fields(reference, normalize)
    if right is None:
        raise ValueError(f"the reference is no JSON object: {reference!r}")
    fields = read_json_fields(answer, normalize)
    if fields is None:
        return 0.0
    paths = fields.keys() | right.keys()
    n_equal = sum(path in fields and path in right and fields[path] == right[path] for path in paths)
    return n_equal / len(paths) if paths else 1.0


def read_json_fields(text: str, normalize: Normalizer) -> dict[FieldPath, Any] | None:
    """Return the values of a JSON object by their paths; None if the text is no JSON object.

    A value is a pair of its type and itself, because Python takes `true` for 1.
    """
    try:
        content = json.loads(text, parse_constant=_reject_constant)
        return dict(_flatten(content, (), normalize)) if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None


def _flatten(value: Any, path: FieldPath, normalize: Normalizer) -> Iterator[tuple[FieldPath, Any]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    is_empty = True
    for key, child in children:
        is_empty = False
        yield from _flatten(child, (*path, key), normalize)
    if is_empty and (path or not isinstance(value, dict)):
        yield path, _comparable(value, normalize)


def _comparable(value: Any, normalize: Normalizer) -> tuple[str, Any]:
    if isinstance(value, str):
        return "text", normalize_text(value, normalize)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value
    return type(value).__name__, value if isinstance(value, bool) else None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
