"""Tasks whose examples lie on the hub: fetched once, split without leaks, kept on this machine, read like any other."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench import hub, task
from bench import task_card as cards
from bench.data import hub_columns, readers
from bench.data.readers import SourceRow
from bench.data.text import match_key
from bench.errors import UserError
from bench.task import SPLITS, Task
from bench.task_card import HubDataset

FORM = 1  # raised when the same card and data set would become other rows
EXAM_FIRST = ("test", "validation", "train")  # what one has drawn, the later ones do not see
ORIGIN = "origin.json"


def load_task(folder: Path, *, fetch: bool = True) -> Task:
    """The task in `folder`, wherever its examples lie; `fetch` says whether the hub may be asked for them.

    Raises `UserError` at the first thing that is wrong with the card, the data set, or its rows.
    """
    data = cards.read_card(folder / "task.yaml").data
    if data is None:
        return task.load_task(folder)
    both = [file for split in SPLITS if (file := folder / f"{split}.jsonl").exists()]
    if both:
        mend = "drop the section 'data', or the files"
        raise UserError(
            "the card names a data set of the hub, and examples stand beside it", location=str(both[0]), hint=mend
        )
    kept = cache_folder(data)
    if not kept.is_dir():
        if not fetch:
            raise UserError(
                f"the rows of {data.hub} are not on this machine", location=str(folder), hint="bench validate it"
            )
        _keep(data, kept, str(folder / "task.yaml"))
    return task.load_task(folder, kept)


def cache_folder(data: HubDataset) -> Path:
    """The folder where the rows of such a section are kept; another section has another."""
    made_of = json.dumps({"form": FORM} | data.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "adaptbench" / "tasks" / hashlib.sha256(made_of.encode()).hexdigest()[:16]


def read_origin(data: HubDataset) -> dict[str, Any]:
    """Where kept rows came from, and how many were left out and why."""
    found: dict[str, Any] = json.loads((cache_folder(data) / ORIGIN).read_text("utf-8"))
    return found


def _keep(data: HubDataset, kept: Path, where: str) -> None:
    """Fetch, split and write the rows; nothing is left behind where that fails."""
    wanted = [getattr(data.splits, split) for split in EXAM_FIRST]
    tables = dict(zip(EXAM_FIRST, hub.fetch_dataset(data.hub, data.config, data.revision, wanted), strict=True))
    splits, left_out = _split(data, tables, where)
    told = {
        "hub": data.hub,
        "config": data.config,
        "revision": data.revision,
        "files": sorted({file for table in tables.values() for file in hub.files(table)}),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "left_out": left_out,
    }
    try:
        _write(kept, splits, told)
    except OSError as error:
        mend = "XDG_CACHE_HOME=FOLDER names another place"
        raise UserError(f"the rows cannot be kept: {error.strerror}", location=str(kept.parent), hint=mend) from None


def _write(kept: Path, splits: dict[str, list[dict[str, Any]]], told: dict[str, Any]) -> None:
    """All files at once, or none."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".", dir=kept.parent))
    try:
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (made / f"{split}.jsonl").write_text(lines, "utf-8")
        (made / ORIGIN).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
        made.rename(kept)
    except OSError:
        if not kept.is_dir():  # otherwise another command was faster, with the same rows
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _split(
    data: HubDataset, tables: dict[str, Any], where: str
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Rows of each split; the test is drawn first, and no question stands twice, in one split or in two."""
    seen: set[str] = set()
    splits, left_out = {}, Counter[str]()
    for split in EXAM_FIRST:
        pairs = list(hub_columns.read_columns(data, tables[split], getattr(data.splits, split), where, left_out))
        single, _ = readers.deduplicate(pairs)
        fresh = [pair for pair in single if match_key(pair.input) not in seen]
        left_out["asked twice in a split, joined"] += len(pairs) - len(single)
        left_out["asked in an earlier split too (test, validation, train)"] += len(single) - len(fresh)
        size = getattr(data.sizes, split) or len(fresh)
        drawn = random.Random(f"{data.seed} {split}").sample(fresh, min(size, len(fresh)))
        if not drawn:
            mend = "name another split, loosen 'where' or 'longest', or give 'sizes' so that something is left"
            raise UserError(f"key 'data.splits.{split}': no row is left for {split}", location=where, hint=mend)
        seen |= {match_key(pair.input) for pair in drawn}
        splits[split] = [_row(f"{split}-{number:06d}", pair) for number, pair in enumerate(drawn, start=1)]
    return splits, {why: count for why, count in left_out.items() if count}


def _row(id: str, pair: SourceRow) -> dict[str, Any]:
    target = pair.targets[0] if len(pair.targets) == 1 else list(pair.targets)
    row: dict[str, Any] = {"id": id, "input": pair.input, "target": target}
    return row | ({"rationale": pair.rationale} if pair.rationale else {})
