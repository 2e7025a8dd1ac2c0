"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench import making, registry
from bench.gates import Policy
from bench.refusal import Refused
from bench.task import Card, Row
from bench.testing import check_method

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
READING = (
    "new",
    "report",
    "advise",
    "compare",
    "check",
    "bless",
    "export",
    "answer",
)  # verbs that want records, which no page brings


def commands(file: Path) -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("bench ")]


def test_the_method_in_the_docs_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) <= 25
    file = tmp_path / "parrot.py"
    file.write_text(code, "utf-8")
    check_method(registry.method(str(file)))


def test_a_new_method_is_the_one_of_the_docs_and_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    making.method("my-own")
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    assert (tmp_path / "my_own.py").read_text("utf-8") == code.replace("Parrot", "MyOwn")
    check_method(registry.method("./my_own.py"))
    for wrong in ("my-own", "no name", ""):
        with pytest.raises(Refused):
            making.method(wrong)


def test_the_docs_name_every_key_of_a_task_and_of_an_example() -> None:
    text = (DOCS / "tasks.md").read_text("utf-8")
    table = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE))))
    assert table == set(Card.model_fields)
    assert all(f"`{key}`" in text for key in {"id", "input", "target", "rationale", "rejected"})
    assert {*Row.__dataclass_fields__} == {"id", "input", "references", "rationale", "rejected"}


def test_the_design_page_names_every_room() -> None:
    text = (DOCS / "design.md").read_text("utf-8")
    rooms = {file.stem for file in (ROOT / "bench").glob("[!_]*.py")}
    assert not [room for room in sorted(rooms) if f"`{room}`" not in text]


PAGES = (ROOT / "README.md", ROOT / "README.ko.md", *sorted(DOCS.glob("*.md")))
RUN_HERE = [
    ROOT / "README.md",
    ROOT / "README.ko.md",
    DOCS / "reports.md",
    DOCS / "ci.md",
    DOCS / "tasks.md",
    DOCS / "takehome.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_something(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("command", [command for page in RUN_HERE for command in commands(page)])
def test_the_commands_of_the_pages_are_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    strange = {"./mytask": "bookrec", "./mymodel": "bookworm"}
    more = ["--dry-run"] if words[0] == "run" else ["--help"] if words[0] in READING else []
    words = [strange.get(word, word) for word in words] + more
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", sorted([*ROOT.glob(".github/workflows/*.yml"), DOCS / "bench-check.yml"]), ids=str)
def test_workflows_are_what_github_takes(file: Path) -> None:
    schema = ["--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_policy_in_the_docs_is_the_default() -> None:
    text = (DOCS / "ci.md").read_text("utf-8")
    table = tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    assert table["tool"]["bench"]["check"] == Policy().model_dump()


def test_the_workflow_runs_what_the_page_blesses() -> None:
    runs = {line for line in commands(DOCS / "ci.md") if line.startswith("bench run")}
    assert all(run in (DOCS / "bench-check.yml").read_text("utf-8") for run in runs)
