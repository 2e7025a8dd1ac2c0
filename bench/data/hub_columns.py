"""Inputs and targets from the columns of a hub data set, by the section `data` of a card."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.data.readers import SourceRow
from bench.data.text import clean_text
from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.task_card import DatasetColumn, HubDataset

COLUMN_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
YAML_TRUTH_WORDS = ("yes", "no", "on", "off", "true", "false")
DROP_EMPTY_HINT = Message("drop_empty: true in the section 'data' leaves such rows out and counts them")
ReadTexts = Callable[[dict[str, Any]], list[str]]
"""Returns the texts of one column of a row: none, one, or several accepted answers."""


def read_columns(
    data: HubDataset, table: Any, split: str, location: str, left_out: Counter[str]
) -> Iterator[SourceRow]:
    """Yield the rows of a data set that the card asks for.

    Args:
        data: The section `data` of the card.
        table: A `datasets.Dataset`.
        split: Name of the split on the hub, for messages.
        location: Path of the card, for messages.
        left_out: Counts the rows that are left out, by reason; it is updated in place.

    Raises:
        UserError: If a column is missing, or a row has no text where one is needed.
    """
    read_inputs = {
        name: _column_reader(DatasetColumn(column=name), table, "data.input", location)
        for name in COLUMN_PLACEHOLDER.findall(data.input_template)
    }
    read_targets = _column_reader(data.target, table, "data.target", location, data.labels)
    read_rationales = (
        _column_reader(data.rationale, table, "data.rationale", location) if data.rationale is not None else None
    )
    filters = [
        (_column_reader(DatasetColumn(column=name), table, "data.keep_values", location), set(map(str, values)))
        for name, values in data.keep_values.items()
    ]
    for number, row in enumerate(table, start=1):
        row_location = Message("{hub}, {split}, row {number}", hub=data.hub, split=split, number=number)
        if any(values.isdisjoint(read_texts(row)) for read_texts, values in filters):
            left_out[Message("value not in 'keep_values'")] += 1
            continue
        inputs = {name: read_texts(row) for name, read_texts in read_inputs.items()}
        targets = read_targets(row)
        missing = [name for name, texts in inputs.items() if not texts] + ([] if targets else ["the target"])
        if missing and not data.drop_empty:
            raise UserError(
                Message("{row_location}: no text in {names}", row_location=row_location, names=", ".join(missing)),
                location=location,
                hint=DROP_EMPTY_HINT,
            )
        if missing:
            left_out[Message("without a text")] += 1
            continue
        text = _fill_template(data.input_template, inputs)
        if data.max_input_chars and len(text) > data.max_input_chars:
            left_out[f"longer than {data.max_input_chars} characters"] += 1
            continue
        rationale = "\n".join(read_rationales(row)) if read_rationales else None
        yield SourceRow(row_location, text, tuple(targets), rationale)


def _fill_template(template: str, inputs: Mapping[str, list[str]]) -> str:
    """Replace every `{column}` by the row's value; items of a list go on separate lines."""
    return COLUMN_PLACEHOLDER.sub(lambda match: "\n".join(inputs[match[1]]), template)


def _column_reader(
    column: DatasetColumn,
    table: Any,
    key: str,
    location: str,
    labels: Mapping[str | int | bool, str] | None = None,
) -> ReadTexts:
    """Return a function that reads the texts of a column.

    Class numbers become class names, and values that are keys of `labels` become the labels of the task.
    """
    first, *inner = column.column.split(".") if column.column not in table.features else [column.column]
    if first not in table.features:
        raise UserError(
            Message("key '{key}': no column '{first}'", key=key, first=first),
            location=location,
            hint=did_you_mean(first, table.features),
        )
    class_names = getattr(table.features[first], "names", None)  # set for a ClassLabel only
    label_names = {str(value): label for value, label in (labels or {}).items()}

    def read_texts(row: dict[str, Any]) -> list[str]:
        cell: Any = row[first]
        for name in inner:
            cell = _nested_value(
                cell, name, Message("key '{key}': no '{name}' in '{first}'", key=key, name=name, first=first), location
            )
        values = cell if isinstance(cell, list) else [cell]
        texts = [_cell_text(value, class_names, key, location) for value in values]
        present = [text for text in texts if text is not None]
        if labels is not None:
            unknown = [text for text in present if text not in label_names]
            if unknown:
                is_yaml_truth = unknown[0].lower() in YAML_TRUTH_WORDS and {"True", "False"} & set(label_names)
                raise UserError(
                    Message("key 'data.labels': '{unknown}' is missing", unknown=unknown[0]),
                    location=location,
                    hint=Message(
                        'YAML reads {unknown} as a truth value; put it in quotes: "{unknown}"', unknown=unknown[0]
                    )
                    if is_yaml_truth
                    else did_you_mean(unknown[0], label_names),
                )
            present = [label_names[text] for text in present]
        parts = [_extract_part(text, column) for text in present]
        return [part for part in parts if part]

    return read_texts


def _nested_value(cell: Any, name: str, problem: str, location: str) -> Any:
    """Return a field of a nested cell; for a list of cells, the list of their fields."""
    if isinstance(cell, list):
        return [_nested_value(item, name, problem, location) for item in cell]
    if not isinstance(cell, dict) or name not in cell:
        valid = cell if isinstance(cell, dict) else ()
        raise UserError(problem, location=location, hint=did_you_mean(name, valid))
    return cell[name]


def _cell_text(value: Any, class_names: list[str] | None, key: str, location: str) -> str | None:
    """Return a cell as text; None if it is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if class_names is not None:
        if not 0 <= value < len(class_names):
            raise UserError(
                Message("key '{key}': class {text} has no name", key=key, text=value),
                location=location,
                hint=Message("this split has no labels; name a split with labels in 'data.splits'"),
            )
        return str(class_names[value])
    if not isinstance(value, str | int | float):
        raise UserError(
            Message("key '{key}': expected a text, found {kind}", key=key, kind=type(value).__name__),
            location=location,
            hint=Message("name a nested field, as in answers.text"),
        )
    return str(value)


def _extract_part(text: str, column: DatasetColumn) -> str:
    """Return the cleaned part of a text that the card selects; empty if there is none."""
    if column.remove:
        text = re.sub(column.remove, "", text)
    if column.pattern:
        match = re.search(column.pattern, text)
        text = (match[1] or "") if match else ""
    return clean_text(text)
