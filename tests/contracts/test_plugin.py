"""The example package of the docs: built, installed and used offline like any third-party package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Bench

from bench.modeling.checkpoint import Checkpoint

EXAMPLE = Path(__file__).parents[2] / "docs" / "example-plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder into which pip has installed a copy of the example."""
    pytest.importorskip("hatchling", reason="needs the dev extra")
    source = tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    site = tmp_path_factory.mktemp("site")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(source)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert {entry.name.partition("-")[0] for entry in site.iterdir()} == {"bench_echo"}
    return str(site)


@pytest.fixture
def path(installed: str, environment: dict[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([installed, environment["PYTHONPATH"]])}


def test_list_example_names_its_package(run_bench: Bench, path: dict[str, str]) -> None:
    listed = json.loads(run_bench("list", "--format", "json", **path).stdout)
    entries = {entry["name"]: entry for kind in ("methods", "tasks") for entry in listed[kind]}
    for name, start in (("last-words", "Answers with the last words"), ("word-order", "Say the last word")):
        assert entries[name]["origin"] == "package bench-echo"
        assert (entries[name]["summary"].startswith(start), entries[name]["warning"]) == (True, None)


@pytest.mark.parametrize("name", ["last-words", "word-order"])
def test_validate_example_is_valid(run_bench: Bench, path: dict[str, str], name: str) -> None:
    process = run_bench("validate", name, "--format", "json", **path)
    assert (process.returncode, json.loads(process.stdout)["valid"]) == (0, True), process.stdout + process.stderr


def test_run_example_method_on_example_task_is_correct(
    run_bench: Bench, path: dict[str, str], tiny: Checkpoint
) -> None:
    methods = ("--methods", "last-words,majority", "--task", "word-order", "--set", "last-words.more=0")
    limits = ("--model", tiny.folder, "--budget", "quick,new_tokens=1")
    process = run_bench("run", *methods, *limits, "--format", "json", **path)
    assert process.returncode == 0, process.stderr
    rows = {row["method"]: row for row in json.loads(process.stdout.splitlines()[-1])["rows"]}
    assert rows["last-words"]["scores"]["em"] == 1.0 > rows["majority"]["scores"]["em"]


def test_example_method_is_short() -> None:
    assert len((EXAMPLE / "src" / "bench_echo" / "last_words.py").read_text("utf-8").splitlines()) <= 25
