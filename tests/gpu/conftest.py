"""Fixtures of the tests that need a CUDA GPU; `make gpu` runs them.

They are marked `gpu`, so `pytest` leaves them out by default, and they are skipped where torch finds no GPU. To run
all of them:
`pytest -m gpu -n 4 --dist loadfile tests/gpu`.

On a machine without a GPU they are tried with `BENCH_GPU_TEST_DEVICE=cpu pytest -m gpu tests/gpu`: the same tests then
run on the CPU, with a smaller model, except those of what only a GPU has.

Where there is an NVIDIA driver, each run of a command is a new process that imports everything again. Therefore most
tests run the worker within their own process (`run_method`).
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CODE
from support import run_worker

from bench import registry
from bench.execution import plan
from bench.measurement.device import torch_device, visible_gpu_environment
from bench.measurement.environment import process_memory
from bench.modeling.checkpoint import Checkpoint
from bench.records import Decoding, Record

RunMethod = Callable[..., Record]
TASK_ROWS = {"train": 48, "validation": 8, "test": 6}
LARGE_SHAPE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 16}
"""With 32,768 tokens these are 285 million parameters."""
SMALL_SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    """Device of the tests; they are skipped if it is missing."""
    name = os.environ.get("BENCH_GPU_TEST_DEVICE", "cuda")
    # Workers get both from the launcher, before CUDA starts: a run uses one GPU, and its cuBLAS is deterministic.
    os.environ.update(visible_gpu_environment(name))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch = pytest.importorskip("torch")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch_device(name)  # it sets what computing on the device needs, as in a worker


@pytest.fixture(scope="session")
def gpu(device: str) -> str:
    """The device, for tests of what only a GPU has."""
    if device != "cuda":
        pytest.skip("only a GPU has this")
    return device


@pytest.fixture(scope="session", autouse=True)
def full_curves(device: str) -> Iterator[None]:
    """Let trainings of a few steps have all points of the curve, which would take too much of them."""
    from bench.training import curve

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "FREE_OPERATIONS", 1e15)
        yield


@pytest.fixture(autouse=True)
def free_memory(device: str) -> Iterator[None]:
    """Begin and end each test without a memory limit and without the tensors of other tests."""
    release_memory(device)
    yield
    release_memory(device)


def release_memory(device: str) -> None:
    """Lift the memory limits of this process and free what nothing uses."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    else:
        hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard_limit, hard_limit))


def held_bytes(device: str) -> int:
    """Return the bytes that a memory limit counts for this process now."""
    import torch

    return int(torch.cuda.memory_reserved()) if device == "cuda" else process_memory("VmRSS")


@pytest.fixture(scope="session")
def make_small_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a shipped task with its first rows only."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("task") / name
            folders[name].mkdir()
            shutil.copy(CODE / "tasks" / name / "task.yaml", folders[name])
            for split, count in TASK_ROWS.items():
                lines = (CODE / "tasks" / name / f"{split}.jsonl").read_text("utf-8").splitlines(keepends=True)
                (folders[name] / f"{split}.jsonl").write_text("".join(lines[:count]), "utf-8")
        return folders[name]

    return make


@pytest.fixture(scope="session")
def run_method(device: str, tmp_path_factory: pytest.TempPathFactory) -> RunMethod:
    """Run a method as `bench run` would, but in this process; returns its record.

    With the folder `out` the record file and the artifacts are kept there.
    """

    texts = (CODE / "tasks" / "general" / "text.jsonl").read_text("utf-8").splitlines(keepends=True)
    general_text = tmp_path_factory.mktemp("general") / "text.jsonl"
    general_text.write_text("".join(texts if device == "cuda" else texts[:4]), "utf-8")

    def run(
        method: str,
        task: Path,
        *,
        model: str | Path = "bookworm",
        dtype: str = "float32",
        budget: str = "steps=4,batch=8,new_tokens=4",
        out: Path | None = None,
    ) -> Record:
        jobs = plan.plan_jobs(
            method,
            str(task),
            str(model),
            seeds=1,
            budget_text=budget,
            settings=[],
            dtype=dtype,
            device=device,
            save_artifacts=out is not None,
            command=["run", "--methods", method],
        )
        (job,) = (job for job in jobs if job.spec.method.ref == method)
        folder = tmp_path_factory.mktemp("run")
        results = out or folder / "results"
        results.mkdir()
        (folder / "job.json").write_text(job.model_dump_json(), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "general_text_file", lambda: general_text)
            try:
                run_worker(folder / "job.json", results, folder / "progress")
            finally:
                release_memory(device)
        return Record.read(results / f"{job.spec.id}.json")

    return run


@pytest.fixture(scope="session")
def large_model(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of random bfloat16 weights and the tokenizer of the shipped model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    is_gpu = device == "cuda"
    shape: dict[str, Any] = LARGE_SHAPE if is_gpu else SMALL_SHAPE
    config = LlamaConfig(
        **shape,
        head_dim=64,
        num_key_value_heads=shape["num_attention_heads"] // 2,
        vocab_size=32768 if is_gpu else 4096,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    folder = tmp_path_factory.mktemp("large") / "model"
    model.save_pretrained(folder)
    copy_tokenizer(folder)
    return folder


def copy_tokenizer(folder: Path) -> None:
    """Copy the tokenizer of the shipped model into a model folder."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CODE / "models" / "bookworm" / name, folder / name)


def load_checkpoint(folder: Path, device: str, dtype: str = "float32") -> Checkpoint:
    """Return a model folder as methods get it, with short answers of one line."""
    return Checkpoint(folder, dtype, device, Decoding(max_new_tokens=12, stop=("\n",)))


def method_module(name: str) -> Any:
    """Return the module of a shipped method."""
    return sys.modules[registry.find_method(name).__module__]
