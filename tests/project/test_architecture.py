"""The folders of `bench/` import only what the table in docs/architecture.md allows, and no modules form a cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bench"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(file for folder in ("bench", "methods") for file in (ROOT / folder).rglob("*.py"))
LEARNING_LIBRARIES = {
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "sklearn",
    "evaluate",
}
MAX_FILES_PER_FOLDER = 18
CONTRACT_FOLDERS = {"metrics"}
"""Folders that are public contracts, as the modules at the top of `bench/` are."""


def read_allowed_imports() -> dict[str, set[str]]:
    """The first table of docs/architecture.md: each folder and the folders that it may import."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.split("| folder | may import | holds |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    return {folder: {name.strip() for name in allowed.split(",") if name.strip()} for folder, allowed in cells}


ALLOWED = read_allowed_imports()


def folder_of(module: str) -> str:
    """The row of the table that a dotted module name belongs to."""
    parts = module.split(".")
    if len(parts) > 1 and parts[1] not in CONTRACT_FOLDERS and (PACKAGE / parts[1] / "__init__.py").is_file():
        return parts[1]
    return "testing" if parts[1:2] == ["testing"] else "contracts"


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it or only when it is imported; `from a import b` gives `a.b`."""
    tree = ast.parse(file.read_bytes())
    nodes = list(top_level_nodes(tree)) if top_level else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.parent.relative_to(ROOT).parts
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def top_level_nodes(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported; `if TYPE_CHECKING:` is none of them."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_architecture_table_lists_every_folder() -> None:
    folders = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert (folders - CONTRACT_FOLDERS) | {"contracts", "testing"} == set(ALLOWED)


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_module_imports_only_allowed_folders(file: Path) -> None:
    module = module_name(file)
    if module == "bench.__main__":
        return
    folder = folder_of(module)
    imported = {name for name in imports_of(file) if name.split(".")[0] == "bench"}
    forbidden = {name for name in imported if folder_of(name) not in ALLOWED[folder] | {folder}}
    assert not forbidden, f"{folder} may import {sorted(ALLOWED[folder])} (docs/architecture.md)"


def test_module_imports_form_no_cycle() -> None:
    names = {module_name(file): file for file in MODULES}
    graph = {}
    for name, file in names.items():
        imported = set(imports_of(file, top_level=True))
        targets = {target for target in imported if target in names}
        targets |= {target.rpartition(".")[0] for target in imported if target not in names} & names.keys()
        graph[name] = targets - {name, "bench"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_folder_imports_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {folder: set() for folder in ALLOWED}
    for file in MODULES:
        if file.name == "__main__.py":
            continue
        folder = folder_of(module_name(file))
        graph[folder] |= {folder_of(name) for name in imports_of(file) if name.split(".")[0] == "bench"} - {folder}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_contracts_and_reading_tower_import_no_learning_library(file: Path) -> None:
    folder = folder_of(module_name(file))
    if folder in ("contracts", "records", "analysis", "report"):
        # A contract may reach for one in a function: `bench/hub.py` fetches data sets.
        names = imports_of(file, top_level=folder == "contracts")
        assert not {name.split(".")[0] for name in names} & LEARNING_LIBRARIES


@pytest.mark.parametrize("file", MODULES, ids=relative)
def test_package_never_imports_methods_or_tasks(file: Path) -> None:
    names = set(imports_of(file))
    assert not {name for name in names if name.split(".")[0] in ("methods", "tasks")}
    assert not {name for name in names if name.startswith(("bench.methods", "bench.tasks"))}


@pytest.mark.parametrize("file", sorted((ROOT / "methods").glob("*.py")), ids=relative)
def test_method_imports_other_methods_relatively(file: Path) -> None:
    tree = ast.parse(file.read_bytes())
    absolute = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert not {name for name in absolute if name.startswith(("methods", "bench.methods"))}


def test_no_folder_holds_more_files_than_fit_on_a_screen() -> None:
    folders = {file.parent for file in MODULES}
    crowded = {
        relative(folder): count
        for folder in folders
        if (count := len(list(folder.glob("*.py")))) > MAX_FILES_PER_FOLDER
    }
    assert not crowded
