"""Losses of loaded models on general text, measured once and kept for later runs.

Every run that trains a model compares with the loss before training, which is the same each time. An entry is found by
a digest of everything that can change the loss, one exact loss of the model itself among it. So a model that was
changed after loading, or a machine that computes other digits, has an entry of its own. Entries are small files in
`~/.cache/adaptbench/general-text/`, which may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from bench.measurement import environment
from bench.method import LM
from bench.records import FrozenModel, Phase
from bench.records.base import Line, Loss
from bench.records.files import write_atomically
from bench.scratch import user_cache_folder

FOLDER_NAME = "general-text"
PROBE_TOKENS = 32
"""Tokens of the first window whose exact loss is a part of the key."""

Windows = list[tuple[list[int], list[int]]]
"""Beginnings of texts: the first token, and the tokens to predict after it."""


class CachedLoss(FrozenModel):
    """A loss on general text that an earlier run has measured."""

    version: Literal[1] = 1
    nats: Loss = Field(description="mean loss in nats per token; null: not finite")
    measured: Line = Field(description="start of the run that measured it, ISO 8601, UTC")
    phase: Phase = Field(description="what measuring it cost")


def read(key: str) -> CachedLoss | None:
    """Return the entry of a key; None if there is none that can be read."""
    try:
        return CachedLoss.model_validate_json(_file(key).read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None


def write(key: str, entry: CachedLoss) -> None:
    """Write an entry as a whole; a folder that cannot be written keeps none."""
    file = _file(key)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, entry.model_dump_json(indent=1) + "\n")


def loss_key(lm: LM, windows: Windows, text_sha256: str) -> str:
    """Return a digest of everything that can change the loss of a model on windows of text.

    Args:
        lm: The model, before training.
        windows: Token ids to read and to predict.
        text_sha256: Digest of the file that the windows were cut from.
    """
    import torch

    first_ids, targets = windows[0]
    model: Any = lm.model
    config = model.config.to_dict()
    config.pop("_name_or_path", None)
    tensors = chain(model.named_parameters(), model.named_buffers())
    facts = {
        "version": CachedLoss.model_fields["version"].default,
        "text": text_sha256,
        "windows": windows,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "config": config,
        "tensors": [(name, str(tensor.dtype), tuple(tensor.shape), _sum(tensor)) for name, tensor in tensors],
        "loss": lm.evaluate_loss([(first_ids, targets[:PROBE_TOKENS])])[0].hex(),
        "device": str(model.device.type),
        "machine": environment.processor_name(),
        "gpu": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "packages": environment.package_versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _sum(tensor: Any) -> str:
    """Return the exact sum of a tensor's numbers, as it is computed here."""
    import torch

    if tensor.is_sparse or tensor.is_complex():
        return ""
    dtype = torch.float32 if tensor.device.type == "mps" else torch.float64  # which MPS does not have
    return float(tensor.detach().sum(dtype=dtype)).hex()


def _file(key: str) -> Path:
    return user_cache_folder(FOLDER_NAME) / f"{key[:32]}.json"
