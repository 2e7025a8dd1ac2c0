"""Names to things: what ships, what a stranger brings, and what is said when a name is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from conftest import CODE, MakeTask

from bench import registry
from bench.errors import UserError
from bench.execution import plan
from bench.method import Method
from bench.modeling.checkpoint import Checkpoint

MINE = '''"""What a stranger wrote: it answers nothing."""
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

Plug = Callable[..., None]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Stands in for installed distributions: entry points as (name, value, distribution)."""

    def install(group: str, *points: tuple[str, str, str]) -> None:
        class Fake(metadata.Distribution):
            def __init__(self, name: str) -> None:
                self.label = name

            def read_text(self, filename: str) -> str | None:
                return f"Metadata-Version: 2.1\nName: {self.label}\nVersion: 1\n" if filename == "METADATA" else None

            def locate_file(self, path: object) -> Path:  # type: ignore[override]
                return Path(str(path))

        made = [
            metadata.EntryPoint(name, value, group)._for(Fake(dist))  # type: ignore[attr-defined]
            for name, value, dist in points
        ]
        monkeypatch.setattr(
            registry.metadata,
            "entry_points",
            lambda **wanted: metadata.EntryPoints(made if wanted == {"group": group} else []),
        )

    return install


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module that can be imported for the length of a test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_every_file_in_methods_is_a_method_under_its_own_name() -> None:
    claims = registry.list_entries("methods")
    assert set(claims) >= SHIPPED
    assert list(claims) == sorted(claims)
    for name, claim in claims.items():
        cls = registry.find_method(f"{name}:VERA" if claim.is_family else name)
        assert issubclass(cls, Method)
        assert cls.__module__ == f"bench.methods.{name.replace('-', '_')}"
        assert claim.warning is None
        assert claim.summary, f"{name} says nothing about itself"
        assert registry.method_name(name) == name


def test_a_family_is_named_with_a_kind() -> None:
    assert registry.method_name("peft:VERA") == "peft:vera"
    fields = {field.name: field.default for field in dataclasses.fields(registry.find_method("peft:VERA"))}
    assert fields["r"] == 256 and "lr" in fields
    assert "task_type" not in fields
    with pytest.raises(UserError, match="family"):
        registry.find_method("peft")
    with pytest.raises(UserError, match="did you mean 'VERA'"):
        registry.find_method("peft:VERAA")
    with pytest.raises(UserError, match="say lora"):
        registry.find_method("lora:VERA")


def test_a_method_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_way.py").write_text(MINE, "utf-8")
    assert registry.find_method("./my_way.py").__name__ == "Mine"
    assert registry.find_method("./my_way.py:Mine") is registry.find_method("./my_way.py")
    assert registry.find_method(str(tmp_path / "my_way.py")).__name__ == "Mine"
    assert registry.method_name("./my_way.py") == "my-way"


def test_files_of_one_name_in_two_folders_are_two_methods(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(MINE.replace("Mine", folder.title()), "utf-8")
    assert registry.find_method(str(tmp_path / "one" / "mine.py")).__name__ == "One"
    assert registry.find_method(str(tmp_path / "two" / "mine.py")).__name__ == "Two"


def test_a_file_with_two_methods_wants_to_be_told_which(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(MINE + "\n@dataclass\nclass Other(Method):\n    pass\n", "utf-8")
    with pytest.raises(UserError, match="exactly one subclass") as refused:
        registry.find_method(str(file))
    assert "Mine" in refused.value.what and "Other" in refused.value.what
    assert registry.find_method(f"{file}:Other").__name__ == "Other"


def test_a_method_that_a_file_only_imports_is_not_its_own(tmp_path: Path) -> None:
    file = tmp_path / "derived.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom bench.methods.majority import Majority\n\n"
        "@dataclass\nclass Mine(Majority):\n    pass\n",
        "utf-8",
    )
    assert registry.find_method(str(file)).__name__ == "Mine"


def test_a_missing_file_and_a_class_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method file") as refused:
        registry.find_method(str(tmp_path / "none.py"))
    assert refused.value.where == str(tmp_path / "none.py")
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    with pytest.raises(UserError, match="exactly one subclass"):
        registry.find_method(f"{tmp_path / 'mine.py'}:Yours")


def test_a_method_is_found_by_module_and_class(module: Callable[[str, str], None]) -> None:
    module("stranger", MINE)
    cls = registry.find_method("stranger:Mine")
    assert (cls.__module__, cls.__name__) == ("stranger", "Mine")
    assert registry.find_method("bench.methods.lora:LoRA") is registry.find_method("lora")
    with pytest.raises(UserError, match="does not import") as refused:
        registry.find_method("nowhere_at_all:Mine")
    assert refused.value.where == "nowhere_at_all"


def test_an_installed_method_is_found_by_its_entry_point(plug: Plug, module: Callable[[str, str], None]) -> None:
    module("stranger", MINE)
    plug("bench.methods", ("theirs", "stranger:Mine", "their-package"))
    claim = registry.list_entries("methods")["theirs"]
    assert claim.origin == "package their-package"
    assert claim.summary == "What a stranger wrote: it answers nothing."
    assert "stranger" not in sys.modules
    assert registry.find_method("theirs").__name__ == "Mine"


def test_an_installed_task_and_model_are_found_by_their_entry_points(
    plug: Plug, make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_task(tmp_path / "their_task")
    (folder / "__init__.py").touch()
    plug("bench.tasks", ("theirs", "their_task", "their-package"))
    assert registry.find_task("theirs") == folder
    assert registry.list_entries("tasks")["theirs"].summary == "Colors and how they feel."
    plug("bench.models", ("theirs", "their_task", "their-package"))
    assert registry.find_model("theirs") == folder


def test_a_name_claimed_twice_names_both_claimants(plug: Plug, module: Callable[[str, str], None]) -> None:
    module("stranger", MINE)
    plug("bench.methods", ("lora", "stranger:Mine", "their-package"))
    with pytest.raises(UserError, match="'lora' is claimed twice") as refused:
        registry.list_entries("methods")
    for claimant in ("shipped", "bench.methods.lora", "their-package", "stranger:Mine"):
        assert claimant in (refused.value.where or "")
    assert refused.value.mend
    plug("bench.methods", ("theirs", "stranger:Mine", "one"), ("theirs", "stranger:Mine", "two"))
    with pytest.raises(UserError, match="'theirs' is claimed twice"):
        registry.list_entries("methods")


@pytest.mark.parametrize(
    ("kind", "ask", "word", "meant"),
    [
        ("methods", registry.find_method, "lroa", "lora"),
        ("methods", registry.find_method, "few_shot", "few-shot"),
        ("models", registry.find_model, "bookwurm", "bookworm"),
        ("tasks", registry.find_task, "bookreq", "bookrec"),
    ],
)
def test_an_unknown_name_says_which_was_meant(
    kind: registry.Kind, ask: Callable[[str], object], word: str, meant: str
) -> None:
    if meant not in registry.list_entries(kind):
        pytest.skip(f"{meant} is not built yet")
    with pytest.raises(UserError, match=f"'{word}'") as refused:
        ask(word)
    mend = refused.value.mend or ""
    assert f"did you mean '{meant}'?" in mend
    assert all(name in mend for name in registry.list_entries(kind))


@pytest.mark.parametrize(
    ("code", "said"),
    [(None, "no broken_plugin"), ("def (", "does not parse"), ("import nothing_of_that_name", None), ("1 / 0", None)],
)
def test_a_broken_plugin_warns_in_a_listing_and_fails_only_when_asked_for(
    plug: Plug, module: Callable[[str, str], None], code: str | None, said: str | None
) -> None:
    if code is not None:
        module("broken_plugin", code)
    plug("bench.methods", ("broken", "broken_plugin:Mine", "their-package"))
    claims = registry.list_entries("methods")
    assert set(claims) >= SHIPPED
    if said is not None:
        assert said in (claims["broken"].warning or "")
    assert registry.find_method("lora")
    with pytest.raises(UserError, match="'broken' does not import") as refused:
        registry.find_method("broken")
    assert refused.value.where == "broken_plugin"


def test_a_plugin_inside_a_package_that_breaks_is_a_warning_too(
    plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking").mkdir()
    (tmp_path / "breaking" / "__init__.py").write_text("1 / 0", "utf-8")
    (tmp_path / "breaking" / "inner.py").write_text(MINE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    plug("bench.methods", ("broken", "breaking.inner:Mine", "their-package"))
    assert registry.list_entries("methods")["lora"]
    with pytest.raises(UserError, match="broken"):
        registry.find_method("broken")


def test_a_stranger_file_that_raises_is_refused_with_what_it_raised(tmp_path: Path) -> None:
    file = tmp_path / "raises.py"
    file.write_text("raise RuntimeError('out of tea')", "utf-8")
    with pytest.raises(UserError, match="RuntimeError: out of tea") as refused:
        registry.find_method(str(file))
    assert refused.value.where == str(file)


def test_the_source_of_a_method_has_a_digest_that_changes_with_it(tmp_path: Path) -> None:
    file, other = tmp_path / "mine.py", tmp_path / "other.py"
    file.write_text(MINE, "utf-8")
    other.write_text(f"{MINE}\n", "utf-8")
    digests = {registry.source_sha256(registry.find_method(str(place))) for place in (file, other)}
    assert len(digests) == 2


def test_a_task_and_a_model_are_found_by_their_folders(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Checkpoint
) -> None:
    folder = make_task(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert registry.find_task("./mine") == Path("mine")
    assert registry.find_task("mine") == Path("mine")
    assert registry.find_task(str(folder)) == folder
    assert registry.find_model(str(tiny.folder)) == tiny.folder
    for ask in (registry.find_task, registry.find_model):
        with pytest.raises(UserError) as refused:
            ask("./nowhere")
        assert refused.value.where == str(tmp_path / "nowhere")


def test_listing_imports_no_method(environment: dict[str, str]) -> None:
    code = (
        "import sys, json; from bench import registry\n"
        "names = [name for kind in ('methods', 'tasks', 'models') for name in registry.claims(kind)]\n"
        "print(json.dumps([names, [name for name in sys.modules if name.startswith('bench.methods')], "
        "'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CODE, env=environment, capture_output=True, text=True, check=True
    )
    names, imported, torch = json.loads(done.stdout)
    assert set(names) >= SHIPPED
    assert imported == []
    assert not torch


def test_all_are_the_ways_of_adapting_and_shams_join_when_named() -> None:
    def names(methods: str) -> set[str]:
        how = {"seeds": 1, "budget_text": "quick", "settings": ()}
        return {job.spec.method.name for job in plan.plan_jobs(methods, "kdc", "bookworm", **how)}  # type: ignore[arg-type]

    shams = {name for name in registry.list_entries("methods") if ":" not in name and name != "peft"} - names("all")
    assert shams == {"random-weights", "shuffled-labels"}
    assert names("all,random-weights") == names("all") | {"random-weights"}
