"""Lookup by name: shipped entries, those of packages and files, and errors for unknown names."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from conftest import CODE, MakeTask

from bench import registry
from bench.errors import UserError
from bench.execution import plan
from bench.method import Method
from bench.modeling.checkpoint import Checkpoint

METHOD_SOURCE = '''"""A third-party method without answers."""
from dataclasses import dataclass
from bench.method import Method

@dataclass
class Mine(Method):
    pass
'''
SHIPPED = {
    "cot", "features", "few-shot", "full", "head", "lora", "majority", "nearest", "qlora", "random-weights", "tfidf",
    "zero-shot",
}  # fmt: skip

InstallEntryPoints = Callable[..., None]
WriteModule = Callable[[str, str], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> InstallEntryPoints:
    """Simulate installed packages: entry points of a group as (name, value, distribution)."""

    def install_points(group: str, *points: tuple[str, str, str]) -> None:
        class FakeDistribution(metadata.Distribution):
            def __init__(self, name: str) -> None:
                self.distribution_name = name

            def read_text(self, filename: str) -> str | None:
                return (
                    f"Metadata-Version: 2.1\nName: {self.distribution_name}\nVersion: 1\n"
                    if filename == "METADATA"
                    else None
                )

            def locate_file(self, path: object) -> Path:  # type: ignore[override]
                return Path(str(path))

        entry_points = [
            metadata.EntryPoint(name, value, group)._for(FakeDistribution(distribution))  # type: ignore[attr-defined]
            for name, value, distribution in points
        ]
        monkeypatch.setattr(
            registry.metadata,
            "entry_points",
            lambda **query: metadata.EntryPoints(entry_points if query == {"group": group} else []),
        )

    return install_points


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Write a module that can be imported during the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_find_method_every_shipped_file_is_found_by_its_name() -> None:
    entries = registry.list_entries("methods")
    assert set(entries) >= SHIPPED
    assert list(entries) == sorted(entries)
    for name, entry in entries.items():
        cls = registry.find_method(f"{name}:VERA" if entry.is_family else name)
        assert issubclass(cls, Method)
        assert cls.__module__ == f"bench.methods.{name.replace('-', '_')}"
        assert entry.warning is None
        assert entry.summary, f"{name} has no summary"
        assert registry.method_name(name) == name


def test_find_method_family_needs_a_member() -> None:
    assert registry.method_name("peft:VERA") == "peft:vera"
    fields = {field.name: field.default for field in dataclasses.fields(registry.find_method("peft:VERA"))}
    assert fields["r"] == 256 and "lr" in fields
    assert "task_type" not in fields
    with pytest.raises(UserError, match="family"):
        registry.find_method("peft")
    with pytest.raises(UserError, match="did you mean 'VERA'"):
        registry.find_method("peft:VERAA")
    with pytest.raises(UserError, match="use lora"):
        registry.find_method("lora:VERA")


def test_find_method_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_way.py").write_text(METHOD_SOURCE, "utf-8")
    assert registry.find_method("./my_way.py").__name__ == "Mine"
    assert registry.find_method("./my_way.py:Mine") is registry.find_method("./my_way.py")
    assert registry.find_method(str(tmp_path / "my_way.py")).__name__ == "Mine"
    assert registry.method_name("./my_way.py") == "my-way"


def test_find_method_same_file_name_in_two_folders_gives_two_methods(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(METHOD_SOURCE.replace("Mine", folder.title()), "utf-8")
    assert registry.find_method(str(tmp_path / "one" / "mine.py")).__name__ == "One"
    assert registry.find_method(str(tmp_path / "two" / "mine.py")).__name__ == "Two"


def test_find_method_file_with_two_methods_needs_a_class_name(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(METHOD_SOURCE + "\n@dataclass\nclass Other(Method):\n    pass\n", "utf-8")
    with pytest.raises(UserError, match="exactly one subclass") as raised:
        registry.find_method(str(file))
    assert "Mine" in raised.value.message and "Other" in raised.value.message
    assert registry.find_method(f"{file}:Other").__name__ == "Other"


def test_find_method_imported_base_class_is_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "derived.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom bench.methods.majority import Majority\n\n"
        "@dataclass\nclass Mine(Majority):\n    pass\n",
        "utf-8",
    )
    assert registry.find_method(str(file)).__name__ == "Mine"


def test_find_method_missing_file_or_class_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method file .* not found") as raised:
        registry.find_method(str(tmp_path / "none.py"))
    assert raised.value.location == str(tmp_path / "none.py")
    (tmp_path / "mine.py").write_text(METHOD_SOURCE, "utf-8")
    with pytest.raises(UserError, match="exactly one subclass"):
        registry.find_method(f"{tmp_path / 'mine.py'}:Yours")


def test_find_method_module_and_class_is_imported(write_module: WriteModule) -> None:
    write_module("third_party", METHOD_SOURCE)
    cls = registry.find_method("third_party:Mine")
    assert (cls.__module__, cls.__name__) == ("third_party", "Mine")
    assert registry.find_method("bench.methods.lora:LoRA") is registry.find_method("lora")
    with pytest.raises(UserError, match="cannot be imported") as raised:
        registry.find_method("nowhere_at_all:Mine")
    assert raised.value.location == "nowhere_at_all"


def test_find_method_entry_point_is_found_without_import_on_listing(
    install: InstallEntryPoints, write_module: WriteModule
) -> None:
    write_module("third_party", METHOD_SOURCE)
    install("bench.methods", ("theirs", "third_party:Mine", "their-package"))
    entry = registry.list_entries("methods")["theirs"]
    assert entry.origin == "package their-package"
    assert entry.summary == "A third-party method without answers."
    assert "third_party" not in sys.modules
    assert registry.find_method("theirs").__name__ == "Mine"


def test_find_task_and_model_entry_point_is_found(
    install: InstallEntryPoints, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_task(tmp_path / "their_task")
    (folder / "__init__.py").touch()
    install("bench.tasks", ("theirs", "their_task", "their-package"))
    assert registry.find_task("theirs") == folder
    assert registry.list_entries("tasks")["theirs"].summary == "Colors and how they feel."
    install("bench.models", ("theirs", "their_task", "their-package"))
    assert registry.find_model("theirs") == folder


def test_list_entries_duplicate_name_raises_with_both_origins(
    install: InstallEntryPoints, write_module: WriteModule
) -> None:
    write_module("third_party", METHOD_SOURCE)
    install("bench.methods", ("lora", "third_party:Mine", "their-package"))
    with pytest.raises(UserError, match="two methods have the name 'lora'") as raised:
        registry.list_entries("methods")
    for origin in ("shipped", "bench.methods.lora", "their-package", "third_party:Mine"):
        assert origin in (raised.value.location or "")
    assert raised.value.hint
    install("bench.methods", ("theirs", "third_party:Mine", "one"), ("theirs", "third_party:Mine", "two"))
    with pytest.raises(UserError, match="two methods have the name 'theirs'"):
        registry.list_entries("methods")


def test_list_entries_method_is_parsed_again_only_after_a_change(
    install: InstallEntryPoints, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = ast.parse

    def counting_parse(source: bytes) -> ast.Module:
        parsed.append(source)
        return parse(source)

    monkeypatch.setattr(registry.ast, "parse", counting_parse)
    install("bench.methods", ("theirs", "third_party:Mine", "their-package"))
    write_module("third_party", METHOD_SOURCE)
    registry.list_entries("methods")
    assert parsed.count(METHOD_SOURCE.encode()) == 1
    registry.list_entries("methods")
    assert parsed.count(METHOD_SOURCE.encode()) == 1
    write_module("third_party", METHOD_SOURCE.replace("third-party", "changed"))
    assert registry.list_entries("methods")["theirs"].summary == "A changed method without answers."


def test_list_entries_several_threads_parse_one_file_at_a_time(
    install: InstallEntryPoints, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parallel calls of `ast.parse` can crash CPython 3.11."""
    active, most_active = 0, 0
    parse = ast.parse

    def slow_parse(source: bytes) -> ast.Module:
        nonlocal active, most_active
        active += 1
        most_active = max(most_active, active)
        time.sleep(0.01)
        active -= 1
        return parse(source)

    monkeypatch.setattr(registry.ast, "parse", slow_parse)
    points = [(f"theirs-{number}", f"third_party_{number}:Mine", "their-package") for number in range(4)]
    install("bench.methods", *points)
    for number in range(4):
        write_module(f"third_party_{number}", METHOD_SOURCE)
    with ThreadPoolExecutor(4) as pool:
        listings = list(pool.map(lambda _: registry.list_entries("methods"), range(4)))
    assert most_active == 1
    assert all(listing == listings[0] for listing in listings)


@pytest.mark.parametrize(
    ("card", "warning"),
    [("summary: [", "not valid UTF-8 YAML"), ("- a", "keys and values"), ("name: theirs", None)],
)
def test_list_entries_unusable_card_gives_a_warning(
    install: InstallEntryPoints,
    make_task: MakeTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    card: str,
    warning: str | None,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_task(tmp_path / "their_task")
    (folder / "__init__.py").touch()
    (folder / "task.yaml").write_text(card, "utf-8")
    install("bench.tasks", ("theirs", "their_task", "their-package"))
    entry = registry.list_entries("tasks")["theirs"]
    assert entry.summary == ""
    assert entry.warning is None if warning is None else warning in (entry.warning or "")


def test_list_entries_task_of_the_hub_names_its_data_set() -> None:
    entries = registry.list_entries("tasks")
    assert (entries["gsm8k"].hub, entries["kdc"].hub) == ("openai/gsm8k", None)


@pytest.mark.parametrize(
    ("kind", "find", "word", "closest"),
    [
        ("methods", registry.find_method, "lroa", "lora"),
        ("methods", registry.find_method, "few_shot", "few-shot"),
        ("models", registry.find_model, "bookwurm", "bookworm"),
        ("tasks", registry.find_task, "bookreq", "bookrec"),
    ],
)
def test_find_unknown_name_suggests_the_closest(
    kind: registry.Kind, find: Callable[[str], object], word: str, closest: str
) -> None:
    if closest not in registry.list_entries(kind):
        pytest.skip(f"{closest} is not built yet")
    with pytest.raises(UserError, match=f"'{word}'") as raised:
        find(word)
    hint = raised.value.hint or ""
    assert f"did you mean '{closest}'?" in hint
    assert all(name in hint for name in registry.list_entries(kind))


@pytest.mark.parametrize("find", [registry.find_method, registry.find_method_file])
def test_find_method_former_name_says_what_replaces_it(find: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match="the method 'instruct' no longer exists") as error_info:
        find("instruct")
    assert error_info.value.hint == "--methods lora --prompt-format chat"


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        (None, "broken_plugin not found"),
        ("def (", "cannot be parsed"),
        ("import nothing_of_that_name", None),
        ("1 / 0", None),
        ("import sys\nsys.exit(0)", None),
    ],
)
def test_broken_plugin_warns_in_listing_and_raises_on_find(
    install: InstallEntryPoints, write_module: WriteModule, source: str | None, warning: str | None
) -> None:
    if source is not None:
        write_module("broken_plugin", source)
    install("bench.methods", ("broken", "broken_plugin:Mine", "their-package"))
    entries = registry.list_entries("methods")
    assert set(entries) >= SHIPPED
    if warning is not None:
        assert warning in (entries["broken"].warning or "")
    assert registry.find_method("lora")
    with pytest.raises(UserError, match="'broken' cannot be imported") as raised:
        registry.find_method("broken")
    lines = "" if source is None else f".py:{len(source.splitlines())}"
    assert (raised.value.location or "").endswith(f"broken_plugin{lines}")


def test_list_entries_plugin_in_broken_package_does_not_raise(
    install: InstallEntryPoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking").mkdir()
    (tmp_path / "breaking" / "__init__.py").write_text("1 / 0", "utf-8")
    (tmp_path / "breaking" / "inner.py").write_text(METHOD_SOURCE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    install("bench.methods", ("broken", "breaking.inner:Mine", "their-package"))
    assert registry.list_entries("methods")["lora"]
    with pytest.raises(UserError, match="broken"):
        registry.find_method("broken")


def test_find_method_file_that_raises_reports_the_exception(tmp_path: Path) -> None:
    file = tmp_path / "raises.py"
    file.write_text("raise RuntimeError('no memory')", "utf-8")
    with pytest.raises(UserError, match="RuntimeError: no memory") as raised:
        registry.find_method(str(file))
    assert raised.value.location == f"{file}:1"


def test_source_sha256_changed_source_gives_another_digest(tmp_path: Path) -> None:
    file, other = tmp_path / "mine.py", tmp_path / "other.py"
    file.write_text(METHOD_SOURCE, "utf-8")
    other.write_text(f"{METHOD_SOURCE}\n", "utf-8")
    digests = {registry.source_sha256(registry.find_method(str(path))) for path in (file, other)}
    assert len(digests) == 2


def test_find_task_and_model_folder_is_found_missing_one_raises(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Checkpoint
) -> None:
    folder = make_task(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert registry.find_task("./mine") == Path("mine")
    assert registry.find_task("mine") == Path("mine")
    assert registry.find_task(str(folder)) == folder
    assert registry.find_model(str(tiny.folder)) == tiny.folder
    for find in (registry.find_task, registry.find_model):
        with pytest.raises(UserError) as raised:
            find("./nowhere")
        assert raised.value.location == str(tmp_path / "nowhere")


def test_list_entries_imports_no_method_and_no_torch(environment: dict[str, str]) -> None:
    code = (
        "import sys, json; from bench import registry\n"
        "names = [name for kind in ('methods', 'tasks', 'models') for name in registry.list_entries(kind)]\n"
        "print(json.dumps([names, [name for name in sys.modules if name.startswith('bench.methods')], "
        "'torch' in sys.modules]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=CODE, env=environment, capture_output=True, text=True, check=True
    )
    names, imported, torch = json.loads(process.stdout)
    assert set(names) >= SHIPPED
    assert imported == []
    assert not torch


def test_plan_all_leaves_out_negative_controls_unless_named() -> None:
    def names(methods: str) -> set[str]:
        options = {"seeds": 1, "budget_text": "quick", "settings": ()}
        return {job.spec.method.name for job in plan.plan_jobs(methods, "kdc", "bookworm", **options)}  # type: ignore[arg-type]

    left_out = {name for name in registry.list_entries("methods") if ":" not in name and name != "peft"} - names("all")
    assert left_out == {"random-weights", "shuffled-labels"}
    assert names("all,random-weights") == names("all") | {"random-weights"}
