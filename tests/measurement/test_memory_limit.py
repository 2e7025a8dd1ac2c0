"""The memory limit: what fits is allowed, the rest is an error, and batches are halved when memory runs out."""

from __future__ import annotations

import errno
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import UserError
from bench.execution import budget
from bench.measurement import memory_limit
from bench.modeling.checkpoint import Checkpoint
from bench.testing import QUESTIONS, tiny_training_data

PROMPTS = [tiny_training_data().prompt(question) for question in QUESTIONS]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux sets the limit")


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2**31), ("1.5 gib", 3 * 2**29), ("500MB", 500_000_000), ("4096", 4096)]
)
def test_budget_memory_accepts_usual_units(text: str, size: int) -> None:
    assert budget.parse_budget(f"standard,memory={text}").memory == size


@pytest.mark.parametrize("text", ["lots", "2 apples", "-1GiB", "0"])
def test_budget_memory_invalid_amount_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match="memory"):
        budget.parse_budget(f"standard,memory={text}")


@pytest.mark.parametrize(("limit_bytes", "fraction"), [(2**30, 0.5), (2**31, 1.0), (2**40, 1.0)])
def test_set_memory_limit_on_cuda_is_a_fraction_of_the_device(
    limit_bytes: int, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fractions: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**31))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda value, *device: fractions.append(value))
    memory_limit.set_memory_limit(limit_bytes, "cuda")
    assert fractions == [fraction]
    assert isinstance(fractions[0], float)  # torch raises TypeError for an int


@linux
@pytest.mark.parametrize(("free_mib", "fits"), [(300, True), (60, False)])
def test_memory_limit_allows_what_fits_and_no_more(free_mib: int, fits: bool) -> None:
    script = f"""
import torch
from bench.measurement import memory_limit
from bench.measurement.environment import process_memory
torch.ones(10)
memory_limit.set_memory_limit(process_memory("VmRSS") + {free_mib} * 2**20, "cpu")
try:
    torch.ones(100 * 2**18)
    print("fits")
except RuntimeError as error:
    print(memory_limit.is_out_of_memory(error), memory_limit.describe_allocation(error))
memory_limit.lift_memory_limit()
torch.ones(100 * 2**18)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.startswith("fits" if fits else "True")
    assert fits or output.rstrip().endswith("MiB in use, 100 MiB more requested")


@linux
def test_free_bytes_are_what_the_limit_leaves() -> None:
    script = """
import torch
from bench.measurement import memory_limit
from bench.measurement.environment import process_memory
torch.ones(10)
print(memory_limit.free_bytes("cpu"))
memory_limit.set_memory_limit(process_memory("VmRSS") + 300 * 2**20, "cpu")
print(memory_limit.free_bytes("cpu") // 2**20)
held = torch.ones(100 * 2**18)
print(memory_limit.free_bytes("cpu") // 2**20)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    unlimited, before, after = output.split()
    assert unlimited == "None"
    assert int(before) == pytest.approx(300, abs=20)
    assert int(after) == pytest.approx(200, abs=20)


@pytest.mark.parametrize(
    ("free", "fraction", "expected"),
    [(6, 1.0, 7), (6, 0.5, 5), (1, 1.0, 2)],  # GiB; a card of 16 GiB, of which this process holds 3 and reserves 4
)
def test_free_bytes_on_cuda_are_within_card_and_limit(
    free: int, fraction: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free * 2**30, 16 * 2**30))
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 3 * 2**30)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 4 * 2**30)
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda device: fraction)
    assert memory_limit.free_bytes("cuda:0") == expected * 2**30


@linux
def test_memory_limit_below_memory_in_use_is_out_of_memory() -> None:
    with pytest.raises(MemoryError, match="before a model is loaded"):
        memory_limit.set_memory_limit(2**20, "cpu")


def test_memory_limit_on_cuda_leaves_room_for_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    fractions: list[float] = []
    card = SimpleNamespace(total_memory=16 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: card)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda fraction, *_: fractions.append(fraction))
    memory_limit.set_memory_limit(8 * 2**30, "cuda")
    memory_limit.set_memory_limit(8 * 2**30, "cuda", context_bytes=2 * 2**30)
    memory_limit.set_memory_limit(32 * 2**30, "cuda:1", context_bytes=2 * 2**30)
    assert fractions == [0.5, 0.375, 1]
    with pytest.raises(MemoryError, match="the CUDA context takes 2048 MiB; the limit is 1024 MiB"):
        memory_limit.set_memory_limit(2**30, "cuda", context_bytes=2 * 2**30)


def test_out_of_memory_halved_batches_give_same_results(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    pairs = [lm.encode(prompt, " warm") for prompt in PROMPTS]
    answers, losses = lm.generate(PROMPTS), lm.evaluate_loss(pairs)
    batch_sizes = []

    def fail_on_large_batch(module: Any, args: Any, kwargs: Any) -> None:
        batch_sizes.append(len(kwargs["input_ids"]))
        if batch_sizes[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    lm.model.register_forward_pre_hook(fail_on_large_batch, with_kwargs=True)
    assert lm.generate(PROMPTS) == answers
    assert max(batch_sizes) > 2 and 2 in batch_sizes
    batch_sizes.clear()
    assert lm.evaluate_loss(pairs) == pytest.approx(losses, rel=1e-4)
    assert max(batch_sizes) > 2 and min(batch_sizes) <= 2


def test_run_halving_on_oom_passes_other_errors_on() -> None:
    def fail(rows: Any) -> Any:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        memory_limit.run_halving_on_oom(fail, [1, 2])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("ncclUnhandledCudaError: Call to CUDA failed. Last error:\nCuda failure 2 'out of memory'"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)"),
        RuntimeError("HIP error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("unable to mmap 123 bytes from file <weights>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
        Exception("Cannot allocate memory (os error 12)"),
        ExceptionGroup("ranks", [ValueError("no"), MemoryError()]),
    ],
    ids=str,
)
def test_out_of_memory_is_recognized_in_all_words(error: Exception) -> None:
    assert memory_limit.is_out_of_memory(error)
    try:
        raise ValueError("the batch cannot be computed") from error
    except ValueError as wrapped:
        assert memory_limit.is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("out of resource: shared memory, Required: 147456, Hardware limit: 101376"),
        ValueError("the answer 'CUDA out of memory' is no label"),
        OSError(errno.ENOENT, "No such file or directory"),
        ImportError("libgomp.so.1: cannot allocate memory in static TLS block"),
    ],
    ids=str,
)
def test_other_errors_are_not_out_of_memory(error: Exception) -> None:
    assert not memory_limit.is_out_of_memory(error)


def fake_cuda(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Let torch appear to hold 3 MiB of tensors in 5 MiB of a GPU."""
    defaults = {"memory_allocated": lambda: 3 * 2**20, "memory_reserved": lambda: 5 * 2**20}
    defaults["is_initialized"] = lambda: True
    for name, function in (defaults | functions).items():
        monkeypatch.setattr(torch.cuda, name, function)


def test_describe_allocation_tells_memory_of_what_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch)
    on_device = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    held = "3 MiB in use on the device (5 MiB reserved)"
    assert memory_limit.describe_allocation(on_device) == f"{held}, 2.00 GiB more requested"
    assert memory_limit.describe_allocation(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")) == held
    on_host = MemoryError("Unable to allocate 1.00 TiB for an array with shape (1099511627776,)")
    assert "on the device" not in memory_limit.describe_allocation(on_host)
    assert memory_limit.describe_allocation(on_host).endswith("1.00 TiB more requested")

    def fail() -> int:
        raise RuntimeError("CUDA error: unspecified launch failure")

    fake_cuda(monkeypatch, memory_allocated=fail)
    assert memory_limit.describe_allocation(on_device) == "2.00 GiB more requested"


def test_memory_limit_on_cuda_is_set_and_lifted_as_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    fractions: list[float] = []
    properties = SimpleNamespace(total_memory=2**34)
    fake_cuda(
        monkeypatch,
        get_device_properties=lambda device: properties,
        set_per_process_memory_fraction=lambda fraction, *_: fractions.append(fraction),
    )
    memory_limit.set_memory_limit(2**32, "cuda:0")
    memory_limit.lift_memory_limit()
    assert fractions == [0.25, 1.0]


def test_run_halving_on_oom_frees_cached_memory_for_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    fake_cuda(monkeypatch, empty_cache=lambda: events.append("freed"))

    def work(rows: Any) -> Any:
        events.append(len(rows))
        if len(rows) > 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return rows

    assert memory_limit.run_halving_on_oom(work, [3, 4]) == [3, 4]
    assert events == [2, "freed", 1, 1]
