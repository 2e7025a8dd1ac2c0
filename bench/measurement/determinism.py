"""Seeds of a run, deterministic algorithms on CUDA, and the operations that have none.

Equal settings give equal answers only if every operation gives equal results. On the CPU those of torch do, with the
same number of threads. On CUDA some add numbers in an order that changes, and torch has deterministic algorithms for
most of them (https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html). Where there is
none, torch warns, and the record says that the run was not deterministic.
"""

from __future__ import annotations

import os
import random
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable that cuBLAS reads once, before the first product."""
DETERMINISTIC_CUBLAS = ":4096:8"
NOT_DETERMINISTIC = re.compile(
    r"does not have a deterministic implementation|non-deterministic algorithm|operation is not deterministic"
)
"""Part of all warnings and errors of torch about an operation without a deterministic algorithm."""

Result = TypeVar("Result")


def seed_all(seed: int) -> None:
    """Seed the generators of Python and, if they are imported, NumPy and PyTorch.

    A library that is not imported yet stays so, because importing it takes seconds.
    """
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


class DeterminismWatch:
    """Operations of a run that had no deterministic algorithm.

    While it is active, torch uses deterministic algorithms where they exist.
    """

    def __init__(self) -> None:
        self.operations: list[str] = []
        """Names of the operations, or what torch calls them, in the order of their first use."""
        self.can_be_strict = True
        """False once a training step has needed an operation without a deterministic algorithm."""

    def note(self, message: str) -> None:
        """Note the operation that a warning or an error of torch names, if there is one."""
        match = NOT_DETERMINISTIC.search(message)
        if match is None:
            return
        subject = "cuBLAS" if "CuBLAS" in message else message[: match.start()].split("defaults to")[0]
        name = " ".join(subject.split()) or "an operation"
        if name not in self.operations:
            self.operations.append(name)


_watches: list[DeterminismWatch] = []
"""The watch of this process, once it is active."""


def cublas_environment() -> dict[str, str]:
    """Return the environment variables with which the products of cuBLAS are deterministic.

    A setting of the user takes precedence.
    """
    return {CUBLAS_VARIABLE: os.environ.get(CUBLAS_VARIABLE, DETERMINISTIC_CUBLAS)}


def use_deterministic_algorithms(device: str) -> DeterminismWatch | None:
    """Let torch use deterministic algorithms on CUDA, and watch for operations that have none.

    Args:
        device: Torch device name.

    Returns:
        The watch; None on other devices, where nothing is changed.
    """
    if device.partition(":")[0] != "cuda":
        return None
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False  # it would cost time and change no result
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # The backward pass of cuDNN's attention is not deterministic either, and torch does not warn of it;
    # `device.torch_device` leaves that attention out.
    watch = DeterminismWatch()
    _watches[:] = [watch]
    _watch_warnings(watch)
    return watch


def run_strictly(step: Callable[[], Result], undo: Callable[[], None]) -> Result:
    """Run a forward and backward pass with deterministic algorithms only, if it can be done.

    Attention has a deterministic backward pass that torch uses only if operations without a deterministic algorithm are
    errors. So the first such error is noted, and the pass is repeated with warnings in place of errors.

    Args:
        step: The pass.
        undo: Removes what a failed pass has left behind.
    """
    watch = _watches[-1] if _watches else None
    if watch is None or not watch.can_be_strict:
        return step()
    import torch

    torch.use_deterministic_algorithms(True)
    try:
        return step()
    except RuntimeError as error:
        message = str(error)
        if NOT_DETERMINISTIC.search(message) is None:
            raise
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
    watch.can_be_strict = False
    watch.note(message)
    undo()
    return step()


def _watch_warnings(watch: DeterminismWatch) -> None:
    """Let the watch note every warning on determinism from now on, which is not shown."""
    warnings.filterwarnings("always", message=f"(?s).*({NOT_DETERMINISTIC.pattern})")
    show: Any = warnings.showwarning

    def note_and_show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if NOT_DETERMINISTIC.search(str(message)):
            watch.note(str(message))
        else:
            show(message, *args, **kwargs)

    warnings.showwarning = note_and_show
