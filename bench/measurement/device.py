"""Devices that a run computes on, checked without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
from pathlib import Path
from typing import Literal

from bench.errors import UserError
from bench.i18n import Message

DEVICE_EXAMPLES = "auto, cpu, cuda, cuda:0, mps"
AUTO_DTYPE = "auto"
BFLOAT16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is that of ARM
BFLOAT16_GPU_GENERATION = 8  # Ampere, from the RTX 30 series and the A100 on
COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR


def check_device(device: str) -> None:
    """Check that the device named by `--device` is present.

    Args:
        device: `auto` (the first CUDA GPU, or else the CPU), `cpu`, `cuda`, `cuda:<index>` or `mps`.

    Raises:
        UserError: If there is no such device here, or torch cannot use it.
    """
    if device in ("auto", "cpu"):
        return
    hint = Message("use --device auto to take the first GPU, or else the CPU")
    if device == "mps":
        if (sys.platform, platform.machine()) != ("darwin", "arm64"):
            raise UserError(Message("--device mps: this machine is not a Mac with Apple silicon"), hint=hint)
        return
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise UserError(
            Message("--device {device}: unknown device", device=device),
            hint=Message("valid: {names}, …", names=DEVICE_EXAMPLES),
        )
    if not torch_has_cuda():
        raise UserError(
            Message("--device {device}: the installed torch is built without CUDA", device=device),
            hint=Message("{hint}; or install the CUDA build of torch", hint=hint),
        )
    gpus = count_gpus()
    if int(match[1] or 0) >= gpus:
        if gpus:
            number = Message("1 GPU") if gpus == 1 else Message("{number} GPUs", number=gpus)
            problem = Message("--device {device}: only {gpus} found", device=device, gpus=number)
        else:
            problem = Message("--device {device}: no GPU found", device=device)
        raise UserError(problem, hint=hint)


def visible_gpu_environment(device: str) -> dict[str, str]:
    """Return the environment variables that show a worker this device and no other GPU.

    Trainers use all GPUs that they see, so the run would not be on one device otherwise.
    """
    if device in ("cpu", "mps"):
        return {"CUDA_VISIBLE_DEVICES": ""}
    index = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpu = str(index) if visible is None else visible.split(",")[index].strip()
    # NVML and nvidia-smi number the GPUs in the order of the bus, and the energy counter has to find the same GPU.
    return {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}


def torch_device(device: str, local_rank: int | None = None) -> str:
    """Return torch's name of the device, and set what its computation needs.

    Args:
        device: Value of `--device`.
        local_rank: Rank of this process on the machine, which takes the GPU of that index; None for a single process.

    Raises:
        RuntimeError: If a GPU is required and torch finds none.
    """
    import torch

    if device == "mps":
        return "mps"
    if torch.cuda.is_available():
        # cuDNN compiles a plan for each new shape of attention, and generating has a new shape with every token.
        torch.backends.cuda.enable_cudnn_sdp(False)
        if local_rank is None:
            return "cuda"
        torch.cuda.set_device(local_rank)
        return f"cuda:{local_rank}"
    if device.startswith("cuda"):
        raise RuntimeError(f"--device {device}: torch finds no GPU in the worker")
    return "cpu"


def device_name(device: str) -> str:
    """Return the name of the GPU, or torch's name of another device."""
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def is_same_device(requested: str, recorded: str) -> bool:
    """Tell if a recorded run was made on the requested device.

    Args:
        requested: Value of `--device`.
        recorded: `cpu`, `mps` or the name of a GPU, as in the record.
    """
    kind = requested.partition(":")[0]
    return kind == "auto" or recorded == kind or (kind == "cuda" and recorded not in ("cpu", "mps"))


def count_gpus() -> int:
    """Return the number of GPUs that the CUDA driver shows; CUDA_VISIBLE_DEVICES is respected."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def gpu_generation(index: int = 0) -> int:
    """Return the major number of a GPU's compute capability; 0 without that GPU."""
    if index >= count_gpus():
        return 0
    driver = ctypes.CDLL("libcuda.so.1")
    gpu, major = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuDeviceGet(ctypes.byref(gpu), index) != 0:
        return 0
    is_known = driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, gpu) == 0
    return major.value if is_known else 0


def cpu_flags() -> frozenset[str]:
    """Return the names of the processor's instruction sets; none if Linux does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(" ".join(listed[:1]).split())


def fast_dtype(device: str) -> Literal["float32", "bfloat16"]:
    """Return the data type of `--dtype auto`.

    It is bfloat16 where the device has units for it, else float32. Other processors convert it, which is slower.

    Args:
        device: Value of `--device`.
    """
    kind, _, index = device.partition(":")
    if kind in ("auto", "cuda") and torch_has_cuda() and count_gpus():
        is_fast = gpu_generation(int(index or 0)) >= BFLOAT16_GPU_GENERATION
    else:
        is_fast = kind in ("auto", "cpu") and bool(cpu_flags() & BFLOAT16_CPU_FLAGS)
    return "bfloat16" if is_fast else "float32"


def torch_has_cuda() -> bool:
    """Tell if the installed torch is built with CUDA.

    The answer is read from `torch/version.py`, because importing torch takes seconds. torch is imported only if that
    file is missing or has no line for CUDA.
    """
    spec = importlib.util.find_spec("torch")
    version_file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    try:
        source = version_file.read_text("utf-8") if version_file else ""
    except OSError:
        source = ""
    cuda_line = re.search(r"^cuda\b[^=\n]*=\s*(\S+)", source, re.MULTILINE)
    if cuda_line is not None:
        return cuda_line[1] != "None"
    import torch

    return torch.version.cuda is not None
