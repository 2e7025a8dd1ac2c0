"""What a run has fitted, as files: how much it is, and where it stays if it is to be kept."""

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

OPAQUE = (".bin", ".pt", ".pth", ".pkl", ".joblib", ".npy", ".npz")


def save_prompt(folder: Path, prompt: str) -> None:
    """Write down what stands around a question, which is `{input}` in it."""
    (folder / "prompt.json").write_text(json.dumps({"prompt": prompt}, ensure_ascii=False, indent=1), "utf-8")


def save_numbers(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write NumPy arrays as safetensors; its own writer scrambles those that memory holds in another order."""
    from numpy import ascontiguousarray
    from safetensors.numpy import save_file

    save_file({name: ascontiguousarray(array) for name, array in arrays.items()}, file)


def folder_bytes(folder: Path) -> tuple[int, int | None]:
    """Bytes in a folder, and numbers in its safetensors files; None where files of another kind may hold some too."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    kept = None if any(file.suffix in OPAQUE for file in files) else sum(map(_numbers_in, files))
    return sum(file.stat().st_size for file in files), kept


@contextmanager
def record_writer(out: Path, id: str, keep: bool) -> Iterator[tuple[Path, Callable[[Record], None]]]:
    """An empty folder to save into, and what writes a run's record, with the folder beside it if it is to be kept.

    Record and folder are each put in place whole, the folder last: there is none that is not of its record's run.
    """
    mark = f".{id}.kept."
    for left in out.glob(f"{mark}*"):  # by a process that died
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=mark, dir=out if keep else None) as scratch:
        saved = Path(scratch) / "artifact"
        saved.mkdir()

        def write(record: Record) -> None:
            record.write(out)
            if keep and record.status == "ok":
                saved.rename(out / record.id)

        yield saved, write


def _numbers_in(file: Path) -> int:
    """How many numbers a safetensors file holds; none in a file of another kind."""
    if file.suffix != ".safetensors":
        return 0
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
