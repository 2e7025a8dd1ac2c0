"""Contents of the wheel and the sdist, built from a copy of this tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).parents[2]
NOT_COPIED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "dist", "build", "*.egg-info")
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel built from it."""
    pytest.importorskip("build", reason="needs the dev extra")
    pytest.importorskip("hatchling", reason="needs the dev extra")
    tree = tmp_path_factory.mktemp("tree") / "adaptbench"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))
    # Files that must not be packaged; their absence is tested only if they exist in the copy.
    for stray in ("results/run.json", "results/baselines/old.json", "reports/mine.html", "methods/__pycache__/x.pyc"):
        (tree / stray).parent.mkdir(parents=True, exist_ok=True)
        (tree / stray).write_text("stray", encoding="utf-8")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked wheel, as `pip install` puts it into site-packages."""
    (file,) = dist.glob("*.whl")
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


def run_with_wheel(wheel: Path, folder: Path, *arguments: str) -> str:
    """Return the output of Python in `folder` with the unpacked wheel, and not this checkout, on its path."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(wheel), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def repository_files(folder: str, *patterns: str) -> set[str]:
    return {str(file.relative_to(ROOT)) for pattern in patterns for file in (ROOT / folder).glob(pattern)}


def test_wheel_installs_only_bench(wheel: Path) -> None:
    assert {entry.name for entry in wheel.iterdir()} == {"bench", f"adaptbench-{bench.__version__}.dist-info"}


def test_wheel_contains_every_method_and_task(wheel: Path) -> None:
    expected = repository_files("methods", "*.py") | repository_files("tasks", "*/task.yaml", "*/*.jsonl", "*/task.py")
    assert len([name for name in expected if name.endswith("task.yaml")]) >= 1
    assert not {name for name in expected if not (wheel / "bench" / name).is_file()}


def test_wheel_contains_the_base_model_and_its_card(wheel: Path) -> None:
    folder = wheel / "bench" / "models" / "bookworm"
    assert {file.name for file in folder.iterdir()} == set(MODEL_FILES)
    weights = ROOT / "models" / "bookworm" / "model.safetensors"
    assert (folder / "model.safetensors").stat().st_size == weights.stat().st_size


def test_wheel_is_typed_and_has_no_caches_or_tests(wheel: Path) -> None:
    names = {str(file.relative_to(wheel)) for file in wheel.rglob("*")}
    assert "bench/py.typed" in names
    assert not {name for name in names if "__pycache__" in name or name.endswith(".pyc") or "tests" in name}


def test_wheel_installs_both_commands(wheel: Path) -> None:
    (file,) = wheel.glob("*.dist-info/entry_points.txt")
    text = file.read_text(encoding="utf-8")
    assert "\nbench = bench.cli:main" in text
    assert "\nadaptbench = bench.cli:main" in text


def test_installed_wheel_imports_its_own_methods(wheel: Path, tmp_path: Path) -> None:
    code = "import bench, bench.methods, bench.tasks; print(bench.__file__, *bench.methods.__path__, *bench.__path__)"
    paths = run_with_wheel(wheel, tmp_path, "-c", code).split()
    assert paths == [str(wheel / "bench" / "__init__.py"), str(wheel / "bench" / "methods"), str(wheel / "bench")]


def test_installed_wheel_lists_its_methods_tasks_and_model(wheel: Path, tmp_path: Path) -> None:
    output = run_with_wheel(wheel, tmp_path, "-m", "bench", "list")
    names = {Path(name).stem.replace("_", "-") for name in repository_files("methods", "[!_]*.py")}
    names |= {Path(name).parent.name for name in repository_files("tasks", "*/task.yaml")} | {"bookworm"}
    assert not {name for name in names if name not in output}


def test_installed_wheel_has_the_translations(wheel: Path, tmp_path: Path) -> None:
    code = "from bench import i18n; print(i18n.languages(), i18n.translator('ko')('better'))"
    assert run_with_wheel(wheel, tmp_path, "-c", code).split() == ["['en',", "'ko']", "높음"]


def test_sdist_contains_build_and_test_files_but_no_results(dist: Path) -> None:
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "constraints.txt",
        "mkdocs.yml",
        "Makefile",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        ".ci/run",
    }
    needed |= (
        repository_files("tests", "**/*.py")
        | repository_files("bench", "**/*.py")
        | repository_files("methods", "*.py")
    )
    assert not needed - names
    assert not {name for name in names if name.split("/")[0] in ("results", "reports", ".venv", "dist")}
