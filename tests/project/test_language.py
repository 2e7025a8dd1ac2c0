"""Plain technical English in code, help, messages and documents, as far as a program can tell."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import typer
from support import help_texts, parameter_helps

from bench.analysis.summary import MethodSummary
from bench.cli import app
from bench.i18n import untranslated
from bench.report import columns, terminal_table

ROOT = Path(__file__).parents[2]

# Words of a private vocabulary or of translated English, and what to write instead.
BANNED = {
    r"archive[sd]? of records": "folder of records",
    r"artefacts?": "artifact",
    r"at fault": "has errors",
    r"beforehand": "in advance",
    r"bystanders?": "background load",
    r"by hand of": "by",
    r"crew": "rank worker",
    r"dearer|dearest": "more expensive",
    r"exams?": "split",
    r"foretold": "estimated",
    r"heed(?:s|ed)?": "follow",
    r"house": "project",
    r"lessons?": "training data",
    r"lest": "so that ... not",
    r"mend(?:s|ed|ing)?": "fix, hint",
    r"mates?": "rank",
    r"needn't|shan't": "need not",
    r"nobody's": "no one's",
    r"nurser(?:y|ies)": "fork server",
    r"obituar(?:y|ies)": "failure record",
    r"parcels?": "bundle",
    r"purses?": "budget",
    r"reckon(?:s|ed|ing)?": "estimate, compute",
    r"rooms? of the": "modules of the",
    r"shams?": "negative control",
    r"strangers?": "other user, third party",
    r"thrice": "three times",
    r"told apart": "distinguished",
    r"trunk": "parent process",
    r"wardens?": "budget callback",
    r"whence": "from where",
    r"whereof|thereof|wherein|therein": "of which, in which",
    r"whoever": "anyone who",
    r"wobbles?": "standard error over seeds",
}
BANNED_PATTERN = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)
BANNED_OPENINGS = ("What", "Whether", "How", "Where", "That", "Whose", "Who", "Which", "As")
MAX_SUMMARY_CHARS = 88
MAX_OPTION_HELP_WORDS = 15
# The field names of schema 1 are data: records that were written with them are still read.
FILES_WITH_OLD_FIELD_NAMES = {"bench/records/schema_1.py"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [
        ROOT / name for name in listed if name and name not in FILES_WITH_OLD_FIELD_NAMES and (ROOT / name).is_file()
    ]


CODE = tracked("bench/**/*.py", "bench/*.py", "methods/*.py", "bench/**/*.html", "bench/**/*.md", "bench/**/*.txt")
DOCUMENTS = tracked(
    "docs/*.md", "docs/**/*.md", "README.md", "README.ko.md", "CONTRIBUTING.md", "CHANGELOG.md", "tasks/*/README.md",
    "results/README.md", "reports/README.md", "models/*/README.md",
)  # fmt: skip
PYTHON = [file for file in CODE if file.suffix == ".py"]


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def banned_words(text: str) -> list[str]:
    """Each banned word of a text with its line number; identifiers such as `add_trunk` count as their words."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{number}: {match[0]}" for match in BANNED_PATTERN.finditer(line.replace("_", " "))]
    return found


@pytest.mark.parametrize(
    "file", [file for file in CODE + DOCUMENTS if relative(file) not in FILES_WITH_OLD_FIELD_NAMES], ids=relative
)
def test_file_has_no_banned_words(file: Path) -> None:
    assert not banned_words(file.read_text("utf-8"))


@pytest.mark.parametrize(
    "planted", ["def mend_row():", "how the house is built", "two nurseries", "Sham: no", "artefact"]
)
def test_banned_words_planted_word_is_found(planted: str) -> None:
    assert banned_words(planted)


@pytest.mark.parametrize("plain", ["a household name", "recommended", "the estimate", "lessened", "examples"])
def test_banned_words_plain_word_passes(plain: str) -> None:
    assert not banned_words(plain)


def summaries(tree: ast.Module) -> list[tuple[int, str]]:
    """The first line of every docstring, with the line of its definition."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    docs = [(getattr(node, "lineno", 1), ast.get_docstring(node)) for node in nodes]
    return [(line, doc.splitlines()[0]) for line, doc in docs if doc]


@pytest.mark.parametrize("file", PYTHON, ids=relative)
def test_docstring_summary_opens_plainly_and_fits(file: Path) -> None:
    found = summaries(ast.parse(file.read_text("utf-8")))
    assert not [f"{line}: {text}" for line, text in found if text.split()[0] in BANNED_OPENINGS]
    assert not [f"{line}: {text}" for line, text in found if len(text) > MAX_SUMMARY_CHARS]


HELP = help_texts(typer.main.get_command(app))


def test_help_has_no_banned_words() -> None:
    assert not {name: banned_words(text) for name, text in HELP.items() if banned_words(text)}


def test_help_of_options_is_a_short_phrase() -> None:
    texts = parameter_helps(typer.main.get_command(app))
    assert len(texts) > 50
    assert not {name: text for name, text in texts.items() if len(text.split()) > MAX_OPTION_HELP_WORDS}


def test_terminal_table_heads_break_between_words_only() -> None:
    heads = [*terminal_table.COST_HEADS, *terminal_table.WIDE_COST_HEADS, terminal_table.LOSS_CHANGE_HEAD]
    assert not [line for head in heads for line in head.splitlines() if line.endswith("-")]


def test_report_column_heads_are_not_hyphenated() -> None:
    summary = MethodSummary.model_construct(
        scores={"em": 1.0, "f1": 1.0}, forgetting_nats=1, general_text_sha256="a", trainable=1, train_s=1,
            peak_mib=1, tokens_per_s=1,
        query_mean_ms=1, query_p95_ms=1, artifact_bytes=1,
    )  # fmt: skip
    shown = columns.build_columns([summary], "em", untranslated)
    assert len(shown) == 9
    assert not [column.heading for column in shown if "-" in column.heading]
