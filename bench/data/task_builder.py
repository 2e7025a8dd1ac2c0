"""Task folders made from rows: split without leaks, with a card guessed from the data."""

from __future__ import annotations

import json
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.data.answer_kind import KIND_WORDS, choose_metric, describe_metric, find_answer_kind
from bench.data.readers import RowSource, SourceRow, deduplicate
from bench.data.text import count_rows, excerpt, match_key
from bench.errors import UserError
from bench.i18n import Message
from bench.metrics.evaluate_module import local_scripts
from bench.task import SCHEMA_FILE, SHIFTED, SPLITS, load_task
from bench.task_card import check_task_name, read_card

MIN_QUESTIONS = 30
MIN_GROUPS = 10
"""Fewer groups leave two of them for the test."""
MAX_TEST_ROWS, MAX_VALIDATION_ROWS = 500, 200
ANSWER_LENGTH_FACTOR = 1.25
"""Tokens allowed for an answer, as a multiple of the longest expected answer."""
HTML = re.compile(
    r"</?(?:a|b|body|blockquote|br|code|div|em|font|h[1-6]|hr|html|i|img|li|ol|p|pre|script|span|strong|style|table|tbody|td|th|tr"
    r"|u|ul)(?:\s[^<>]*)?/?>|&(?:nbsp|lt|gt|amp|quot|apos|#\d+|#x[0-9a-f]+);",
    re.IGNORECASE,
)
"""Tags and entities of HTML, as exports of web pages and mails have them."""
HANGUL = re.compile(r"[가-힣]")


class _CardDumper(yaml.SafeDumper):
    """Writes a text with line breaks in quotes on one line, as a person would."""


_CardDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if "\n" in text else None)
)


def check_new_folder(folder: Path) -> None:
    """Check, before anything slow starts, that a task can be written to a folder.

    Raises:
        UserError: The folder exists, or its name is not valid as the name of a task.
    """
    name = folder.name or str(folder)
    if name.endswith(".py"):  # `bench validate` and `bench run` would take it for a method.
        raise UserError(
            Message("'{name}' is not a valid task name", name=name),
            hint=Message("leave out .py: {stem}", stem=name.removesuffix(".py")),
        )
    check_task_name(name)
    if folder.exists() or folder.is_symlink():
        raise UserError(
            Message("{folder} exists already", folder=folder), hint=Message("choose another name, or remove it")
        )


@dataclass
class TaskDraft:
    """A task that is not written yet; `notes` say what was done to the data."""

    card: dict[str, Any]
    splits: dict[str, list[dict[str, Any]]]
    notes: list[str] = field(default_factory=list)
    scorer: str | None = None
    """The text of `task.py`; None if the task has no metric of its own."""
    scripts: dict[str, str] = field(default_factory=dict)
    """Texts of the metrics of `evaluate` that lie in the task folder, by their paths within it."""
    schema: str | None = None
    """The text of `schema.json`; None if the task has no JSON schema."""

    def write(self, folder: Path) -> None:
        """Write the task folder.

        Raises:
            UserError: If the folder exists.
        """
        check_new_folder(folder)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(
                Message("{folder} cannot be created: {reason}", folder=folder, reason=error.strerror),
                hint=Message("choose another folder"),
            ) from None
        card = yaml.dump(self.card, Dumper=_CardDumper, allow_unicode=True, sort_keys=False)
        (folder / "task.yaml").write_text(card, "utf-8")
        for split, rows in self.splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, "utf-8")
        if self.scorer is not None:
            (folder / "task.py").write_text(self.scorer, "utf-8")
        for path, text in self.scripts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        if self.schema is not None:
            (folder / SCHEMA_FILE).write_text(self.schema, "utf-8")


def build_task(
    source: RowSource, name: str, count_tokens: Callable[[str], int], seed: int = 0, context: int = sys.maxsize
) -> TaskDraft:
    """Make a task from the rows of a source.

    Args:
        source: The rows.
        name: Name of the task.
        count_tokens: Counts the tokens of a text for the model that will answer.
        seed: Draws the splits.
        context: Context length of that model, in tokens.

    Raises:
        UserError: If there are too few rows, all answers are the same, or an answer does not fit into the context.
    """
    rows, num_cleaned = deduplicate(source.rows)
    answer_counts = Counter(target for row in rows for target in row.targets)
    _check_variety(rows, answer_counts)
    answer_kind = find_answer_kind(answer_counts)
    labels = sorted(answer_counts) if answer_kind == "labels" else None
    korean = _is_korean(rows)
    card = {
        "name": name,
        "version": 1,
        "summary": f"{len(rows)} questions from {source.shape}",
        "language": "ko" if korean else "en",
        "license": "unknown",
        "instruction": source.instruction or _default_instruction(labels, korean),
        "template": _template(answer_counts, korean),
        "normalize": "text",
        "metric": choose_metric(answer_kind, answer_counts),
        "labels": labels,
        "new_tokens": _max_answer_tokens(answer_counts, count_tokens, context),
    }
    splits = _draw_splits(rows, seed, labels is not None)
    _check_split_labels(splits, labels)
    card = {key: value for key, value in card.items() if value is not None}
    if labels:
        kind = Message("closed answers: {labels} labels", labels=len(labels))
    else:
        kind = Message("open answers: {kind}", kind=KIND_WORDS[answer_kind])
    metric = describe_metric(answer_kind, answer_counts)
    notes: list[str] = [Message("format: {format}", format=source.shape), kind, metric, *source.notes]
    notes += _group_notes(splits)
    if num_cleaned:
        notes.append(Message("{rows} rows: white space or invisible characters removed", rows=num_cleaned))
    return TaskDraft(card, splits, [*notes, *_change_notes(source, len(rows)), *_markup_notes(rows)])


def _change_notes(source: RowSource, num_rows: int) -> list[str]:
    """Return notes on values that were converted, and on questions that were joined."""
    notes: list[str] = []
    if source.num_converted:
        notes.append(Message("{number} numbers or true/false values read as text", number=source.num_converted))
    num_repeated = len(source.rows) - num_rows
    if num_repeated:
        notes.append(Message("{number} repeated questions joined; all their answers are accepted", number=num_repeated))
    return notes


def _markup_notes(rows: Sequence[SourceRow]) -> list[str]:
    """Return a warning if texts contain HTML, with the number of rows and examples."""
    markup = [HTML.findall("\n".join([row.input, *row.targets])) for row in rows]
    num_rows = sum(map(bool, markup))
    if not num_rows:
        return []
    tags = Counter(
        tag if tag.startswith("&") else f"<{tag.strip('<>/ ').split()[0].rstrip('/').lower()}>"
        for row in markup
        for tag in set(row)
    )
    examples = ", ".join(tag for tag, _ in tags.most_common(3))
    return [
        Message(
            "warning: HTML in {rows} ({examples}), which stays in the texts; remove it from the file if the model "
            "should not read and write it",
            rows=count_rows(num_rows),
            examples=examples,
        )
    ]


def _check_variety(rows: Sequence[SourceRow], answer_counts: Counter[str]) -> None:
    """Raise `UserError` if there are too few questions, or only one answer."""
    if len(rows) < MIN_QUESTIONS:
        raise UserError(
            Message("{number} different questions are too few for training and testing", number=len(rows)),
            hint=Message(
                "give at least {needed}; 500 test questions can show differences of 4 points",
                needed=MIN_QUESTIONS,
            ),
        )
    if len(answer_counts) == 1:
        raise UserError(
            Message("every answer is {answer!r}", answer=next(iter(answer_counts))),
            hint=Message("a task needs at least two different answers"),
        )


def copy_without_leaks(folder: Path, name: str) -> TaskDraft:
    """Copy a task without the questions of a split that a later one repeats.

    Train loses the questions of validation and test, and validation those of test, so that test stays the same.

    Args:
        folder: Folder of the task.
        name: Name of the copy.

    Raises:
        UserError: The task is not valid, its rows are on the hub, or too few of them are left.
    """
    if read_card(folder / "task.yaml").data is not None:
        raise UserError(
            Message("{folder}: the splits of a task with hub data are drawn without leaks", folder=folder),
            hint=Message("use the task as it is"),
        )
    loaded = load_task(folder)
    later_keys: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    for split in reversed(SPLITS):
        rows = _read_rows(folder / f"{split}.jsonl")
        splits[split] = [row for row in rows if match_key(row["input"]) not in later_keys]
        later_keys |= {match_key(row["input"]) for row in rows}
        if len(rows) > len(splits[split]):
            number = len(rows) - len(splits[split])
            notes.append(
                Message("{split}: {number} rows that a later split repeats left out", split=split, number=number)
            )
        if not splits[split]:
            raise UserError(
                Message("{folder}: every question of {split} is in a later split", folder=folder, split=split),
                hint=Message("add other rows"),
            )
    scorer_file, schema_file, shifted_file = folder / "task.py", folder / SCHEMA_FILE, folder / f"{SHIFTED}.jsonl"
    ordered_splits = {split: splits[split] for split in SPLITS}
    if shifted_file.exists():
        ordered_splits[SHIFTED] = _read_rows(shifted_file)
    return TaskDraft(
        loaded.card.model_dump(mode="json", exclude_unset=True) | {"name": name},
        ordered_splits,
        notes or [Message("no row left out: no question is in two splits")],
        scorer_file.read_text("utf-8") if scorer_file.exists() else None,
        {
            str(file.relative_to(folder)): file.read_text("utf-8")
            for file in local_scripts(loaded.card.named_metrics, folder)
        },
        schema_file.read_text("utf-8") if schema_file.exists() else None,
    )


def _read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8-sig").split("\n") if line.strip()]


def _template(answers: Iterable[str], korean: bool) -> str:
    """Return the template of a solved example; its end is a text that no answer contains."""
    end = "\n"
    if any("\n" in answer for answer in answers):
        end = "\n\n"
    if any(end in answer for answer in answers):
        end = "\n###\n"
    return ("질문: {input}\n답: {target}" if korean else "Question: {input}\nAnswer: {target}") + end


def _max_answer_tokens(answers: Iterable[str], count_tokens: Callable[[str], int], context: int) -> int:
    """Return the number of tokens that an answer may have."""
    longest = max(answers, key=count_tokens)
    num_tokens = count_tokens(longest)
    limit = int(num_tokens * ANSWER_LENGTH_FACTOR) + 1
    if limit >= context:
        raise UserError(
            Message(
                "an answer has {tokens} tokens, but the model's context is {context}: {text}",
                tokens=num_tokens,
                context=context,
                text=excerpt(longest),
            ),
            hint=Message("shorten such answers, remove their rows, or choose a model with a longer context: --model"),
        )
    return limit


def _draw_splits(rows: list[SourceRow], seed: int, closed: bool) -> dict[str, list[dict[str, Any]]]:
    """Draw a quarter for test and a tenth for validation, at most 500 and 200 rows.

    Closed labels have about the same share in every split, and every label of the test is also in train. Rows of one
    group are in one split.
    """
    order = random.Random(seed).sample(rows, len(rows))
    if any(row.group is not None for row in rows):
        split_rows = _split_by_groups(order, seed, closed)
    else:
        split_rows = _split_by_rows(_interleave_labels(order) if closed else order)
    return {
        split: [
            {"id": f"{split}-{number:05d}", "input": row.input, "target": _target_value(row.targets)}
            | ({"rejected": row.rejected} if row.rejected else {})
            | ({"group": row.group} if row.group is not None else {})
            for number, row in enumerate(rows, start=1)
        ]
        for split, rows in split_rows.items()
    }


def _split_sizes(num_rows: int) -> tuple[int, int]:
    """Return the number of rows of test and validation."""
    return min(MAX_TEST_ROWS, num_rows // 4), min(MAX_VALIDATION_ROWS, num_rows // 10)


def _split_by_rows(order: Sequence[SourceRow]) -> dict[str, Sequence[SourceRow]]:
    num_test, num_validation = _split_sizes(len(order))
    return {
        "train": order[num_test + num_validation :],
        "validation": order[num_test : num_test + num_validation],
        "test": order[:num_test],
    }


def _split_by_groups(order: Sequence[SourceRow], seed: int, closed: bool) -> dict[str, Sequence[SourceRow]]:
    """Divide rows by whole groups, so that the splits have about the sizes of those by rows.

    Raises:
        UserError: There are too few groups.
    """
    num_groups = len({row.group for row in order})
    if num_groups < MIN_GROUPS:
        raise UserError(
            Message("--group: {number} groups are too few for training and testing", number=num_groups),
            hint=Message(
                "give rows of at least {needed} groups, better of 50, or leave out --group", needed=MIN_GROUPS
            ),
        )
    num_test, num_validation = _split_sizes(len(order))
    rest, test = _take_groups(order, num_test, seed, closed)
    train, validation = _take_groups(rest, num_validation, seed, closed)
    return {"train": train, "validation": validation, "test": test}


def _take_groups(
    rows: Sequence[SourceRow], num_taken: int, seed: int, closed: bool
) -> tuple[list[SourceRow], list[SourceRow]]:
    """Divide rows into the rest and about a number of rows, by whole groups.

    Of the parts of about equal size and equal shares of labels that scikit-learn makes, the one with the most groups is
    taken: the more groups, the more a test can tell.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # The import takes a second.

    groups = [row.group for row in rows]
    n_parts = max(2, min(round(len(rows) / num_taken), len(set(groups))))
    labels = [row.targets[0] if closed else "" for row in rows]
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # A label may have fewer rows than parts.
        parts = list(StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed).split(rows, labels, groups))
    _, taken = max(parts, key=lambda part: len({groups[index] for index in part[1]}))
    positions = set(taken.tolist())
    return (
        [row for index, row in enumerate(rows) if index not in positions],
        [rows[index] for index in sorted(positions)],
    )


def _check_split_labels(splits: dict[str, list[dict[str, Any]]], labels: Sequence[str] | None) -> None:
    """Raise `UserError` if a label of the test has no training row.

    Groups may have labels of their own.
    """
    counts = {
        split: Counter(target for row in rows for target in _as_list(row["target"])) for split, rows in splits.items()
    }
    missing = [label for label in labels or () if counts["test"][label] and not counts["train"][label]]
    if missing:
        raise UserError(
            Message("--group: all rows of the label {label!r} are in the groups of the test", label=missing[0]),
            hint=Message("give rows of it in more groups, try another split (--seed 1), or leave out --group"),
        )


def _group_notes(splits: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a note on the groups of each split; empty without groups."""
    numbers = {split: len({row["group"] for row in rows if "group" in row}) for split, rows in splits.items()}
    if not numbers["test"]:
        return []
    return [
        Message("split by whole groups: {train} for train, {validation} for validation, {test} for test", **numbers)
    ]


def _as_list(target: str | list[str]) -> list[str]:
    return [target] if isinstance(target, str) else target


def _interleave_labels(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Order rows so that every label has about the same share in each part of the sequence."""
    totals, seen = Counter(row.targets[0] for row in rows), Counter[str]()
    shares = []
    for row in rows:
        label = row.targets[0]
        shares.append(seen[label] / totals[label])
        seen[label] += 1
    return [rows[index] for index in sorted(range(len(rows)), key=shares.__getitem__)]


def _target_value(targets: tuple[str, ...]) -> str | list[str]:
    return targets[0] if len(targets) == 1 else list(targets)


def _is_korean(rows: Sequence[SourceRow]) -> bool:
    """Return True if more than a fifth of the letters of the first 1,000 rows is Hangul."""
    text = "".join(row.input + "".join(row.targets) for row in rows[:1000])
    num_letters = sum(char.isalpha() for char in text)
    return len(HANGUL.findall(text)) > num_letters / 5


def _default_instruction(labels: list[str] | None, korean: bool) -> str:
    if korean:
        return f"다음 가운데 하나로 답하세요: {', '.join(labels)}" if labels else "다음 질문에 답하세요."
    return f"Answer with one of: {', '.join(labels)}" if labels else "Answer the question."
