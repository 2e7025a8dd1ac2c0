"""MkDocs hooks: the repository's pages at their own paths, and a page generated from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGE_PATTERNS = (
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
COMMANDS_MARKER = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Keep the theme's files and add the repository's pages at their own paths, so that links work in both places."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path for pattern in PAGE_PATTERNS for path in ROOT.glob(pattern) if path.is_file()})
    pages = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls) for path in paths
    ]
    return Files([*theme, *pages])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the commands where a page has the marker."""
    return (
        markdown.replace(COMMANDS_MARKER, "\n".join(describe_commands())) if COMMANDS_MARKER in markdown else markdown
    )


def describe_commands() -> Iterator[str]:
    """Yield Markdown lines that describe every `bench` command, as its `--help` does."""
    import typer

    from bench.cli import app

    yield from _describe_group("bench", typer.main.get_command(app))


def _describe_group(name: str, command: Any) -> Iterator[str]:
    for child, inner in getattr(command, "commands", {}).items():
        yield from _describe_group(f"{name} {child}", inner)
    if not hasattr(command, "commands"):
        yield from _describe_command(name, command)


def _describe_command(name: str, command: Any) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    required = [parameter for parameter in command.params if parameter.required and parameter not in arguments]
    usage = [name]
    usage += [item.name.upper() if item.required else f"[{item.name.upper()}]" for item in arguments]
    usage += [f"{option.opts[0]} {option.name.upper()}" for option in required]
    yield from (f"## {name}", "", "```", " ".join(usage), "```", "", command.help.strip(), "")
    yield from ("| | default | |", "|---|---|---|")
    for parameter in command.params:
        names = [parameter.name.upper()] if parameter in arguments else parameter.opts
        shown = ", ".join(f"`{shown_name}`" for shown_name in names)
        yield f"| {shown} | {_default_text(parameter)} | {_escape(parameter.help or '')} |"
    yield ""


def _default_text(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value in (None, False) or value == [] else f"`{value}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
