"""Models of the Hugging Face hub: fetched once, then read from the cache, with or without a network."""

from __future__ import annotations

from pathlib import Path

from bench.refusal import Refused

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
UNWANTED = ["*/*", "consolidated*"]  # the same weights once more, for other programs


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of a model in the cache, at a commit, branch or tag; only weights in safetensors, configuration and
    tokenizer are downloaded. Raises `Refused` where the hub or the cache does not give it."""
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
        raise Refused(f"no model '{asked}' here: {why}", mend=mend) from None
    return Path(found)


def commit(folder: Path) -> str | None:
    """The commit that a folder of the cache holds; None for a folder that is none of the cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def cached() -> list[str]:
    """Names of the models that the cache holds, whole or in part."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*/snapshots")
    return sorted(folder.parent.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)
