"""Where a run computes: on one device, that which was asked for; and models of the hub, at the commit asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, MakeRecord, MakeTask

from bench.errors import UserError
from bench.execution import plan
from bench.execution.job import Job
from bench.measurement import device
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Record

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("asked", "shown", "seen"),
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
def test_a_worker_sees_one_gpu_or_none(
    asked: str, shown: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert device.visible_gpu_environment(asked)["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(("count", "asked", "said"), [(0, "cuda", "no GPU is here"), (2, "cuda:2", "2 GPUs are here")])
def test_a_gpu_beyond_those_that_are_here_is_refused(
    count: int, asked: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(device, "gpus", lambda: count)
    with pytest.raises(UserError, match=said):
        device.check_device(asked)
    for fine in ("auto", "cpu", *(f"cuda:{number}" for number in range(count))):
        device.check_device(fine)


@pytest.mark.parametrize(
    ("asked", "made_on", "threads", "kept"),
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
def test_a_run_asked_for_on_another_device_is_made_again(
    asked: str, made_on: str, threads: int | None, kept: bool, make_record: MakeRecord, tmp_path: Path
) -> None:
    env: dict[str, Any] = {name: "x" for name in ("started", "adaptbench", "method_sha256", "python", "platform")}
    env |= {"processor": "x", "cores": 1, "memory_mib": 1, "others_cores": 0.0, "packages": {}, "revision": None}
    record: Record = make_record(env=env | {"device": made_on, "threads": threads})
    record.write(tmp_path)
    job = Job(spec=record.spec, command=(), method_sha256="x", device=asked)
    assert (plan.find_finished_record(job, tmp_path) is not None) is kept


@pytest.fixture
def hub(tmp_path: Path, tiny: Checkpoint) -> Path:
    """A cache of the hub that holds one model at one commit, which `main` names."""
    place = tmp_path / "hub" / "hub" / "models--org--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT, "ascii")
    shutil.copytree(tiny.folder, place / "snapshots" / COMMIT)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_model_of_the_hub_is_read_from_the_cache_and_its_commit_is_recorded(
    run_bench: Bench, hub: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, revision: str
) -> None:
    make_task(tmp_path / "feelings")
    asked = ("run", "--task", "./feelings", "--methods", "lora", "--dry-run", "--format", "json", "--model")
    bases = []
    for model in (f"org/small{revision}", tiny.folder):
        done = run_bench(*asked, model, HF_HOME=str(hub))
        assert done.returncode == 0, done.stderr
        first = json.loads(done.stdout)[0]
        bases.append((first["id"], first["base"]["revision"], first["base"]["sha256"]))
    (name, commit, sha), (local, none, same) = bases
    assert (commit, none) == (COMMIT, None)
    assert (name, sha) == (local, same), "the name of a model is no part of what it is"


def test_a_revision_that_is_not_in_the_cache_is_refused(
    run_bench: Bench, hub: Path, make_task: MakeTask, tmp_path: Path
) -> None:
    make_task(tmp_path / "feelings")
    done = run_bench("run", "--task", "./feelings", "--methods", "lora", "--model", "org/small@other", HF_HOME=str(hub))
    assert done.returncode == 2
    assert "no model 'org/small@other'" in done.stderr


def test_models_at_hand_are_those_that_ship_and_those_in_the_cache(run_bench: Bench, hub: Path) -> None:
    done = run_bench("models", HF_HOME=str(hub))
    assert done.returncode == 0, done.stderr
    assert "bookworm" in done.stdout and "org/small" in done.stdout
