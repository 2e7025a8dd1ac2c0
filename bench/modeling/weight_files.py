"""Weight files of a model folder, checked by their headers without loading weights."""

from __future__ import annotations

import json
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.i18n import Message

# In the order in which `from_pretrained` looks for them: safetensors before pickles.
MODEL_WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER_WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
MAX_HEADER_BYTES = 100 * 2**20  # limit of the safetensors format
# A pickle of tensors imports nothing else. `weights_only=True` of torch applies a similar list when loading.
ALLOWED_PICKLE_MODULES = (
    "torch",
    "torch._utils",
    "torch._tensor",
    "torch.nn.parameter",
    "torch.storage",
    "torch.serialization",
)
ALLOWED_PICKLE_GLOBALS = frozenset({"collections OrderedDict", "collections Counter", "_codecs encode", "builtins set"})
SAVE_AGAIN_HINT = Message("save the model again with save_pretrained, which writes safetensors")


@dataclass(frozen=True)
class TensorHeader:
    """Header entry of one tensor in a safetensors file."""

    dtype: str
    """Data type as the format names it, such as `F32` or `BF16`."""
    shape: tuple[int, ...]


def find_weight_files(folder: Path, names: Sequence[str] = MODEL_WEIGHT_NAMES) -> list[Path]:
    """Find the weight files that `from_pretrained` would load.

    Args:
        folder: The model folder.
        names: File names in the order of preference. A `.json` name is an index that lists shards.

    Raises:
        UserError: No weight file exists, or a shard that the index lists is missing.
    """
    first = next((folder / name for name in names if (folder / name).is_file()), None)
    if first is None:
        expected = (
            Message("{file} (or shards with {index})", file=names[0], index=names[1])
            if names is MODEL_WEIGHT_NAMES
            else names[0]
        )
        raise UserError(
            Message("the model folder has no weights"),
            location=str(folder),
            hint=Message("it needs {expected}", expected=expected),
        )
    if first.suffix != ".json":
        return [first]
    shards = sorted(set(_read_index(first).values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            Message(
                "{number} of {shards} weight files are missing: {names}",
                number=len(missing),
                shards=len(shards),
                names=", ".join(missing[:3]),
            ),
            location=str(first),
            hint=Message("copy or download them again; the index file lists them"),
        )
    return [folder / name for name in shards]


def check_weight_files(files: Iterable[Path]) -> None:
    """Check that weight files are complete and hold nothing but tensors.

    Raises:
        UserError: A file is truncated, damaged, or a pickle that could run code.
    """
    for file in files:
        if file.suffix == ".safetensors":
            read_tensor_headers(file)
        else:
            _check_pickle(file)


def read_tensor_headers(file: Path) -> dict[str, TensorHeader]:
    """Read the tensor names, types and shapes of a safetensors file.

    The format: https://github.com/huggingface/safetensors#format

    Returns:
        Header entries by tensor name.

    Raises:
        UserError: The header is invalid or the file size differs from what the header says.
    """
    file_bytes = file.stat().st_size
    with file.open("rb") as content:
        prefix = content.read(8)
        header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, file_bytes - 8):
            raise _damaged_error(file, f"{file_bytes:,} bytes cannot hold a header of {header_bytes:,} bytes")
        try:
            entries = json.loads(content.read(header_bytes))
            entries.pop("__metadata__", None)
            headers = {name: TensorHeader(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
            data_bytes = max((_end_offset(entry) for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _damaged_error(file, "the header is not a list of tensors") from None
    expected_bytes = 8 + header_bytes + data_bytes
    if expected_bytes != file_bytes:
        raise _damaged_error(file, f"the header describes {expected_bytes:,} bytes, the file has {file_bytes:,}")
    return headers


def stored_bytes(files: Iterable[Path], weights: Container[str], dtype_bytes: int) -> int:
    """Return the bytes of the tensors of weight files once loaded, quantized ones as stored.

    Args:
        files: Weight files; of one that is not safetensors, the size of the file.
        weights: Names of the tensors that are cast if they hold floating-point numbers.
        dtype_bytes: Bytes of a number after the cast.
    """
    total = 0
    for file in files:
        if file.suffix != ".safetensors":
            total += file.stat().st_size
            continue
        for name, header in read_tensor_headers(file).items():
            bits = re.search(r"\d+", header.dtype)
            is_cast = name in weights and header.dtype in ("F16", "BF16", "F32", "F64")
            total += math.prod(header.shape) * (dtype_bytes if is_cast else int(bits[0]) // 8 if bits else 1)
    return total


def _end_offset(entry: dict[str, Any]) -> int:
    _, end = entry["data_offsets"]
    return int(end)


def _read_index(file: Path) -> dict[str, str]:
    """Read the shard of each tensor from an index file."""
    try:
        shards = json.loads(file.read_text("utf-8"))["weight_map"]
        return {str(tensor): str(shard) for tensor, shard in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            Message("the index of the weight files cannot be read: {problem!r}", problem=error),
            location=str(file),
            hint=SAVE_AGAIN_HINT,
        ) from None


def _check_pickle(file: Path) -> None:
    """Raise `UserError` for a torch file that is truncated or imports more than tensors."""
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            imported = {name for pickle in pickles for name in _imported_globals(archive.read(pickle))}
    except (zipfile.BadZipFile, ValueError):
        raise _damaged_error(file, "not a complete file of torch 1.6 or later") from None
    forbidden = sorted(
        name
        for name in imported
        if name.partition(" ")[0] not in ALLOWED_PICKLE_MODULES and name not in ALLOWED_PICKLE_GLOBALS
    )
    if forbidden or not pickles:
        contents = ", ".join(forbidden[:3]) or "no tensors at all"
        raise UserError(
            Message("the weights are a pickle that holds more than tensors: {contents}", contents=contents),
            location=str(file),
            hint=Message("a pickle can run code, so only plain tensors are loaded (weights_only); use safetensors"),
        )


def _imported_globals(pickled: bytes) -> set[str]:
    """List every `module name` that a pickle would import, without unpickling it."""
    names = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            names.add(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            # Torch never writes this opcode, and `weights_only` does not load it.
            names.add("a name computed while loading")
    return names


def _damaged_error(file: Path, reason: str) -> UserError:
    return UserError(
        Message("the weight file is truncated or damaged: {reason}", reason=reason),
        location=str(file),
        hint=Message("copy or download it again"),
    )
