"""Tasks whose rows are on the hub: downloaded once, split without leaks, and cached."""

from __future__ import annotations

import hashlib
import json
import random
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from bench import hub, task
from bench.data import hub_columns, readers
from bench.data.readers import SourceRow
from bench.data.text import match_key
from bench.errors import UserError
from bench.i18n import Message
from bench.scratch import scratch_folder, user_cache_folder
from bench.task import SPLITS, Task
from bench.task_card import HubDataset, read_card

ROWS_VERSION = 2  # raised when the same card and data set would give other rows
DRAWING_ORDER = ("test", "validation", "train")  # a question of an earlier split is left out of the later ones
ORIGIN_FILE = "origin.json"

JsonRow = dict[str, Any]
"""A line of a split's file: id, input, target and perhaps rationale."""


def load_task(folder: Path, *, fetch: bool = True) -> Task:
    """Load the task in a folder, with rows from the folder, the local cache or the hub.

    Args:
        folder: The task's folder.
        fetch: False if the hub must not be asked for rows that are not cached.

    Raises:
        UserError: At the first error in the card, the data set or its rows.
    """
    return task.load_task(folder, _rows_folder(folder, fetch))


def digest_task(folder: Path) -> str:
    """Return the digest of the task in a folder, without running code or downloading.

    Raises:
        UserError: The card is not valid, or a file is missing.
    """
    return task.digest_task(folder, _rows_folder(folder, fetch=False))


def _rows_folder(folder: Path, fetch: bool) -> Path | None:
    """Return the cache folder with the rows of a hub task; None if its own folder has them."""
    data = read_card(folder / "task.yaml").data
    if data is None:
        return None
    row_files = [file for split in SPLITS if (file := folder / f"{split}.jsonl").exists()]
    if row_files:
        raise UserError(
            Message("the card names a hub data set, and the folder contains rows too"),
            location=str(row_files[0]),
            hint=Message("remove the section 'data', or the files"),
        )
    cached = cache_folder(data)
    if not cached.is_dir():
        if not fetch:
            raise UserError(
                Message("the rows of {hub} are not on this machine", hub=data.hub),
                location=str(folder),
                hint=f"bench validate {shlex.quote(str(folder))} downloads them",
            )
        _download_rows(data, cached, str(folder / "task.yaml"))
    return cached


def cache_folder(data: HubDataset) -> Path:
    """Return the cache folder for the rows of a section `data`; a digest of it is its name."""
    identity = {"form": ROWS_VERSION} | data.model_dump(mode="json")
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return user_cache_folder("tasks") / hashlib.sha256(text.encode()).hexdigest()[:16]


def read_origin(data: HubDataset) -> dict[str, Any]:
    """Return the source of cached rows and the numbers of rows that were left out, by reason."""
    origin: dict[str, Any] = json.loads((cache_folder(data) / ORIGIN_FILE).read_text("utf-8"))
    return origin


def _download_rows(data: HubDataset, cached: Path, location: str) -> None:
    """Download, split and write the rows; a failure leaves nothing behind."""
    hub_splits = [getattr(data.splits, split) for split in DRAWING_ORDER]
    downloaded = hub.fetch_dataset(data.hub, data.config, data.revision, hub_splits)
    tables = dict(zip(DRAWING_ORDER, downloaded, strict=True))
    splits, left_out = _draw_splits(data, tables, location)
    origin = {
        "hub": data.hub,
        "config": data.config,
        "revision": data.revision,
        "files": sorted({file for table in tables.values() for file in hub.dataset_files(table)}),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "left_out": left_out,
    }
    try:
        _write_rows(cached, splits, origin)
    except OSError as error:
        raise UserError(
            Message("the rows cannot be written: {reason}", reason=error.strerror),
            location=str(cached.parent),
            hint=Message("set XDG_CACHE_HOME to a writable folder"),
        ) from None


def _write_rows(cached: Path, splits: dict[str, list[JsonRow]], origin: dict[str, Any]) -> None:
    """Write all files of the cache folder, or none."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(cached.parent) as scratch:
        new = scratch / "rows"
        new.mkdir()
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (new / f"{split}.jsonl").write_text(lines, "utf-8")
        (new / ORIGIN_FILE).write_text(json.dumps(origin, indent=1, ensure_ascii=False) + "\n", "utf-8")
        try:
            new.rename(cached)
        except OSError:
            if not cached.is_dir():  # If it exists, another command has just written the same rows.
                raise


def _draw_splits(
    data: HubDataset, tables: dict[str, Any], location: str
) -> tuple[dict[str, list[JsonRow]], dict[str, int]]:
    """Draw the rows of each split, test first; every question is in one split, and once.

    Returns:
        The rows of each split, and the numbers of rows that were left out or joined, by reason.
    """
    used_keys: set[str] = set()
    splits: dict[str, list[JsonRow]] = {}
    left_out = Counter[str]()
    for split in DRAWING_ORDER:
        hub_split = getattr(data.splits, split)
        rows = list(hub_columns.read_columns(data, tables[split], hub_split, location, left_out))
        unique_rows, _ = readers.deduplicate(rows)
        new_rows = [row for row in unique_rows if match_key(row.input) not in used_keys]
        left_out[Message("repeated in a split, joined")] += len(rows) - len(unique_rows)
        left_out[Message("in an earlier split too (test, validation, train)")] += len(unique_rows) - len(new_rows)
        size = getattr(data.sizes, split) or len(new_rows)
        drawn = random.Random(f"{data.seed} {split}").sample(new_rows, min(size, len(new_rows)))
        if not drawn:
            raise UserError(
                Message("key 'data.splits.{split}': no row is left for {split}", split=split),
                location=location,
                hint=Message(
                    "name another split, relax 'keep_values' or 'max_input_chars', or set 'sizes' so that rows remain"
                ),
            )
        used_keys |= {match_key(row.input) for row in drawn}
        splits[split] = [_json_row(f"{split}-{number:06d}", row) for number, row in enumerate(drawn, start=1)]
    return splits, {reason: count for reason, count in left_out.items() if count}


def _json_row(id: str, row: SourceRow) -> JsonRow:
    target = row.targets[0] if len(row.targets) == 1 else list(row.targets)
    values: JsonRow = {"id": id, "input": row.input, "target": target}
    if row.rationale:
        values["rationale"] = row.rationale
    return values


def read_questions(folder: Path, sha256: str, split: str) -> dict[str, str]:
    """Return the questions of a split by id; no code is run, nothing is downloaded.

    Args:
        folder: The task's folder, which may come from a record of somebody else.
        sha256: Digest that the task must have.
        split: Name of the split.

    Returns:
        The questions; empty if the task is not there or has another digest.
    """
    try:
        if digest_task(folder) != sha256:
            return {}
        file = (_rows_folder(folder, fetch=False) or folder) / f"{split}.jsonl"
        rows = [json.loads(line) for line in file.read_bytes().split(b"\n") if line.strip()]
        return {str(row["id"]): str(row["input"]) for row in rows}
    except (UserError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
