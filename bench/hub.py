"""What the Hugging Face hub gives, fetched once and then read from the cache: models, and data sets by `datasets`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import UserError

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
UNWANTED = ["*/*", "consolidated*"]  # the same weights once more, for other programs


def fetch_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model in the cache, at a commit, branch or tag; only weights in safetensors, configuration and
    tokenizer are downloaded. Raises `UserError` where the hub or the cache does not give it.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        found = snapshot_download(name, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    except Exception as error:
        asked = f"{name}@{revision}" if revision else name
        if isinstance(error, errors.RevisionNotFoundError):
            why, mend = f"the hub has no revision '{revision}' of it", "give a commit, a branch or a tag of its page"
        elif isinstance(error, errors.GatedRepoError):
            why, mend = "its owners ask for your consent first", "accept the terms on its page, then: hf auth login"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why, mend = "the hub has no such model, or it is private", "check the name, or log in: hf auth login"
        elif isinstance(error, errors.LocalEntryNotFoundError):
            why = "no folder, not in the hub's cache, and the hub cannot be reached"
            mend = "fetch it once while online (and without HF_HUB_OFFLINE), or give a local folder"
        else:
            why, mend = (
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                "check the name, or give a folder",
            )
        raise UserError(f"no model '{asked}' here: {why}", hint=mend) from None
    return Path(found)


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the cache holds; None for a folder that is none of the cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def cached_models() -> list[str]:
    """Names of the models that the cache holds, whole or in part."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots")
    return sorted(folder.parent.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)


class HubUnreachable(UserError):
    """The hub did not give what was asked for: no fault of a task."""


def fetch_dataset(name: str, config: str | None, revision: str | None, splits: Sequence[str]) -> list[Any]:
    """A `datasets.Dataset` for each of the splits, slices too (`train[-500:]`); raises `Unreached` where it cannot."""
    import datasets

    where = name + (f", config {config}" if config else "") + (f", revision {revision}" if revision else "")
    try:
        return [datasets.load_dataset(name, config, split=split, revision=revision) for split in splits]
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubUnreachable(
            f"the hub did not give {name}: {said}", location=where, hint=_mend(error, name, said)
        ) from None


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
