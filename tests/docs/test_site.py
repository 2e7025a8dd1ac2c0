"""The built site opens from disk without a network, on wide and narrow screens, and contains commands and contracts."""

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
FETCHING_ATTRIBUTES = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; a dead link, a dead anchor or a page missing in the navigation fails."""
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    if not (ROOT / "reports" / "sample").is_dir():
        pytest.skip("the sample report, which the pages show, is only in the repository")
    folder = tmp_path_factory.mktemp("site")
    completed = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    return folder


def html_pages(site: Path) -> list[Path]:
    return [file for file in site.rglob("*.html") if "reports" not in file.parts and file.name != "404.html"]


class FetchedUrls(HTMLParser):
    """Collects the addresses that a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in FETCHING_ATTRIBUTES and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.urls.append(attributes.get(FETCHING_ATTRIBUTES[tag]) or "")


def test_site_fetches_nothing_from_other_hosts(site: Path) -> None:
    for page in html_pages(site):
        parser = FetchedUrls()
        parser.feed(page.read_text("utf-8"))
        assert parser.urls
        assert not [url for url in parser.urls if re.match(r"(https?:)?//", url)], page
    styles = "".join(file.read_text("utf-8") for file in site.rglob("*.css"))
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles)


def leaf_commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for child, inner in getattr(command, "commands", {}).items():
        yield from leaf_commands(f"{name} {child}", inner)
    if not hasattr(command, "commands"):
        yield name, command


def test_commands_page_lists_every_command_and_option(site: Path) -> None:
    text = (site / "docs" / "commands.html").read_text("utf-8")
    for name, command in leaf_commands("bench", typer.main.get_command(app)):
        heading = re.search(rf"<h2[^>]*>{name}<", text)
        assert heading, name
        section = text[heading.start() :].partition("<h2")[2].partition("<h2")[0].lower()
        assert not [option for parameter in command.params for option in parameter.opts if option not in section]


def test_reference_page_contains_the_contracts(site: Path) -> None:
    text = (site / "docs" / "reference.html").read_text("utf-8")
    expected = [
        "bench.method.Method.fit",
        "bench.training.gradient.GradientMethod.adapt",
        "bench.task_card.TaskCard",
        "bench.records.record.Record",
        "bench.execution.budget.BudgetTracker.spend",
        "bench.testing.check_method",
    ]
    assert not [name for name in expected if f'id="{name}"' not in text]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="needs the dev extra")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_site_opens_from_disk_and_fits_the_screen(site: Path, browser: Any, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    messages: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    for page in html_pages(site):
        tab.goto(f"file://{page}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
    assert not messages
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    tab.close()


@pytest.mark.parametrize(("word", "page"), [("moderated", "judging.html"), ("기준선", "glossary.html")])
def test_site_search_works_without_network(site: Path, browser: Any, word: str, page: str) -> None:
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.goto(f"file://{site}/index.html?q={word}")
    tab.locator(f".md-search-result__link[href*='{page}']").first.wait_for(state="attached", timeout=20_000)
    tab.close()
