"""From the columns of a data set to what is asked and what is wanted, by the section `data` of a card."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.data.readers import SourceRow
from bench.data.text import plain
from bench.errors import UserError, did_you_mean
from bench.task_card import DatasetColumn, HubDataset

PLACE = re.compile(r"\{([^{}]+)\}")
Read = Callable[[dict[str, Any]], list[str]]
"""The texts that a row has in some place: none, one, or several accepted answers."""


def read_columns(data: HubDataset, table: Any, split: str, where: str, left_out: Counter[str]) -> Iterator[SourceRow]:
    """The rows of a `datasets.Dataset` that the card wants; `left_out` counts the others by reason.

    Raises `UserError` where a column is missing, or a row has no text where one is needed.
    """
    ask = {
        name: _reader(DatasetColumn(column=name), table, "data.input", where)
        for name in PLACE.findall(data.input_template)
    }
    target = _reader(data.target, table, "data.target", where, data.labels)
    rationale = _reader(data.rationale, table, "data.rationale", where) if data.rationale else None
    keep = [
        (_reader(DatasetColumn(column=name), table, "data.where", where), set(map(str, values)))
        for name, values in data.keep_values.items()
    ]
    for number, row in enumerate(table, start=1):
        place = f"{data.hub}, {split}, row {number}"
        if any(values.isdisjoint(read(row)) for read, values in keep):
            left_out["not among what 'where' keeps"] += 1
            continue
        parts, targets = {name: read(row) for name, read in ask.items()}, target(row)
        if missing := [*(name for name, texts in parts.items() if not texts), *([] if targets else ["the target"])]:
            if not data.drop_empty:
                mend = "drop_empty: true in the section 'data' leaves such rows out, and says how many"
                raise UserError(f"{place}: no text in {', '.join(missing)}", location=where, hint=mend)
            left_out["without a text"] += 1
            continue
        asked = PLACE.sub(lambda found, parts=parts: "\n".join(parts[found[1]]), data.input_template)  # type: ignore[misc]
        if data.max_input_chars and len(asked) > data.max_input_chars:
            left_out[f"longer than {data.max_input_chars} characters"] += 1
            continue
        yield SourceRow(place, asked, tuple(targets), "\n".join(rationale(row)) if rationale else None)


def _reader(
    column: DatasetColumn, table: Any, key: str, where: str, labels: Mapping[str | int | bool, str] | None = None
) -> Read:
    """What reads a column of each row; class numbers become their names, and these the card's `labels`."""
    first, *inner = column.column.split(".") if column.column not in table.features else [column.column]
    if first not in table.features:
        raise UserError(f"key '{key}': no column '{first}'", location=where, hint=did_you_mean(first, table.features))
    names = getattr(table.features[first], "names", None)  # of a ClassLabel
    named = {str(value): label for value, label in (labels or {}).items()}

    def read(row: dict[str, Any]) -> list[str]:
        value: Any = row[first]
        for name in inner:
            value = _inside(value, name, f"key '{key}': no '{name}' in '{first}'", where)
        values = value if isinstance(value, list) else [value]
        texts = [text for one in values if (text := _text(one, names, key, where)) is not None]
        if labels is not None:
            if strange := [text for text in texts if text not in named]:
                mend = did_you_mean(strange[0], named)
                raise UserError(f"key 'data.labels': '{strange[0]}' is not in it", location=where, hint=mend)
            texts = [named[text] for text in texts]
        return [text for one in texts if (text := _part(one, column))]

    return read


def _inside(value: Any, name: str, problem: str, where: str) -> Any:
    """What a cell holds under a name; of a list of such cells, a list of it."""
    if isinstance(value, list):
        return [_inside(one, name, problem, where) for one in value]
    if not isinstance(value, dict) or name not in value:
        raise UserError(problem, location=where, hint=did_you_mean(name, value if isinstance(value, dict) else ()))
    return value[name]


def _text(value: Any, names: list[str] | None, key: str, where: str) -> str | None:
    """A cell as text; None where it is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if names is not None:
        if not 0 <= value < len(names):
            mend = "this split has no labels; name one that has in 'data.splits'"
            raise UserError(f"key '{key}': class {value} has no name", location=where, hint=mend)
        return str(names[value])
    if not isinstance(value, str | int | float):
        raise UserError(
            f"key '{key}': a text is wanted, not {type(value).__name__}", location=where, hint="name.deeper"
        )
    return str(value)


def _part(text: str, column: DatasetColumn) -> str:
    """The part of a text that the card means, without what nobody sees; empty if there is none."""
    text = re.sub(column.remove, "", text) if column.remove else text
    if column.pattern:
        found = re.search(column.pattern, text)
        text = (found[1] or "") if found else ""
    return plain(text)
