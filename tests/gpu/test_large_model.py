"""Memory with a model that is large enough for it to matter: forecasts, limits, loading, batch sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.measurement import memory_estimate, memory_limit
from bench.measurement.meter import MIB, Meter
from bench.records import Phase, Record
from gpu.conftest import RunMethod, held_bytes, load_checkpoint, method_module, release_memory

pytestmark = pytest.mark.gpu

BATCH = 16
BUDGET = f"steps=3,examples={3 * BATCH},batch={BATCH},new_tokens=4"
Run = Callable[..., Record]


@pytest.fixture(scope="module")
def run(run_method: RunMethod, make_small_task: Callable[[str], Path], large_model: Path) -> Run:
    """Run a method with the large model, or return the record if the same was run before."""
    records: dict[tuple[str, str, int | None], Record] = {}

    def run_once(method: str, dtype: str = "float32", limit: int | None = None) -> Record:
        key = method, dtype, limit
        if key not in records:
            budget = BUDGET if limit is None else f"{BUDGET},memory={limit}"
            records[key] = run_method(method, make_small_task("bookrec"), model=large_model, dtype=dtype, budget=budget)
        return records[key]

    return run_once


def phase(record: Record, name: str) -> Phase:
    assert record.cost is not None and name in record.cost.phases, record.error
    return record.cost.phases[name]


def peak_mib(record: Record, name: str) -> float:
    peak = phase(record, name).peak_mib
    assert peak is not None
    return peak


def loaded_mib(record: Record) -> float:
    """Return the MiB of the model as loaded."""
    load = phase(record, "load")
    assert load.estimated_mib is not None and load.start_mib is not None
    return load.estimated_mib - load.start_mib


def micro_batch(record: Record) -> int | None:
    assert record.cost is not None and record.cost.budget_usage is not None
    return record.cost.budget_usage.micro_batch


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_forecast_of_training_is_within_15_percent(method: str, dtype: str, run: Run, device: str) -> None:
    record = run(method, dtype)
    assert record.status == "ok", record.error
    fit = phase(record, "fit")
    assert fit.estimated_mib is not None and fit.peak_mib is not None
    if device == "cuda":  # on a CPU the libraries and the heap weigh more than this model
        assert fit.estimated_mib == pytest.approx(fit.peak_mib, rel=0.15)


@pytest.mark.parametrize(("method", "dtype"), [("full", "float32"), ("lora", "bfloat16")])
def test_forecast_of_loading_is_within_15_percent(method: str, dtype: str, run: Run, gpu: str) -> None:
    load = phase(run(method, dtype), "load")
    assert load.estimated_mib == pytest.approx(load.peak_mib, rel=0.15)


def test_qlora_needs_less_memory_than_lora_and_lora_less_than_full(run: Run, gpu: str) -> None:
    for dtype in ("float32", "bfloat16"):
        peaks = [peak_mib(run(method, dtype), "predict") for method in ("qlora", "lora")]
        assert peaks == sorted(peaks)
    peaks = [peak_mib(run(method), "fit") for method in ("qlora", "lora", "full")]
    assert peaks == sorted(peaks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_optimizer_state_is_freed_before_answering(dtype: str, run: Run, gpu: str) -> None:
    trained = run("full", dtype)
    held_mib = (phase(trained, "predict").start_mib or 0) - (phase(trained, "load").start_mib or 0)
    # The optimizer holds eight bytes for each weight, and gradients are as large as the weights.
    assert held_mib <= 1.2 * loaded_mib(trained)


def test_memory_limit_makes_the_micro_batch_smaller(run: Run, device: str) -> None:
    free = run("lora")
    assert micro_batch(free) == BATCH
    added = peak_mib(free, "fit") - (phase(free, "fit").start_mib or 0)
    limit = int(held_bytes(device) + (loaded_mib(free) + 0.4 * added + 160) * MIB)
    capped = run("lora", limit=limit)
    assert capped.status == "ok", capped.error
    if device == "cuda":
        assert 1 <= (micro_batch(capped) or 0) < BATCH
        assert peak_mib(capped, "fit") * MIB < limit
    first, second = (record.curve[-1].validation_loss or math.nan for record in (free, capped))
    assert first == pytest.approx(second, rel=0.02)


def test_memory_limit_below_the_weights_is_did_not_fit(run: Run, gpu: str) -> None:
    weights = loaded_mib(run("full"))
    check_did_not_fit(run("full", limit=held_bytes(gpu) + int(0.5 * weights * MIB)))


def test_memory_limit_below_training_is_did_not_fit(run: Run, gpu: str) -> None:
    weights = loaded_mib(run("full"))
    record = run("full", limit=held_bytes(gpu) + int(2.5 * weights * MIB))
    check_did_not_fit(record)
    assert record.error is not None
    needed = re.search(r"training takes ([\d,]+) MiB", record.error.message)
    assert needed is not None, record.error.message
    # The weights, their gradients and two moments, for one row at a time.
    assert 4 * weights <= float(needed[1].replace(",", "")) <= 1.05 * peak_mib(run("full"), "fit")


def check_did_not_fit(record: Record) -> None:
    """Assert that a record says that memory ran out, and how much was held and requested."""
    assert record.status == "did-not-fit", record.error
    assert record.error is not None and record.cost is not None and record.env is not None
    assert re.search(r"[\d.,]+ [KMG]iB in use.*, [\d.,]+ [KMG]iB more requested", record.error.message)
    assert not record.samples and not record.scores
    assert "load" in record.cost.phases


def test_run_after_one_that_did_not_fit_is_not_limited(
    run: Run, run_method: RunMethod, make_small_task: Callable[[str], Path], large_model: Path, device: str
) -> None:
    limit = held_bytes(device) + 8 * MIB if device == "cuda" else MIB
    tight = f"{BUDGET},memory={limit}"
    assert run_method("zero-shot", make_small_task("kdc"), model=large_model, budget=tight).status == "did-not-fit"
    assert run_method("zero-shot", make_small_task("kdc"), model=large_model, budget=BUDGET).status == "ok"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_holds_no_second_copy_in_host_memory(dtype: str, large_model: Path, device: str) -> None:
    checkpoint = load_checkpoint(large_model, device, dtype)
    checkpoint.load()  # so that libraries are loaded and files are read
    release_memory(device)
    meter = Meter("cpu")
    with meter.phase("load"):
        lm: Any = checkpoint.load()
    load = meter.phases["load"]
    added = (load.peak_mib or 0) - (load.start_mib or 0)
    float32_mib = 4 * lm.count_parameters()[0] / MIB
    if device == "cuda":  # the pages of the file are half as large; a copy in float32 would come on top
        assert added < 0.8 * float32_mib


def test_loaded_weights_are_on_the_device_in_their_dtype(large_model: Path, device: str) -> None:
    import torch

    for dtype in ("float32", "bfloat16"):
        lm: Any = load_checkpoint(large_model, device, dtype).load()
        assert {weight.dtype for weight in lm.model.parameters()} == {getattr(torch, dtype)}
        assert {tensor.device.type for tensor in (*lm.model.parameters(), *lm.model.buffers())} == {device}


def test_answering_batches_of_a_4_bit_model_are_not_smaller(large_model: Path, device: str) -> None:
    checkpoint = load_checkpoint(large_model, device)
    models = [registry.find_method(name)().load(checkpoint).model for name in ("lora", "qlora")]
    assert memory_estimate.model_bytes(models[1]) < memory_estimate.model_bytes(models[0])
    for length in (64, 256, 1000):
        rows, quantized_rows = (memory_estimate.max_batch_rows(model, length) for model in models)
        assert quantized_rows >= rows


def test_forecast_of_answering_is_no_less_than_half_of_what_it_takes(run: Run, gpu: str) -> None:
    predict = phase(run("lora"), "predict")
    assert predict.estimated_mib is not None and predict.peak_mib is not None and predict.start_mib is not None
    assert predict.estimated_mib - predict.start_mib >= 0.5 * (predict.peak_mib - predict.start_mib) - 64


@contextmanager
def batch_sizes(model: Any) -> Iterator[list[int]]:
    """Collect the number of rows of each forward pass."""
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        yield sizes
    finally:
        hook.remove()


def test_features_under_a_memory_limit_are_the_same_in_smaller_batches(large_model: Path, device: str) -> None:
    extract_features = method_module("features").extract_features
    lm: Any = load_checkpoint(large_model, device).load()
    rows = [[5 + (7 * row + 3 * index) % 2000 for index in range(200)] for row in range(32)]
    meter = Meter(device)
    with meter.phase("warm-up"):
        extract_features(lm, rows[:2])
    with meter.phase("all rows"), batch_sizes(lm.model.base_model) as free_sizes:
        expected = extract_features(lm, rows)
    release_memory(device)
    whole = meter.phases["all rows"]
    added = ((whole.peak_mib or 0) - (whole.start_mib or 0)) * MIB
    if device == "cuda":
        memory_limit.set_memory_limit(held_bytes(device) + int(0.6 * added), device)
    with batch_sizes(lm.model.base_model) as sizes:
        features = extract_features(lm, rows)
    assert max(free_sizes) == 32
    assert features.shape == expected.shape and features.allclose(expected, rtol=1e-3, atol=1e-3)
    if device == "cuda":
        assert max(sizes) == 32 and min(sizes) < 32


def test_answers_under_a_memory_limit_are_the_same_in_smaller_batches(large_model: Path, device: str) -> None:
    lm: Any = load_checkpoint(large_model, device).load()
    words = ("book", "river", "stone", "window")
    prompts = [f"{words[index % 4]} {index} " * 60 for index in range(32)]
    lm.generate(prompts[:2])
    meter = Meter(device)
    with meter.phase("all prompts"), batch_sizes(lm.model) as free_sizes:
        expected = lm.generate(prompts)
    release_memory(device)
    whole = meter.phases["all prompts"]
    if device == "cuda":
        added = ((whole.peak_mib or 0) - (whole.start_mib or 0)) * MIB
        memory_limit.set_memory_limit(held_bytes(device) + int(0.6 * added), device)
    with batch_sizes(lm.model) as sizes:
        answers = lm.generate(prompts)
    # Random weights make near ties, which rounding in batches of another size may decide otherwise.
    assert sum(map(str.__eq__, answers, expected)) >= 28
    if device == "cuda":
        assert len(sizes) > len(free_sizes)
