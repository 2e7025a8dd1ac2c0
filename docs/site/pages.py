"""How the repository becomes a site: its own pages at their own paths, and one page made of the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SHOWN = (
    "README.md",
    "README.ko.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "docs/*.json",
    "docs/*.yml",
    "docs/site/*.css",
    "docs/site/*.js",
    "models/*/README.md",
    "reports/sample/index.html",
    "reports/sample/report.png",
)
COMMANDS = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and the repository's instead of those of `docs_dir` alone: links stay what they are there."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path for pattern in SHOWN for path in ROOT.glob(pattern) if path.is_file()})
    ours = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls) for path in paths
    ]
    return Files([*theme, *ours])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the commands where their page has its mark."""
    return markdown.replace(COMMANDS, "\n".join(commands())) if COMMANDS in markdown else markdown


def commands() -> Iterator[str]:
    """Every verb of `bench` as its `--help` has it, in Markdown."""
    import typer

    from bench.cli import app

    yield from _group("bench", typer.main.get_command(app))


def _group(name: str, command: Any) -> Iterator[str]:
    for verb, inner in getattr(command, "commands", {}).items():
        yield from _group(f"{name} {verb}", inner)
    if not hasattr(command, "commands"):
        yield from _verb(name, command)


def _verb(name: str, command: Any) -> Iterator[str]:
    places = [param for param in command.params if param.param_type_name == "argument"]
    needed = [param for param in command.params if param.required and param not in places]
    words = [name, *(param.name.upper() if param.required else f"[{param.name.upper()}]" for param in places)]
    words += [f"{param.opts[0]} {param.name.upper()}" for param in needed]
    yield from (f"## {name}", "", "```", " ".join(words), "```", "", command.help.strip(), "")
    yield from ("| | default | |", "|---|---|---|")
    for param in command.params:
        names = [param.name.upper()] if param in places else param.opts
        yield f"| {', '.join(f'`{one}`' for one in names)} | {_default(param)} | {_escaped(param.help or '')} |"
    yield ""


def _default(param: Any) -> str:
    if param.required:
        return "required"
    value = getattr(param.default, "value", param.default)
    return "" if value in (None, False) or value == [] else f"`{value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
