"""The device of a run: its check, the GPU that a worker sees, and records made on another device."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import MakeRecord

from bench.errors import UserError
from bench.execution import launcher
from bench.execution.job import Job
from bench.measurement import device
from bench.records import Record


@pytest.mark.parametrize(
    ("requested", "visible", "expected"),
    [
        ("auto", None, "0"),
        ("cuda", None, "0"),
        ("cuda:2", None, "2"),
        ("auto", "3,5", "3"),
        ("cuda:1", "3,5", "5"),
        ("auto", "GPU-1f, GPU-2e", "GPU-1f"),
        ("auto", "", ""),
        ("cpu", "3,5", ""),
        ("mps", None, ""),
    ],
)
def test_visible_gpu_environment_shows_one_gpu_or_none(
    requested: str, visible: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.visible_gpu_environment(requested)["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    ("gpus", "requested", "message"), [(0, "cuda", "no GPU found"), (2, "cuda:2", "only 2 GPUs found")]
)
def test_check_device_gpu_index_too_large_is_an_error(
    gpus: int, requested: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(device, "count_gpus", lambda: gpus)
    with pytest.raises(UserError, match=message):
        device.check_device(requested)
    for valid in ("auto", "cpu", *(f"cuda:{index}" for index in range(gpus))):
        device.check_device(valid)


def fake_torch_folder(folder: Path, version_source: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the installed torch appear to be in a folder with this `version.py`, or without one."""
    if version_source is not None:
        (folder / "version.py").write_text(version_source, "utf-8")
    spec = SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = None", False),
        ("cuda = None", False),
        ("cuda: Optional[str] = '13.0'", True),
        ("cuda='12.8'", True),
    ],
)
def test_torch_has_cuda_is_read_from_version_file(
    line: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch_folder(tmp_path, f"debug = False\n{line}\nhip: Optional[str] = None\n", monkeypatch)
    assert device.torch_has_cuda() is expected


@pytest.mark.parametrize("version_source", [None, "", "__version__ = '3.0'\n"])
@pytest.mark.parametrize("torch_cuda", [None, "13.0"])
def test_torch_has_cuda_without_cuda_line_asks_torch(
    version_source: str | None, torch_cuda: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch_folder(tmp_path, version_source, monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", torch_cuda)
    assert device.torch_has_cuda() is (torch_cuda is not None)


def test_torch_has_cuda_installed_version_file_agrees_with_torch() -> None:
    assert device.torch_has_cuda() is (torch.version.cuda is not None)


@pytest.mark.parametrize(("local_rank", "name"), [(None, "cuda"), (1, "cuda:1")])
def test_torch_device_on_cuda_leaves_cudnn_attention_out(
    local_rank: int | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        assert device.torch_device("auto", local_rank) == name
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)


@pytest.mark.parametrize(
    ("requested", "recorded", "threads", "kept"),
    [
        ("auto", "NVIDIA H200", 4, True),
        ("auto", "cpu", 4, True),
        ("cpu", "cpu", 4, True),
        ("cpu", "NVIDIA H200", 4, False),
        ("cuda", "NVIDIA H200", 4, True),
        ("cuda", "cpu", 4, False),
        ("cuda", "cpu", None, True),
        ("mps", "cpu", 4, False),
    ],
)
def test_finished_record_of_another_device_is_not_reused(
    requested: str, recorded: str, threads: int | None, kept: bool, make_record: MakeRecord, tmp_path: Path
) -> None:
    env: dict[str, Any] = {name: "x" for name in ("started", "adaptbench", "method_sha256", "python", "platform")}
    env |= {"processor": "x", "cores": 1, "memory_mib": 1, "background_cores": 0.0, "packages": {}, "revision": None}
    record: Record = make_record(env=env | {"device": recorded, "threads": threads})
    record.write(tmp_path)
    job = Job(spec=record.spec, command=(), method_sha256="x", device=requested)
    assert (launcher.find_finished_record(job, tmp_path) is not None) is kept


@pytest.mark.parametrize(
    ("named", "flags", "gpu", "dtype"),
    [
        ("auto", {"avx2", "fma"}, 0, "float32"),
        ("cpu", {"avx512_bf16"}, 0, "bfloat16"),
        ("auto", {"amx_bf16"}, 0, "bfloat16"),
        ("auto", {"bf16", "asimd"}, 0, "bfloat16"),
        ("mps", {"bf16"}, 0, "float32"),
        ("auto", {"avx512_bf16"}, 7, "float32"),
        ("cuda:0", set(), 8, "bfloat16"),
        ("cpu", {"avx2"}, 9, "float32"),
    ],
)
def test_fast_dtype_is_bfloat16_only_where_the_device_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, named: str, flags: set[str], gpu: int, dtype: str
) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(device, "gpu_generation", lambda index: gpu)
    monkeypatch.setattr(device, "count_gpus", lambda: int(gpu > 0))
    monkeypatch.setattr(device, "torch_has_cuda", lambda: gpu > 0)
    assert device.fast_dtype(named) == dtype
