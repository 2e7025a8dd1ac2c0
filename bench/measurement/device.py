"""The device that a run computes on: whether it is there, told without torch, and how a worker sees it alone."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
from pathlib import Path

from bench.errors import UserError

VALID = "auto, cpu, cuda, cuda:0, mps"


def check_device(asked: str) -> None:
    """Refuse a device that is not here; `auto` is the first GPU of CUDA, or else the CPU."""
    if asked in ("auto", "cpu"):
        return
    mend = "--device auto takes what is there"
    if asked == "mps":
        if (sys.platform, platform.machine()) != ("darwin", "arm64"):
            raise UserError("--device mps: this is no Mac with Apple silicon", hint=mend)
        return
    number = re.fullmatch(r"cuda(?::(\d+))?", asked)
    if number is None:
        raise UserError(f"--device {asked}: there is no such device", hint=f"Valid: {VALID}, …")
    if not _torch_has_cuda():
        raise UserError(
            f"--device {asked}: the installed torch is built without CUDA",
            hint=f"{mend}; or install torch's CUDA build",
        )
    count = count_gpus()
    if int(number[1] or 0) >= count:
        there = f"{count} GPU{'s are' if count > 1 else ' is'}" if count else "no GPU is"
        raise UserError(f"--device {asked}: {there} here", hint=mend)


def visible_gpu_environment(asked: str) -> dict[str, str]:
    """What a worker's environment says so that it sees that device and no other.

    A trainer that sees several GPUs would use them all, and runs would not be of one device.
    """
    if asked in ("cpu", "mps"):
        return {"CUDA_VISIBLE_DEVICES": ""}
    number = int(asked.partition(":")[2] or 0)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    # In the order of the bus, as NVML and nvidia-smi count them.
    chosen = str(number) if shown is None else shown.split(",")[number].strip()
    return {"CUDA_VISIBLE_DEVICES": chosen, "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}


def torch_device(asked: str, number: int | None = None) -> str:
    """Torch's name of the device, in a worker; several of them on one machine each take the GPU of their `number`."""
    import torch

    if asked == "mps":
        return "mps"
    if torch.cuda.is_available() and number is not None:
        torch.cuda.set_device(number)
        return f"cuda:{number}"
    if torch.cuda.is_available():
        return "cuda"
    if asked.startswith("cuda"):
        raise RuntimeError(f"--device {asked}: torch finds no GPU in the worker")
    return "cpu"


def is_same_device(asked: str, made_on: str) -> bool:
    """Whether a run made on `made_on` (`cpu`, `mps` or a GPU's name) is what was asked for."""
    kind = asked.partition(":")[0]
    return kind == "auto" or made_on == kind or (kind == "cuda" and made_on not in ("cpu", "mps"))


def count_gpus() -> int:
    """GPUs that the CUDA driver shows; it honours CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def _torch_has_cuda() -> bool:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    built = (Path(spec.origin).parent / "version.py").read_text("utf-8")
    return re.search(r"^cuda\b[^=]*= *None", built, re.MULTILINE) is None
