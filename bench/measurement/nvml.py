"""GPUs as NVML numbers them: the handle of torch's device, and the memory in use on it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any


def gpu_handle(torch_index: int) -> tuple[Any, Any]:
    """Return the module `pynvml` and its handle of a GPU.

    NVML numbers all GPUs of the machine, but torch only those in CUDA_VISIBLE_DEVICES, which may name them by UUID.

    Args:
        torch_index: Torch's index of the GPU.
    """
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    gpu = visible[torch_index] if len(visible) > torch_index and visible[torch_index] else str(torch_index)
    get_handle = nvml.nvmlDeviceGetHandleByIndex if gpu.isdecimal() else nvml.nvmlDeviceGetHandleByUUID
    return nvml, get_handle(int(gpu) if gpu.isdecimal() else gpu)


def used_bytes_reader(device: str) -> Callable[[], int] | None:
    """Return a function that reads the bytes in use on a GPU; None without NVML.

    The bytes are those of all programs.

    Args:
        device: Torch device name.
    """
    try:
        nvml, handle = gpu_handle(int(device.partition(":")[2] or 0))
        nvml.nvmlDeviceGetMemoryInfo(handle)
    except Exception:  # NVML is not installed, or its driver raises errors of its own types
        return None
    return lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
