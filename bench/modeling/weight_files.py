"""The weights of a model on disk: which files hold them and whether they are whole, read off headers, without torch."""

from __future__ import annotations

import json
import pickletools
import struct
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError

MODEL = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
LARGEST_HEADER = 100 * 2**20  # bytes; the format allows no more
# What a file of plain tensors names; torch's own list, which `weights_only=True` holds it to, is of this kind.
PLAIN = ("torch", "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.storage", "torch.serialization")
PLAIN_NAMES = frozenset({"collections OrderedDict", "collections Counter", "_codecs encode", "builtins set"})
SAVE_AGAIN = "save it again with save_pretrained, which writes safetensors"


@dataclass(frozen=True)
class TensorHeader:
    """What a header tells of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    """Bytes."""


def find_weight_files(folder: Path, names: Sequence[str] = MODEL) -> list[Path]:
    """The files that loading would read, safetensors before pickles; raises `UserError` where there are none, or one of
    those that an index names is not there.
    """
    first = next((folder / name for name in names if (folder / name).is_file()), None)
    if first is None:
        wanted = f"{names[0]} (or shards with {names[1]})" if names is MODEL else names[0]
        raise UserError("the model folder has no weights", location=str(folder), hint=f"it needs {wanted}")
    if first.suffix != ".json":
        return [first]
    shards = sorted(set(_index(first).values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(shards)} weight files are missing: {', '.join(missing[:3])}",
            location=str(first),
            hint="copy or download them again; the index names them",
        )
    return [folder / name for name in shards]


def check_weight_files(found: Iterable[Path]) -> None:
    """Refuse weight files that are cut off, broken, or more than tensors."""
    for file in found:
        if file.suffix == ".safetensors":
            read_tensor_headers(file)
        else:
            _check_pickle(file)


def read_tensor_headers(file: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file by name (https://github.com/huggingface/safetensors#format).

    Raises `UserError` if the file does not hold what its header says.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise _broken(file, f"{size:,} bytes do not hold a header of {length:,}")
        try:
            header = json.loads(content.read(length))
            header.pop("__metadata__", None)
            found = {name: _tensor(said) for name, said in header.items()}
            end = 8 + length + max((said["data_offsets"][1] for said in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _broken(file, "its header is no list of tensors") from None
    if end != size:
        raise _broken(file, f"the header tells of {end:,} bytes, the file has {size:,}")
    return found


def _tensor(said: dict[str, Any]) -> TensorHeader:
    begin, end = said["data_offsets"]
    return TensorHeader(said["dtype"], tuple(said["shape"]), end - begin)


def _index(file: Path) -> dict[str, str]:
    try:
        names = json.loads(file.read_text("utf-8"))["weight_map"]
        return {str(name): str(shard) for name, shard in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the index of the weights does not read: {error!r}", location=str(file), hint=SAVE_AGAIN
        ) from None


def _check_pickle(file: Path) -> None:
    """Refuse a file of torch that is cut off, or that would run more than the making of tensors."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [name for name in archive.namelist() if name.endswith("data.pkl")]
            named = {said for part in parts for said in _named(archive.read(part))}
    except (zipfile.BadZipFile, ValueError):
        raise _broken(file, "it is no whole file of torch 1.6 or later") from None
    strange = sorted(said for said in named if said.partition(" ")[0] not in PLAIN and said not in PLAIN_NAMES)
    if strange or not parts:
        raise UserError(
            f"the weights are a pickle that holds more than tensors: {', '.join(strange[:3]) or 'no tensors at all'}",
            location=str(file),
            hint="such a file can run code, so only plain tensors are read (weights_only); give safetensors",
        )


def _named(pickled: bytes) -> set[str]:
    """Every `module name` that a pickle would import; found without unpickling."""
    found = set()
    for code, argument, _ in pickletools.genops(pickled):
        if code.name in ("GLOBAL", "INST"):
            found.add(str(argument))
        elif code.name == "STACK_GLOBAL":  # torch writes none, and does not read them under weights_only
            found.add("a name made up while reading")
    return found


def _broken(file: Path, why: str) -> UserError:
    return UserError(
        f"the weights are cut off or broken: {why}", location=str(file), hint="copy or download the file again"
    )
