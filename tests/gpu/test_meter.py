"""Instruments of the GPU: memory, time, energy, operations per second, and errors when memory runs out."""

from __future__ import annotations

import time

import pytest

from bench.errors import UserError
from bench.measurement import device as devices
from bench.measurement import memory_limit
from bench.measurement.meter import MIB, Meter

pytestmark = pytest.mark.gpu


def allocate(mib: int, device: str) -> object:
    import torch

    return torch.ones(mib << 18, dtype=torch.float32, device=device)


def test_meter_reads_allocator_and_resets_peak(gpu: str) -> None:
    meter = Meter(gpu)
    with meter.phase("fit"):
        held = allocate(200, gpu)
        del held
    with meter.phase("predict"):
        allocate(20, gpu)
    fit, predict = meter.phases["fit"], meter.phases["predict"]
    assert meter.memory_source == "cuda-allocator"
    assert (fit.peak_mib or 0) - (fit.start_mib or 0) == pytest.approx(200, abs=2)
    assert (predict.peak_mib or 0) - (predict.start_mib or 0) == pytest.approx(20, abs=2)
    assert (fit.reserved_mib or 0) >= (fit.peak_mib or 0)


def test_meter_reserved_memory_belongs_to_its_phase(gpu: str) -> None:
    import torch

    meter = Meter(gpu)
    with meter.phase("fit"):
        held = allocate(400, gpu)
        del held
    torch.cuda.empty_cache()
    with meter.phase("predict"):
        allocate(20, gpu)
    assert (meter.phases["fit"].reserved_mib or 0) >= 400
    assert (meter.phases["predict"].reserved_mib or 0) < 400


def test_meter_counts_memory_held_across_phases(gpu: str) -> None:
    meter = Meter(gpu)
    with meter.phase("load"):
        weights = allocate(100, gpu)
    with meter.phase("fit"):
        allocate(50, gpu)
    load, fit = meter.phases["load"], meter.phases["fit"]
    assert (fit.start_mib or 0) - (load.start_mib or 0) == pytest.approx(100, abs=2)
    assert (fit.peak_mib or 0) - (load.start_mib or 0) == pytest.approx(150, abs=2)
    del weights


def test_meter_waits_for_the_work_of_the_device(device: str) -> None:
    import torch

    size, repeats = (8192, 40) if device == "cuda" else (256, 4)
    matrix = torch.rand(size, size, device=device)
    matrix @ matrix  # the first product loads the library
    meter = Meter(device)
    start = time.perf_counter()
    with meter.phase("fit"):
        for _ in range(repeats):
            matrix @ matrix
        queued_s = time.perf_counter() - start
    total_s = time.perf_counter() - start
    assert meter.phases["fit"].wall_s == pytest.approx(total_s, abs=0.05)
    if device == "cuda":
        assert meter.phases["fit"].wall_s > 2 * queued_s, "the phase ended before the products"


def test_meter_energy_grows_with_work_or_is_absent(device: str) -> None:
    import torch

    meter, matrix = Meter(device), torch.rand(1024, 1024, device=device)
    with meter.phase("work"):
        end = time.perf_counter() + 0.5  # counters are renewed several times a second
        while time.perf_counter() < end:
            float((matrix @ matrix).sum())
    joules = meter.phases["work"].energy_j
    assert joules is None or joules > 0


def test_gpus_are_those_of_torch(device: str) -> None:
    import torch

    assert devices.count_gpus() == torch.cuda.device_count()
    assert devices.torch_has_cuda() is (torch.version.cuda is not None)
    assert devices.torch_device("auto") == device


def test_check_device_knows_the_gpus_of_this_machine(gpu: str) -> None:
    for present in ("auto", "cpu", "cuda", "cuda:0"):
        devices.check_device(present)
    with pytest.raises(UserError, match="only 1 GPU found"):
        devices.check_device("cuda:9")


def test_allocation_beyond_the_device_is_out_of_memory(device: str) -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=device)
    assert memory_limit.is_out_of_memory(caught.value)
    assert "more requested" in memory_limit.describe_allocation(caught.value)


def test_allocation_beyond_the_limit_is_out_of_memory(gpu: str) -> None:
    import torch

    held = allocate(300, gpu)
    memory_limit.set_memory_limit(torch.cuda.memory_reserved() + 64 * MIB, gpu)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        allocate(512, gpu)
    assert memory_limit.is_out_of_memory(caught.value)
    words = memory_limit.describe_allocation(caught.value)
    assert "512.00 MiB more requested" in words
    in_use = float(words.split(" MiB in use")[0].split()[-1].replace(",", ""))
    assert 300 <= in_use < 700, "the memory of the GPU and not that of the process"
    memory_limit.lift_memory_limit()
    allocate(512, gpu)
    del held


def test_limit_that_is_already_held_is_out_of_memory(gpu: str) -> None:
    held = allocate(300, gpu)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        memory_limit.set_memory_limit(100 * MIB, gpu)
        allocate(20, gpu)
        allocate(200, gpu)
    assert memory_limit.is_out_of_memory(caught.value)
    del held


def test_run_halving_on_oom_answers_all_rows_under_a_limit(gpu: str) -> None:
    import torch

    memory_limit.set_memory_limit(torch.cuda.memory_reserved() + 130 * MIB, gpu)
    sizes = []

    def work(rows: object) -> list[int]:
        assert isinstance(rows, list)
        sizes.append(len(rows))
        allocate(30 * len(rows), gpu)
        return [10 * row for row in rows]

    assert memory_limit.run_halving_on_oom(work, list(range(16))) == [10 * row for row in range(16)]
    assert sizes == [16, 8, 4, 4, 8, 4, 4]
