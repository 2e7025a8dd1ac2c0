"""The example package of the docs: built, installed and used as any stranger's, without a network."""

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
    """PYTHONPATH with the example, installed by pip from a copy."""
    pytest.importorskip("hatchling", reason="needs the dev extra")
    tree = tmp_path_factory.mktemp("tree") / "example"
    shutil.copytree(EXAMPLE, tree, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    site = tmp_path_factory.mktemp("site")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {entry.name.partition("-")[0] for entry in site.iterdir()} == {"bench_echo"}
    return str(site)


@pytest.fixture
def path(installed: str, environment: dict[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([installed, environment["PYTHONPATH"]])}


def test_the_example_is_listed_under_its_package(run_bench: Bench, path: dict[str, str]) -> None:
    listed = json.loads(run_bench("list", "--format", "json", **path).stdout)
    claims = {claim["name"]: claim for kind in ("methods", "tasks") for claim in listed[kind]}
    for name, said in (("last-words", "Answers with the last words"), ("word-order", "Say the last word")):
        assert claims[name]["origin"] == "package bench-echo"
        assert (claims[name]["summary"].startswith(said), claims[name]["warning"]) == (True, None)


@pytest.mark.parametrize("name", ["last-words", "word-order"])
def test_the_example_is_sound(run_bench: Bench, path: dict[str, str], name: str) -> None:
    done = run_bench("validate", name, "--format", "json", **path)
    assert (done.returncode, json.loads(done.stdout)["sound"]) == (0, True), done.stdout + done.stderr


def test_the_method_of_the_example_runs_on_its_task(run_bench: Bench, path: dict[str, str], tiny: Checkpoint) -> None:
    words = ("--methods", "last-words,majority", "--task", "word-order", "--set", "last-words.more=0")
    small = ("--model", tiny.folder, "--budget", "quick,new_tokens=1")
    ran = run_bench("run", *words, *small, "--format", "json", **path)
    assert ran.returncode == 0, ran.stderr
    rows = {row["method"]: row for row in json.loads(ran.stdout.splitlines()[-1])["rows"]}
    assert rows["last-words"]["scores"]["em"] == 1.0 > rows["majority"]["scores"]["em"]


def test_the_method_of_the_example_is_short() -> None:
    assert len((EXAMPLE / "src" / "bench_echo" / "last_words.py").read_text("utf-8").splitlines()) <= 25
