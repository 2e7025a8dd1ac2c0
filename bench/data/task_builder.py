"""A task folder made of rows: split without leaks, with a card that is guessed from the data and can be corrected."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.data.readers import RowSource, SourceRow, deduplicate
from bench.data.text import excerpt
from bench.errors import UserError

FEWEST, TEST, VALIDATION = 30, 500, 200
MOST_LABELS, SEEN = 20, 5
ROOM = 1.25  # tokens granted for an answer, over those of the longest that is wanted
HANGUL = re.compile(r"[가-힣]")


class _Plain(yaml.SafeDumper):
    """Writes a text of several lines as a person would: in quotes, on one line."""


_Plain.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if "\n" in text else None)
)


@dataclass
class TaskDraft:
    """What a new task will be; `notes` tell what was done to the data."""

    card: dict[str, Any]
    splits: dict[str, list[dict[str, Any]]]
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the task; raises `UserError` where the folder is there already."""
        if folder.exists():
            raise UserError(f"{folder} is there already", hint="choose another name, or remove it")
        folder.mkdir(parents=True)
        (folder / "task.yaml").write_text(
            yaml.dump(self.card, Dumper=_Plain, allow_unicode=True, sort_keys=False), "utf-8"
        )
        for split, rows in self.splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, "utf-8")


def build_task(
    source: RowSource, name: str, tokens: Callable[[str], int], seed: int = 0, context: int = sys.maxsize
) -> TaskDraft:
    """A task of a source's rows; `tokens` counts those of a text for the model that will answer, `context` is its own.

    Raises `UserError` where there are too few rows, all answers are the same, or one does not fit into the context.
    """
    pairs, changed = deduplicate(source.rows)
    notes = [f"{changed} rows cleaned of white space and hidden characters"] if changed else []
    if twice := len(source.rows) - len(pairs):
        notes.append(f"{twice} repeated questions joined, with all their answers accepted")
    if len(pairs) < FEWEST:
        raise UserError(
            f"{len(pairs)} different questions are too few to learn from and to examine",
            hint=f"at least {FEWEST}; with 500 in the test, differences of 4 points can be seen",
        )
    counts = Counter(target for pair in pairs for target in pair.targets)
    if len(counts) == 1:
        raise UserError(f"every answer is {next(iter(counts))!r}", hint="a task needs two answers at least")
    labels = sorted(counts) if len(counts) <= MOST_LABELS and min(counts.values()) >= SEEN else None
    korean = _korean(pairs)
    end = "\n" if not any("\n" in target for target in counts) else "\n\n"
    if any(end in target for target in counts):
        end = "\n###\n"
    card = {
        "name": name,
        "version": 1,
        "summary": f"{len(pairs)} questions from {source.shape}",
        "language": "ko" if korean else "en",
        "license": "unknown",
        "instruction": source.instruction or _instruction(labels, korean),
        "template": ("질문: {input}\n답: {target}" if korean else "Question: {input}\nAnswer: {target}") + end,
        "normalize": "ko" if korean else "squad",
        "metric": "em",
        "labels": labels,
        "new_tokens": _room(counts, tokens, context),
    }
    splits = _split(pairs, seed, labels is not None)
    kind = f"closed answers: {len(labels)} labels" if labels else "open answers"
    notes = [f"read as {source.shape}", kind, *notes]
    return TaskDraft({name: value for name, value in card.items() if value is not None}, splits, notes)


def _room(answers: Iterable[str], tokens: Callable[[str], int], context: int) -> int:
    """Tokens that an answer may take."""
    longest = max(answers, key=tokens)
    room = int(tokens(longest) * ROOM) + 1
    if room >= context:
        raise UserError(
            f"an answer has {tokens(longest)} tokens, and the model's whole context is {context}: {excerpt(longest)}",
            hint="shorten such answers, drop their rows, or name a model of a longer context: --model",
        )
    return room


def _split(pairs: list[SourceRow], seed: int, closed: bool) -> dict[str, list[dict[str, Any]]]:
    """A quarter for the test and a tenth for validation, 500 and 200 at most; drawn by the seed.

    Closed labels have about the same share in each, and none is examined that was never shown.
    """
    drawn = random.Random(seed).sample(pairs, len(pairs))
    if closed:
        many, before = Counter(pair.targets[0] for pair in drawn), Counter[str]()
        shares = []
        for pair in drawn:
            shares.append(before[pair.targets[0]] / many[pair.targets[0]])
            before[pair.targets[0]] += 1
        drawn = [drawn[place] for place in sorted(range(len(drawn)), key=shares.__getitem__)]
    test, validation = min(TEST, len(drawn) // 4), min(VALIDATION, len(drawn) // 10)
    bounds = {"test": (0, test), "validation": (test, test + validation), "train": (test + validation, len(drawn))}
    return {
        split: [
            {"id": f"{split}-{number:05d}", "input": pair.input, "target": _single(pair.targets)}
            for number, pair in enumerate(drawn[bounds[split][0] : bounds[split][1]], start=1)
        ]
        for split in ("train", "validation", "test")
    }


def _single(targets: tuple[str, ...]) -> str | list[str]:
    return targets[0] if len(targets) == 1 else list(targets)


def _korean(pairs: Sequence[SourceRow]) -> bool:
    """Whether a fifth of all letters is Hangul."""
    text = "".join(pair.input + "".join(pair.targets) for pair in pairs[:1000])
    letters = sum(c.isalpha() for c in text)
    return len(HANGUL.findall(text)) > letters / 5


def _instruction(labels: list[str] | None, korean: bool) -> str:
    if korean:
        return f"다음 가운데 하나로 답하세요: {', '.join(labels)}" if labels else "다음 질문에 답하세요."
    return f"Answer with one of: {', '.join(labels)}" if labels else "Answer the question."
