"""Documents agree with the code: commands, options, keys, figures, sentences and links."""

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
from bench.task import TaskRow
from bench.task_card import HubDataset, TaskCard
from bench.testing import check_method

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ALL_PAGES = sorted(
    [*ROOT.glob("[!.]*.md"), *DOCS.rglob("*.md"), *ROOT.glob("models/*/README.md"), *ROOT.glob("reports/*.md")]
)
# The changelog and the log may name commands of earlier versions.
CURRENT_PAGES = [page for page in ALL_PAGES if page.name not in ("CHANGELOG.md", "log.md")]
COMMANDS_THAT_RUN = ("run", "list", "models", "validate", "report", "advise", "compare", "check", "bless", "new")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's code blocks without a language, or with that of a shell."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ").strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def inline_code(page: Path) -> list[str]:
    """The texts between backticks, outside code blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def block_commands(page: Path) -> list[str]:
    """The `bench` commands of a page's code blocks, complete."""
    return [line for line in shell_lines(page) if re.match(r"bench( |$)", line) and "…" not in line]


def inline_commands(page: Path) -> list[str]:
    """The `bench` commands in a page's text, which may be shortened: `bench run … --train-sizes 250`."""
    return [span for span in inline_code(page) if re.match(r"bench [a-z-]", span)]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words name, and its arguments; fail if there is none."""
    command, rest = typer.main.get_command(app), list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"'bench {' '.join(words)}': {rest[0]} is not a command"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def option_names(command: Any) -> set[str]:
    inner = [name for child in getattr(command, "commands", {}).values() for name in option_names(child)]
    return {
        "--help",
        *inner,
        *(name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]),
    }


def unknown_options(text: str, command: Any) -> set[str]:
    options = re.findall(r"(?<![\w-])--[a-z][\w-]*", text)
    return set(options) - option_names(command)


def methods_page_code() -> str:
    text = (DOCS / "methods.md").read_text("utf-8")
    return str(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])


def test_methods_page_example_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    code = methods_page_code()
    assert len(code.splitlines()) <= 25
    file = tmp_path / "parrot.py"
    file.write_text(code, "utf-8")
    check_method(registry.find_method(str(file)))


def test_new_method_writes_the_example_of_the_methods_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new.method_command("my-own")
    assert (tmp_path / "my_own.py").read_text("utf-8") == methods_page_code().replace("Parrot", "MyOwn")
    check_method(registry.find_method("./my_own.py"))
    for invalid in ("my-own", "no name", ""):
        with pytest.raises(UserError):
            new.method_command(invalid)


def test_tasks_page_names_every_key_of_a_card_and_an_example() -> None:
    text = (DOCS / "tasks.md").read_text("utf-8")
    tables = re.split(r"^\| key of `data`", text, maxsplit=1, flags=re.MULTILINE)
    for part, model in zip(tables, (TaskCard, HubDataset), strict=True):
        rows = part.partition("| key | meaning |")[2] or part
        first_cells = " ".join(re.findall(r"^\| (`[^|]*) \|", rows, re.MULTILINE))
        assert set(re.findall(r"`(\w+)`", first_cells)) == set(model.model_fields)
    assert all(f"`{key}`" in text for key in {"id", "input", "target", "rationale", "rejected", "group"})
    assert {*TaskRow.__dataclass_fields__} == {"id", "input", "references", "rationale", "rejected", "group"}


def test_architecture_page_names_only_files_that_exist() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    paths = [span for span in re.findall(r"`([\w/.]+)`", text) if "/" in span and not span.startswith("tests/data")]
    assert paths
    assert not [path for path in paths if not ((ROOT / path).exists() or (ROOT / "bench" / path).exists())]


@pytest.mark.parametrize("page", ALL_PAGES, ids=relative)
def test_page_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=relative)
def test_page_commands_and_options_exist(page: Path) -> None:
    for line in block_commands(page):
        command, arguments = find_command(shlex.split(line)[1:])
        if "--help" not in arguments:
            command.make_context("bench", arguments)  # checks required arguments and types
    for span in inline_commands(page):
        command, _ = find_command(re.findall(r"[^\s\[\]…]+", span)[1:])
        assert not unknown_options(span, command), span
    for span in inline_code(page):
        if span.startswith("--"):
            assert not unknown_options(span, typer.main.get_command(app)), span


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=relative)
def test_page_scripts_and_make_targets_exist(page: Path) -> None:
    lines = [*shell_lines(page), *inline_code(page)]
    scripts = [script for line in lines for script in re.findall(r"^python (\S+\.py)", line)]
    ours = [script for script in scripts if (ROOT / script.partition("/")[0]).is_dir()]  # others are made by a command
    assert not [script for script in ours if not (ROOT / script).is_file()]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = [target for line in lines for target in re.findall(r"^make ([a-z]+)", line)]
    assert not set(used) - targets


@pytest.fixture
def prepared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_task: MakeTask, make_record: MakeRecord
) -> Path:
    """A working folder with everything the pages refer to: rows, a task, a model, methods, records, a baseline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench"])
    nouns, shades = ("sea", "하늘", "stone", "leaf", "sun"), ("밝은", "dark", "pale")
    words = [f"{shade} {noun}" for shade in shades for noun in nouns]
    lines = [f'"{word}, {number}","{word} {number}의 답"' for number in range(8) for word in words]
    for file, header in (("data.csv", "question,answer"), ("자료.csv", "질문,답")):
        (tmp_path / file).write_text("\n".join([header, *lines]) + "\n", "utf-8")
    for task in ("mytask", "tasks/yours"):
        make_task(tmp_path / task)
    for model in ("mymodel", "myadapter"):
        (tmp_path / model).symlink_to(ROOT / "models" / "bookworm")
    # Two CPU processes, because there may be no GPU.
    (tmp_path / "gpus.yaml").write_text("{distributed_type: MULTI_CPU, num_processes: 2}", "utf-8")
    (tmp_path / "notes.txt").write_text("The sea was calm, and the leaves were dark.\n" * 20, "utf-8")
    for file in ("parrot.py", "mine.py"):
        (tmp_path / file).write_text(methods_page_code(), "utf-8")
    subfolders = ("", "ci", "baselines/ci", "requirements/old", "requirements/new")
    for folder in (tmp_path / "results" / subfolder for subfolder in subfolders):
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(3):
            for name, em in (("few-shot", 0.4), ("lora", 0.8)):
                make_record(name, em=em, items=20, seed=seed).write(folder)
    return tmp_path


# The commands of the example package need it installed; a test of its own does that.
PAGES_WITH_COMMANDS = [
    page for page in CURRENT_PAGES if page.parent == ROOT or not (page.parent / "pyproject.toml").is_file()
]
ALL_COMMANDS = {
    " ".join(line.split()) for page in PAGES_WITH_COMMANDS for line in [*block_commands(page), *inline_commands(page)]
}


def is_complete(line: str) -> bool:
    """Return True if a command can be typed as it is: nothing left out, no placeholder."""
    words = shlex.split(line)[1:]
    # Any other word may do something while arguments are parsed, as --install-completion does.
    if not words or words[0] not in COMMANDS_THAT_RUN or re.search(r"…|\[|\b[A-Z]{3,}\b", line):
        return False
    try:
        command, arguments = find_command(words)
        command.make_context("bench", arguments)
    except Exception:  # a mention without required arguments; other errors fail in the test above, which names the page
        return False
    return True


@pytest.mark.parametrize("line", sorted(line for line in ALL_COMMANDS if is_complete(line)))
def test_page_command_succeeds(line: str, prepared_folder: Path) -> None:
    words = shlex.split(line)[1:]
    if "--requirements" in words or "--rounds" in words:
        pytest.skip("installs other libraries; the test above reads its options")
    if words[0] == "run":  # training has tests of its own; here the run is planned with every setting
        words.append("--dry-run")
    if words[0] == "new":
        shutil.rmtree(prepared_folder / "mytask")
        (prepared_folder / "mine.py").unlink()
    if "질문" in words:
        (prepared_folder / "자료.csv").replace(prepared_folder / "data.csv")
    if "--model" in words and re.fullmatch(r"[\w-]+/\S+", words[words.index("--model") + 1]):
        words[words.index("--model") + 1] = "./mymodel"  # instead of a model on the hub
    if words[0] == "models":
        words = [re.sub(r"^[\w-]+/\S+$", "./mymodel", word) for word in words]
    with pytest.raises(SystemExit) as end:
        app(words)
    assert not end.value.code


@pytest.mark.parametrize("page", ["README.md", "README.ko.md", "docs/judging.md"])
def test_page_shows_the_sentences_that_a_run_prints(page: str) -> None:
    blocks = re.findall(r"```\n((?:bookrec on|lora leads).*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    unexplained = " ".join(blocks[0][blocks[0].index("lora leads") :].split())
    facts = {
        "name": "(?:lora|nearest|zero-shot seed 0)",
        "other": "(?:lora|nearest)",
        "names": "[^:]+?",
        "metric": "em",
        "text": "shipped text",
        "changes": r"[\w, +%]+",
        **dict.fromkeys(("mean", "low", "high"), r"[\d.]+ %"),
        "most": r"\d+ %",
    }
    for sentence in [terminal_table.LEGEND, terminal_table.LOSS_CHANGE_LEGEND, *i18n.catalog("ko")]:
        if not sentence.endswith("."):
            continue
        parts = string.Formatter().parse(sentence)
        pattern = "".join(re.escape(text) + (facts.get(fact, r"[\d.,]+") if fact else "") for text, fact, *_ in parts)
        unexplained = re.sub(rf"(?:^|(?<= )){pattern}(?: |$)", "", unexplained)
    assert not unexplained.strip()


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_readme_table_has_the_heads_of_a_run_and_fits_80_columns(page: str) -> None:
    block = re.findall(r"```\n(bookrec on.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)[0]
    assert max(map(len, block.splitlines())) <= 80
    heads = block.partition("──")[0].split()
    assert {word for head in terminal_table.COST_HEADS for word in head.split()} <= set(heads)


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, without the rules below heads."""
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_choosing_page_has_the_figures_of_the_sample_report() -> None:
    file = ROOT / "reports" / "sample" / "table.csv"
    if not file.is_file():
        pytest.skip("the sample report is only in the repository")
    with file.open(encoding="utf-8") as lines:
        sample = {(row["task"], row["label"]): row for row in csv.DictReader(lines)}
    text = (DOCS / "choosing.md").read_text("utf-8")
    shown = table_rows(text[text.index("<!-- earned -->") : text.index("<!-- /earned -->")])[1:]
    assert len(shown) > 20
    scores_in_text = re.findall(r"(?<= )\d+\.\d %(?= [a-z,|]|,|\.)", text)
    assert scores_in_text
    assert not set(scores_in_text) - {units.format_score(float(row["em"])) for row in sample.values()}
    (queries,) = re.findall(r"from ([\d,]+) queries on", text)
    assert f"from {queries} queries on" in file.with_name("report.md").read_text("utf-8")
    for task, method, *figures in shown:
        is_control, label = method.endswith("°"), method.removesuffix(" °")
        assert figures == sample_figures(sample[task, label]), (task, method)
        assert is_control is (sample[task, label]["control"] == "True")


def sample_figures(row: dict[str, str]) -> list[str]:
    """The figures of one row of the sample report's CSV, written as in the documents."""
    numbers = {name: float(text) if re.fullmatch(r"[\d.e+-]+", text) else None for name, text in row.items()}
    return [
        units.format_score(numbers["em"]),
        units.format_interval(numbers["low"] or 0, numbers["high"] or 0),
        units.format_seconds(numbers["train_s"]),
        units.format_integer(numbers["peak_mib"]),
        units.format_seconds((numbers["query_mean_ms"] or 0) / 1000),
        units.format_bytes(numbers["artifact_bytes"]),
        units.format_change(numbers["forgetting_nats"]),
    ]


USED_IN_ANOTHER_SENSE = {"label", "format", "error", "parsed"}
"""The labels of a plot, the format of prompts, errors in data, an expression that cannot be parsed."""


def test_glossary_uses_the_korean_words_of_the_report() -> None:
    catalog = i18n.catalog("ko")
    *concepts, table_words = (DOCS / "glossary.md").read_text("utf-8").split("\n## ")[1:]
    listed = {english: korean for english, korean, _ in table_rows(table_words)[1:]}
    differing = {
        english: (korean, catalog[english]) for english, korean in listed.items() if catalog[english] != korean
    }
    assert not differing
    summary = MethodSummary.model_construct(
        scores={}, forgetting_nats=1, trainable=1, train_s=1, peak_mib=1, tokens_per_s=1, query_mean_ms=1,
        query_p95_ms=1, artifact_bytes=1,
    )  # fmt: skip
    headings = {column.heading for column in columns.build_columns([summary], "em", i18n.untranslated)}
    assert headings | {"better", "worse", "equivalent", "inconclusive"} <= set(listed)
    for english, korean, _ in (row for part in concepts for row in table_rows(part)[1:]):
        for term in english.split(", "):  # a term that the report uses has the glossary's Korean at least once
            if term in USED_IN_ANOTHER_SENSE:
                continue
            pattern = rf"(?<![\w-]){re.escape(term)}(s|es)?\b"
            sentences = [translated for text, translated in catalog.items() if re.search(pattern, text)]
            assert not sentences or any(korean in sentence for sentence in sentences), (term, korean)


def test_decision_pages_are_dated_and_listed() -> None:
    folder = DOCS / "decisions"
    listed = dict(re.findall(r"\((\S+\.md)\) \| (\S+) \|", (folder / "README.md").read_text("utf-8")))
    dates = {
        file.name: re.findall(r"\A# .+\n\n(\d{4}-\d\d-\d\d)\n", file.read_text("utf-8"))
        for file in folder.glob("[!R]*.md")
    }
    assert {file: [date] for file, date in listed.items()} == dates


@pytest.mark.parametrize("file", sorted([*ROOT.glob(".github/workflows/*.yml"), DOCS / "bench-check.yml"]), ids=str)
def test_workflow_file_is_valid(file: Path) -> None:
    schema = ["--builtin-schema", "vendor.github-workflows"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(file)]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout


def test_ci_page_policy_is_the_default() -> None:
    text = (DOCS / "ci.md").read_text("utf-8")
    table = tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    assert table["tool"]["bench"]["check"] == Policy().model_dump()


def test_ci_page_and_workflow_run_the_same_command() -> None:
    commands = {line for line in block_commands(DOCS / "ci.md") if line.startswith("bench run")}
    assert all(command in (DOCS / "bench-check.yml").read_text("utf-8") for command in commands)
