"""Artifact of a run: the files that the trained method saves, and their size."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.records.record import Record

MAX_KEPT_BYTES = 64 * 2**20
"""Largest artifact that is kept if nothing else is asked for, such as the LoRA adapter of a model of 1 B parameters."""
UNCOUNTED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".joblib", ".npy", ".npz")
"""Binary formats whose numbers cannot be counted without loading them."""


def save_prompt(folder: Path, prompt: str) -> None:
    """Save a prompt template, in which `{input}` stands for the question, as `prompt.json`."""
    (folder / "prompt.json").write_text(json.dumps({"prompt": prompt}, ensure_ascii=False, indent=1), "utf-8")


def save_numbers(file: Path, arrays: Mapping[str, Any]) -> None:
    """Save NumPy arrays by name as a safetensors file."""
    from numpy import ascontiguousarray
    from safetensors.numpy import save_file

    # `save_file` writes the values of a non-contiguous array in the wrong order.
    save_file({name: ascontiguousarray(array) for name, array in arrays.items()}, file)


def folder_bytes(folder: Path) -> tuple[int, int | None]:
    """Return the size of a folder in bytes and the number of values in its safetensors files.

    The second is None if the folder has binary files of another format, whose values are not counted.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    size_bytes = sum(file.stat().st_size for file in files)
    if any(file.suffix in UNCOUNTED_SUFFIXES for file in files):
        return size_bytes, None
    return size_bytes, sum(map(_count_values, files))


@contextmanager
def record_writer(new: Path, keep: bool | None) -> Iterator[tuple[Path, Callable[[Record], None]]]:
    """Give an empty folder for the artifact and a function that writes the record of the run.

    Args:
        new: Empty folder for the record, and for the artifact under the name of the run id.
        keep: True if the artifact of a successful run is kept, None if it is kept up to a size of `MAX_KEPT_BYTES`;
            otherwise it is deleted with the temporary folder.
    """
    with TemporaryDirectory(dir=None if keep is False else new) as temporary_folder:
        artifact_folder = Path(temporary_folder) / "artifact"
        artifact_folder.mkdir()

        def write(record: Record) -> None:
            if record.status != "ok":  # A failed run may have filled the disk.
                shutil.rmtree(artifact_folder, ignore_errors=True)
            record.write(new)
            is_kept = folder_bytes(artifact_folder)[0] <= MAX_KEPT_BYTES if keep is None else keep
            if is_kept and record.status == "ok":
                artifact_folder.rename(new / record.id)

        yield artifact_folder, write


def _count_values(file: Path) -> int:
    """Return the number of values in a safetensors file, and 0 for any other file."""
    if file.suffix != ".safetensors":
        return 0
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
