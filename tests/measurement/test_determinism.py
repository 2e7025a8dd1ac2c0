"""Deterministic algorithms and the watch for operations that have none, on the CPU in place of CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import fit_method

from bench.measurement import determinism
from bench.measurement.determinism import DeterminismWatch
from bench.modeling.checkpoint import Checkpoint


def put_without_deterministic_algorithm() -> None:
    """Call an operation that has no deterministic algorithm on the CPU either."""
    torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))


@pytest.fixture
def watch() -> Iterator[DeterminismWatch]:
    """The watch of a run on CUDA; the settings of torch are restored afterwards."""
    cudnn, settings = torch.backends.cudnn, torch.utils.deterministic
    before = cudnn.deterministic, cudnn.benchmark
    with warnings.catch_warnings():
        active = determinism.use_deterministic_algorithms("cuda:0")
        assert active is not None
        yield active
    determinism._watches.clear()
    torch.use_deterministic_algorithms(False)
    settings.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    cudnn.deterministic, cudnn.benchmark = before


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_use_deterministic_algorithms_changes_nothing_elsewhere(device: str) -> None:
    assert determinism.use_deterministic_algorithms(device) is None
    assert not torch.are_deterministic_algorithms_enabled()


def test_watch_without_warning_stays_empty(watch: DeterminismWatch) -> None:
    torch.ones(3, requires_grad=True).sum().backward()
    warnings.warn("something else", stacklevel=1)
    assert torch.are_deterministic_algorithms_enabled() and watch.operations == []


def test_watch_names_operation_of_torch_once(watch: DeterminismWatch) -> None:
    for _ in range(2):
        put_without_deterministic_algorithm()
    assert watch.operations == ["put_"]


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("index_add_cuda_ does not have a deterministic implementation, but you set 'torch'", "index_add_cuda_"),
        ("Flash Attention defaults to a non-deterministic algorithm. To explicitly enable", "Flash Attention"),
        ("Memory Efficient attention defaults to a non-deterministic algorithm. To", "Memory Efficient attention"),
        ("Deterministic behavior was enabled, but this operation is not deterministic as it uses CuBLAS", "cuBLAS"),
    ],
)
def test_watch_reads_all_warnings_of_torch(watch: DeterminismWatch, message: str, name: str) -> None:
    warnings.warn(message, stacklevel=1)
    assert watch.operations == [name]


def test_run_strictly_repeats_step_that_has_no_algorithm(watch: DeterminismWatch) -> None:
    events: list[Any] = []

    def step() -> str:
        events.append(torch.is_deterministic_algorithms_warn_only_enabled())
        put_without_deterministic_algorithm()
        return "done"

    for _ in range(2):
        assert determinism.run_strictly(step, lambda: events.append("undone")) == "done"
    assert events == [False, "undone", True, True]
    assert watch.operations == ["put_"]


def test_run_strictly_passes_other_errors_on(watch: DeterminismWatch) -> None:
    with pytest.raises(ZeroDivisionError):
        determinism.run_strictly(lambda: 1 / 0, lambda: None)
    assert torch.is_deterministic_algorithms_warn_only_enabled() and watch.can_be_strict


@pytest.mark.parametrize("has_algorithm", [True, False])
def test_training_is_strict_unless_an_operation_has_no_algorithm(
    lively: Checkpoint, watch: DeterminismWatch, has_algorithm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict_calls = []
    cross_entropy = torch.nn.functional.cross_entropy

    def observed_cross_entropy(*args: Any, **kwargs: Any) -> Any:
        strict_calls.append(not torch.is_deterministic_algorithms_warn_only_enabled())
        if not has_algorithm:
            put_without_deterministic_algorithm()
        return cross_entropy(*args, **kwargs)

    _, expected = fit_method("lora", lively, steps=3)
    monkeypatch.setattr("bench.modeling.scoring.cross_entropy", observed_cross_entropy)
    _, budget = fit_method("lora", lively, steps=3)
    assert budget.flops == expected.flops
    assert sum(strict_calls) == (3 if has_algorithm else 1)
    assert watch.operations == ([] if has_algorithm else ["put_"])


def test_cublas_environment_keeps_setting_of_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert determinism.cublas_environment() == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert determinism.cublas_environment() == {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}
