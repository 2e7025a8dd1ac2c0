"""The digest of an unchanged file is computed once in a command, and a changed file is always noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask

from bench.execution import plan, worker
from bench.execution.job import Job
from bench.modeling import file_digest
from bench.modeling.checkpoint import Checkpoint


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed; nothing is known at first, and new files count as settled."""
    names: list[str] = []
    original = hashlib.file_digest

    def note(content: Any, name: str) -> Any:
        names.append(Path(content.name).name)
        return original(content, name)

    monkeypatch.setattr(hashlib, "file_digest", note)
    monkeypatch.setattr(file_digest, "_digests", {})
    monkeypatch.setattr(file_digest, "MIN_AGE_NS", -(10**12))
    return names


def write_keeping_times(file: Path, content: bytes) -> None:
    status = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_rename(file: Path, content: bytes) -> None:
    other = file.with_name("other")
    other.write_bytes(content)
    other.rename(file)


@pytest.mark.parametrize("change", [write_keeping_times, replace_by_rename, Path.write_bytes])
def test_file_sha256_changed_file_of_same_size_is_hashed_again(hashed: list[str], tmp_path: Path, change: Any) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert file_digest.file_sha256(file) == file_digest.file_sha256(file) == hashlib.sha256(b"one").hexdigest()
    assert hashed == ["weights"]
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:  # the clock of a file system may take some milliseconds
        change(file, b"two")
    assert file_digest.file_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_file_sha256_file_of_this_moment_is_not_remembered(
    hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digest, "MIN_AGE_NS", 60 * 10**9)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    file_digest.file_sha256(file)
    assert file_digest.known_digests() == {}


def test_jobs_of_a_command_hash_the_weights_once(
    hashed: list[str], lively: Checkpoint, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, task = tmp_path / "model", make_task(tmp_path / "feelings")
    folder.mkdir()
    for file in lively.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    jobs = plan.plan_jobs("few-shot", str(task), str(folder), seeds=2, budget_text="quick", settings=[])
    job_files = [job.model_dump_json() for job in jobs if job.spec.method.name == "few-shot"]
    assert len(job_files) == 2 and hashed.count("model.safetensors") == 1

    def run(job_file: str) -> Any:
        monkeypatch.setattr(file_digest, "_digests", {})  # as in the new process of a worker
        return worker.run_job(Job.model_validate_json(job_file), lambda event: None)

    assert [run(job_file).status for job_file in job_files] == ["ok", "ok"]
    assert hashed.count("model.safetensors") == 1
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    write_keeping_times(weights, bytes(content))
    record = run(job_files[0])
    assert record.status == "error" and "changed after the run was planned" in record.error.message
