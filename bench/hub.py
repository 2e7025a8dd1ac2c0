"""Data sets of the hub, by `datasets`: fetched, or refused with what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bench.refusal import Refused


class Unreached(Refused):
    """The hub did not give what was asked for: no fault of a task."""


def fetch(name: str, config: str | None, revision: str | None, splits: Sequence[str]) -> list[Any]:
    """A `datasets.Dataset` for each of the splits, slices too (`train[-500:]`); raises `Unreached` where it cannot."""
    import datasets

    where = name + (f", config {config}" if config else "") + (f", revision {revision}" if revision else "")
    try:
        return [datasets.load_dataset(name, config, split=split, revision=revision) for split in splits]
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unreached(f"the hub did not give {name}: {said}", where=where, mend=_mend(error, name, said)) from None


def files(found: Any) -> list[str]:
    """The addresses that a data set was made of, with the commit in them as far as `datasets` tells."""
    return sorted(map(str, found.info.download_checksums or {}))


def _mend(error: Exception, name: str, said: str) -> str:
    page = f"https://huggingface.co/datasets/{name}"
    if re.search(r"unknown split|split .*not|instruction", said, re.IGNORECASE):
        return f"name a split that it has: {page}"
    if re.search(r"config", said, re.IGNORECASE):
        return f"name a config that it has: {page}"
    if "scripts are no longer supported" in said:
        return "its rows are made by a script, which is not run; try the revision refs/convert/parquet"
    if re.search(r"revision|404|not found|doesn't exist", said, re.IGNORECASE):
        return f"check name and revision: {page}; a gated set wants `hf auth login`"
    return f"is the hub in reach ({type(error).__name__})? Once fetched, a task's rows stay on this machine"
