"""The pages as a reader meets them: built, opened from a disk, with and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.cli import app

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built as `make docs` does; a dead link, a dead anchor or a page out of place fails."""
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    if not (ROOT / "reports" / "sample").is_dir():
        pytest.skip("the sample report, which the pages show, stays in the repository")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return [file for file in site.rglob("*.html") if "reports" not in file.parts and file.name != "404.html"]


class Fetches(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag in FETCHED and known.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(known.get(FETCHED[tag]) or "")


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        reader = Fetches()
        reader.feed(page.read_text("utf-8"))
        assert reader.found
        assert not [place for place in reader.found if re.match(r"(https?:)?//", place)], page
    styles = "".join(file.read_text("utf-8") for file in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles)


def test_every_command_and_option_stands_in_its_page(site: Path) -> None:
    text = (site / "docs" / "commands.html").read_text("utf-8")

    def look(name: str, verb: Any) -> None:
        for inner, one in getattr(verb, "commands", {}).items():
            look(f"{name} {inner}", one)
        if not hasattr(verb, "commands"):
            part = text[re.search(rf"<h2[^>]*>{name}<", text).start() :].partition("<h2")[2].partition("<h2")[0]  # type: ignore[union-attr]
            assert not [option for param in verb.params for option in param.opts if f"{option}" not in part.lower()]

    look("bench", typer.main.get_command(app))


def test_the_contracts_stand_in_the_reference(site: Path) -> None:
    text = (site / "docs" / "reference.html").read_text("utf-8")
    wanted = [
        "bench.method.Method.fit",
        "bench.training.gradient.Gradient.adapt",
        "bench.task_card.Card",
        "bench.records.record.Record",
    ]
    wanted += ["bench.execution.budget.Budget.draw", "bench.testing.check_method"]
    assert not [name for name in wanted if f'id="{name}"' not in text]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="needs the dev extra")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_pages_open_from_a_disk_and_fit_a_screen(site: Path, browser: Any, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    for page in pages(site):
        tab.goto(f"file://{page}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
    assert not complaints
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    tab.close()


@pytest.mark.parametrize(("word", "page"), [("moderated", "judging.html"), ("대조군", "glossary.html")])
def test_a_word_is_found_without_a_network(site: Path, browser: Any, word: str, page: str) -> None:
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.goto(f"file://{site}/index.html?q={word}")
    tab.locator(f".md-search-result__link[href*='{page}']").first.wait_for(state="attached", timeout=20_000)
    tab.close()
