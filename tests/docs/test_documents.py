"""What the documents say is what the code does."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import string
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import MakeRecord, MakeTask

from bench import i18n, registry, units
from bench.analysis.regression.gates import Policy
from bench.analysis.summary import MethodSummary
from bench.cli import app, new
from bench.errors import UserError
from bench.report import columns, terminal_table
from bench.task import TaskRow as Example
from bench.task_card import HubDataset, TaskCard
from bench.testing import check_method

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("[!.]*.md"), *DOCS.rglob("*.md"), *ROOT.glob("models/*/README.md"), *ROOT.glob("reports/*.md")]
)
TOLD = [page for page in PAGES if page.name != "CHANGELOG.md"]  # what was true of another version may stand there
# What a desk has all for.
TRIED = ("run", "list", "models", "validate", "report", "advise", "compare", "check", "bless", "new")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    """The lines of a page's code blocks that are in no other language than a shell's."""
    found = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ").strip() for block in found for line in block.replace("\\\n", " ").splitlines()]


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's text."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[str]:
    """The commands of a page's code blocks: whole, as one would type them."""
    return [line for line in blocks(page) if re.match(r"bench( |$)", line) and "…" not in line]


def mentions(page: Path) -> list[str]:
    """Commands in a page's text, which may be shortened: `bench run … --train-sizes 250`."""
    return [span for span in spans(page) if re.match(r"bench [a-z-]", span)]


def command(typed: list[str]) -> tuple[Any, list[str]]:
    """The verb that is typed, and what is typed behind it; fails where there is none."""
    verb, rest = typer.main.get_command(app), list(typed)
    while rest and hasattr(verb, "commands") and not rest[0].startswith("-"):
        assert rest[0] in verb.commands, f"there is no 'bench {' '.join(typed)}': {rest[0]} is not a command"
        verb, rest = verb.commands[rest[0]], rest[1:]
    return verb, rest


def options(verb: Any) -> set[str]:
    inner = [option for one in getattr(verb, "commands", {}).values() for option in options(one)]
    return {"--help", *inner, *(name for param in verb.params for name in param.opts)}


def unknown(text: str, verb: Any) -> set[str]:
    return {word.partition("=")[0] for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)} - options(verb)


def test_the_method_in_the_docs_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    assert len(code.splitlines()) <= 25
    file = tmp_path / "parrot.py"
    file.write_text(code, "utf-8")
    check_method(registry.find_method(str(file)))


def test_a_new_method_is_the_one_of_the_docs_and_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new.method_command("my-own")
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    assert (tmp_path / "my_own.py").read_text("utf-8") == code.replace("Parrot", "MyOwn")
    check_method(registry.find_method("./my_own.py"))
    for wrong in ("my-own", "no name", ""):
        with pytest.raises(UserError):
            new.method_command(wrong)


def test_the_docs_name_every_key_of_a_task_and_of_an_example() -> None:
    text = (DOCS / "tasks.md").read_text("utf-8")
    tables = re.split(r"^\| key of `data`", text, maxsplit=1, flags=re.MULTILINE)
    for part, model in zip(tables, (TaskCard, HubDataset), strict=True):
        keys = part.partition("| key | meaning |")[2] or part
        named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", keys, re.MULTILINE))))
        assert named == set(model.model_fields)
    assert all(f"`{key}`" in text for key in {"id", "input", "target", "rationale", "rejected"})
    assert {*Example.__dataclass_fields__} == {"id", "input", "references", "rationale", "rejected"}


def test_the_design_page_names_every_room() -> None:
    text = (DOCS / "design.md").read_text("utf-8")
    rooms = {file.stem for file in (ROOT / "bench").glob("[!_]*.py")}
    assert not [room for room in sorted(rooms) if f"`{room}`" not in text]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_something(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", TOLD, ids=named)
def test_no_page_names_a_command_or_an_option_that_is_not_there(page: Path) -> None:
    for line in commands(page):
        verb, rest = command(shlex.split(line)[1:])
        if "--help" not in rest:
            verb.make_context("bench", rest)  # all that is required, of the right type, and nothing else
    for span in mentions(page):
        verb, rest = command(re.findall(r"[^\s\[\]…]+", span)[1:])
        assert not unknown(span, verb), span
    for span in spans(page):
        if span.startswith("--"):
            assert not unknown(span, typer.main.get_command(app)), span
    scripts = [found for line in [*blocks(page), *spans(page)] for found in re.findall(r"^python (\S+\.py)", line)]
    ours = [script for script in scripts if (ROOT / script.partition("/")[0]).is_dir()]  # others lie in what is made
    assert not [script for script in ours if not (ROOT / script).is_file()]
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    made = [verb for line in [*blocks(page), *spans(page)] for verb in re.findall(r"^make ([a-z]+)", line)]
    assert not set(made) - verbs


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_task: MakeTask, make_record: MakeRecord) -> Path:
    """A folder with all that the pages speak of: rows, a task, a model, methods, records, a baseline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    asked = [
        f"{shade} {thing}" for shade in ("밝은", "dark", "pale") for thing in ("sea", "하늘", "stone", "leaf", "sun")
    ]
    lines = [f'"{word}, {place}","{word} {place}의 답"' for place in range(8) for word in asked]
    for file, header in (("data.csv", "question,answer"), ("자료.csv", "질문,답")):
        (tmp_path / file).write_text("\n".join([header, *lines]) + "\n", "utf-8")
    for task in ("mytask", "tasks/yours"):
        make_task(tmp_path / task)
    for model in ("mymodel", "myadapter"):
        (tmp_path / model).symlink_to(ROOT / "models" / "bookworm")
    (tmp_path / "gpus.yaml").write_text("{distributed_type: MULTI_CPU, num_processes: 2}", "utf-8")  # no GPU is here
    code = re.findall(r"```python\n(.*?)```", (DOCS / "methods.md").read_text("utf-8"), re.DOTALL)[0]
    for file in ("parrot.py", "mine.py"):
        (tmp_path / file).write_text(code, "utf-8")
    for folder in (
        "results",
        "results/ci",
        "results/baselines/ci",
        "results/requirements/old",
        "results/requirements/new",
    ):
        (tmp_path / folder).mkdir(parents=True)
        for seed in range(3):
            for name, em in (("few-shot", 0.4), ("lora", 0.8)):
                make_record(name, em=em, items=20, seed=seed).write(tmp_path / folder)
    return tmp_path


# A package beside the pages has to be installed first, and a test of its own does that.
HERE = [page for page in TOLD if page.parent == ROOT or not (page.parent / "pyproject.toml").is_file()]
WHOLE = {" ".join(line.split()) for page in HERE for line in [*commands(page), *mentions(page)]}


def is_whole(line: str) -> bool:
    """Whether a command could be typed so: nothing is left out, and no word stands for another."""
    if re.search(r"…|\[|\b[A-Z]{3,}\b", line):
        return False
    try:
        verb, rest = command(shlex.split(line)[1:])
        verb.make_context("bench", rest)
    except Exception:  # a mention wants what is required, and all else fails in the test above, which names the page
        return False
    return shlex.split(line)[1] in TRIED


@pytest.mark.parametrize("line", sorted(line for line in WHOLE if is_whole(line)))
def test_the_commands_of_the_pages_work(line: str, desk: Path) -> None:
    typed = shlex.split(line)[1:]
    if "--requirements" in typed or "--rounds" in typed:
        pytest.skip("makes environments of other libraries; its typed are read by the test above")
    if typed[0] == "run":  # one that trains has tests of its own; here it is planned down to every setting
        typed.append("--dry-run")
    if typed[0] == "new":
        shutil.rmtree(desk / "mytask")
        (desk / "mine.py").unlink()
    if "질문" in typed:
        (desk / "자료.csv").replace(desk / "data.csv")
    if "--model" in typed and re.fullmatch(r"[\w-]+/\S+", typed[typed.index("--model") + 1]):
        typed[typed.index("--model") + 1] = "./mymodel"  # a name of the hub, which no test asks
    with pytest.raises(SystemExit) as end:
        app(typed)
    assert not end.value.code


@pytest.mark.parametrize("page", ["README.md", "docs/judging.md"])
def test_the_sentences_shown_in_the_docs_are_what_a_run_says(page: str) -> None:
    text = re.findall(r"```\n((?:bookrec|lora leads).*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)[0]
    left = " ".join(text[text.index("lora leads") :].split())
    facts = {"name": "(?:lora|nearest)", "other": "(?:lora|nearest)", "names": "[^:]+?", "metric": "em"}
    for known in [terminal_table.LEGEND, terminal_table.LOSS_CHANGE, *i18n.catalog("ko")]:
        parts = string.Formatter().parse(known)
        pattern = "".join(re.escape(said) + (facts.get(fact, r"[\d.,]+") if fact else "") for said, fact, *_ in parts)
        if known.endswith("."):
            left = re.sub(rf"(?:^|(?<= )){pattern}(?: |$)", "", left)
    assert not left.strip()


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row but headings."""
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_the_figures_on_choosing_are_those_of_the_sample_report() -> None:
    file = ROOT / "reports" / "sample" / "table.csv"
    if not file.is_file():
        pytest.skip("the sample report stays in the repository")
    with file.open(encoding="utf-8") as lines:
        known = {(row["task"], row["label"]): row for row in csv.DictReader(lines)}
    text = (DOCS / "choosing.md").read_text("utf-8")
    shown = rows_of(text[text.index("<!-- earned -->") : text.index("<!-- /earned -->")])[1:]
    assert len(shown) > 20
    told = re.findall(r"(?<=\s)\.\d{3}\b", text)
    assert told
    assert not set(told) - {units.decimal(float(row["em"])).removeprefix("0") for row in known.values()}
    (questions,) = re.findall(r"from ([\d,]+) questions on", text)
    assert f"from {questions} questions on" in file.with_name("report.md").read_text("utf-8")
    for task, method, *figures in shown:
        row = {name: float(value) if re.fullmatch(r"[\d.e+-]+", value) else None
               for name, value in known[task, method.removesuffix(" °")].items()}  # fmt: skip
        written = [units.decimal(row["em"]), f"{units.decimal(row['low'])}–{units.decimal(row['high'])}"]
        written += [
            units.time(row["fit_s"]),
            units.whole(row["peak_mib"]),
            units.time((row["query_p50_ms"] or 0) / 1000),
        ]
        assert figures == [*written, units.size(row["artifact_bytes"]), units.signed(row["forgets"])], (task, method)
        assert method.endswith("°") is (known[task, method.removesuffix(" °")]["control"] == "True")


def test_the_glossary_and_the_report_use_the_same_korean_words() -> None:
    said = i18n.catalog("ko")
    *concepts, table_words = (DOCS / "glossary.md").read_text("utf-8").split("\n## ")[1:]
    listed = {english: korean for english, korean, _ in rows_of(table_words)[1:]}
    assert not {english: (korean, said[english]) for english, korean in listed.items() if said[english] != korean}
    row = MethodSummary.model_construct(scores={}, forgets=1, trainable=1, fit_s=1, peak_mib=1, tokens_per_s=1, query_p50_ms=1,
                              query_p95_ms=1, artifact_bytes=1)  # fmt: skip
    headings = {column.heading for column in columns.build_columns([row], "em", i18n.untranslated)}
    assert headings | {"leader", "control", "better", "worse", "same", "open"} <= set(listed)
    for english, korean, _ in (row for part in concepts for row in rows_of(part)[1:]):
        for term in english.split(", "):  # where the report says it, it says it so at least once
            sentences = [ko for en, ko in said.items() if re.search(rf"(?<![\w-]){re.escape(term)}(s|es)?\b", en)]
            if term not in ("label", "kept"):  # in sentences: more labels, cores kept busy
                assert not sentences or any(korean in one for one in sentences), (term, korean)


def test_every_decision_is_dated_and_listed() -> None:
    folder = DOCS / "decisions"
    listed = {
        file: date for file, date in re.findall(r"\((\S+\.md)\) \| (\S+) \|", (folder / "README.md").read_text("utf-8"))
    }
    dated = {file.name: re.findall(r"\A# .+\n\n(\d{4}-\d\d-\d\d)\n", file.read_text("utf-8"))
             for file in folder.glob("[!R]*.md")}  # fmt: skip
    assert {file: [date] for file, date in listed.items()} == dated


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
