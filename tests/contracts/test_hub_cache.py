"""Models in the cache of the Hugging Face hub: found by name and revision, recorded by commit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Bench, MakeTask

from bench.modeling.checkpoint import Checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, tiny: Checkpoint) -> Path:
    """A hub cache with one model at one commit, to which `main` points."""
    repository = tmp_path / "hub" / "hub" / "models--org--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, "ascii")
    shutil.copytree(tiny.folder, repository / "snapshots" / COMMIT)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_cached_model_is_read_and_its_commit_is_recorded(
    run_bench: Bench, hub_cache: Path, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, revision: str
) -> None:
    make_task(tmp_path / "feelings")
    arguments = ("run", "--task", "./feelings", "--methods", "lora", "--dry-run", "--format", "json", "--model")
    bases = []
    for model in (f"org/small{revision}", tiny.folder):
        process = run_bench(*arguments, model, HF_HOME=str(hub_cache))
        assert process.returncode == 0, process.stderr
        first_run = json.loads(process.stdout)[0]
        bases.append((first_run["id"], first_run["base"]["revision"], first_run["base"]["sha256"]))
    (hub_id, hub_commit, hub_sha256), (local_id, local_commit, local_sha256) = bases
    assert (hub_commit, local_commit) == (COMMIT, None)
    assert (hub_id, hub_sha256) == (local_id, local_sha256), "the name of a model must not be in the run id"


def test_cached_model_unknown_revision_is_an_error(
    run_bench: Bench, hub_cache: Path, make_task: MakeTask, tmp_path: Path
) -> None:
    make_task(tmp_path / "feelings")
    model = ("--model", "org/small@other")
    process = run_bench("run", "--task", "./feelings", "--methods", "lora", *model, HF_HOME=str(hub_cache))
    assert process.returncode == 2
    assert "model 'org/small@other' not found" in process.stderr


def test_models_command_lists_shipped_and_cached_models(run_bench: Bench, hub_cache: Path) -> None:
    process = run_bench("models", HF_HOME=str(hub_cache))
    assert process.returncode == 0, process.stderr
    assert "bookworm" in process.stdout and "org/small" in process.stdout
