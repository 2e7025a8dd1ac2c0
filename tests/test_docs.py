"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry
from bench.task import Card, Row
from bench.testing import check_method

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def commands(file: Path) -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("bench ")]


def test_the_method_in_the_docs_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) <= 25
    file = tmp_path / "parrot.py"
    file.write_text(code, "utf-8")
    check_method(registry.method(str(file)))


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


@pytest.mark.parametrize("command", commands(ROOT / "README.md") + commands(DOCS / "reports.md"))
def test_the_commands_of_the_pages_are_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    strange = {"./mytask": "bookrec", "./mymodel": "bookworm"}
    words = [strange.get(word, word) for word in words] + {
        "run": ["--dry-run"],
        "report": ["--help"],
        "advise": ["--help"],
    }.get(words[0], [])
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
