"""Models and data sets of the Hugging Face hub, downloaded once, then read from the cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.i18n import Message

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
IGNORED_MODEL_FILES = ["*/*", "consolidated*"]  # the same weights again, in the formats of other programs


def fetch_model(name: str, revision: str | None = None) -> Path:
    """Return the cached folder of a model; download it if it is not there.

    Only weights in safetensors, configuration and tokenizer are downloaded.

    Args:
        name: Name on the hub, `org/model`.
        revision: Commit, branch or tag; None for the default branch.

    Raises:
        UserError: Neither the cache nor the hub has the model.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=MODEL_FILES, ignore_patterns=IGNORED_MODEL_FILES
        )
    except Exception as error:
        full_name = f"{name}@{revision}" if revision else name
        reason, hint = _explain_model_error(error, revision)
        raise UserError(
            Message("model '{name}' not found: {reason}", name=full_name, reason=reason), hint=hint
        ) from None
    return Path(folder)


def commit_of(folder: Path) -> str | None:
    """Return the commit of a model folder in the cache; None for a folder outside the cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def cached_models() -> list[str]:
    """Return the names of the models in the cache, including incomplete downloads."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots")
    return sorted(folder.parent.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)


class HubUnreachable(UserError):
    """The hub did not return a data set; the task itself may be correct."""


def fetch_dataset(name: str, config: str | None, revision: str | None, splits: Sequence[str]) -> list[Any]:
    """Return one `datasets.Dataset` per split; download them if they are not in the cache.

    Args:
        name: Name on the hub, `org/name`.
        config: Configuration of the data set; None for the default.
        revision: Commit, branch or tag; None for the default branch.
        splits: Names of splits or slices of them, e.g. `train[-500:]`.

    Raises:
        HubUnreachable: A split cannot be loaded.
    """
    import datasets

    location = name + (f", config {config}" if config else "") + (f", revision {revision}" if revision else "")
    try:
        return [datasets.load_dataset(name, config, split=split, revision=revision) for split in splits]
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = _dataset_hint(error, name, reason)
        raise HubUnreachable(
            Message("data set {name} cannot be loaded: {reason}", name=name, reason=reason),
            location=location,
            hint=hint,
        ) from None


def dataset_files(dataset: Any) -> list[str]:
    """Return the URLs a data set was read from, with the commit if `datasets` records it."""
    return sorted(map(str, dataset.info.download_checksums or {}))


def _explain_model_error(error: Exception, revision: str | None) -> tuple[str, str]:
    """Return the reason and the hint for an error of `snapshot_download`."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        problem = Message("the hub has no revision '{revision}' of it", revision=revision)
        return problem, Message("use a commit, a branch or a tag from its page")
    if isinstance(error, errors.GatedRepoError):
        problem = Message("its owners require that you accept their terms")
        return problem, Message("accept the terms on its page, then: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        problem = Message("the hub has no such model, or it is private")
        return problem, Message("check the name, or log in: hf auth login")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            Message("not a folder, not in the cache of the hub, and the hub cannot be reached"),
            Message("download it once while online (without HF_HUB_OFFLINE), or use a local folder"),
        )
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line}", Message("check the name, or use a local folder")


def _dataset_hint(error: Exception, name: str, reason: str) -> str:
    """Return the hint for an error of `datasets.load_dataset`, by its message."""
    page = f"https://huggingface.co/datasets/{name}"
    if re.search(r"unknown split|split .*not|instruction", reason, re.IGNORECASE):
        return Message("use a split from its page: {page}", page=page)
    if re.search(r"config", reason, re.IGNORECASE):
        return Message("use a config from its page: {page}", page=page)
    if "scripts are no longer supported" in reason:
        return Message("its rows are generated by a script, which is not run; try revision: refs/convert/parquet")
    if re.search(r"revision|404|not found|doesn't exist", reason, re.IGNORECASE):
        return Message("check name and revision: {page}; a gated data set needs `hf auth login`", page=page)
    return Message(
        "check the network connection ({kind}); after one download a task works offline", kind=type(error).__name__
    )
