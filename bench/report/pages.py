"""Records to a report: pages that open offline, Markdown for a pull request, tables and pictures."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from threadpoolctl import threadpool_limits

from bench import __version__, units
from bench.analysis.summary import Row, rows
from bench.analysis.task_results import Section
from bench.i18n import Say, cell, speaker
from bench.records.flatten import flat
from bench.records.record import Spec
from bench.report import overview
from bench.report.overview import Outline
from bench.report.plot_style import settle, style
from bench.report.plots import every
from bench.report.section_view import Picture, View

TEMPLATES = Path(__file__).parent / "templates"
FEW = 12  # tasks that stand on one page, with all their pictures
FIRST = 1  # pictures of each task, and runs of each method whose answers it shows, where there are more
Questions = Callable[[Spec], dict[str, str]]
"""The text of each test question by its id, as far as the task is at hand."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """What all parts of one report need; processes that make parts inherit it, since sections are large."""

    sections: Sequence[Section]
    out: Path
    say: Say
    questions: Questions
    pages: Environment


@dataclass(frozen=True)
class Part:
    """One section, as it stands in a report."""

    title: str
    slug: str
    page: Markup
    markdown: str


_desk: Desk


def write(sections: Sequence[Section], out: Path, language: str = "en", questions: Questions = lambda spec: {}) -> None:
    """Write the whole report into a folder, over one that is there, on all cores.

    Few sections stand on one page. Of many each has its own, and the first page says what they have in common.
    """
    global _desk
    say = speaker(language)
    _desk = Desk(sections, out, say, questions, _pages(say, language))
    (out / "plots").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("fork"), threadpool_limits, (1,)) as pool:
        if len(sections) > FEW:
            (out / "tasks").mkdir(exist_ok=True)
            made = list(pool.map(_task, range(len(sections))))
            outlines, lines = [one for one, _ in made], [line for _, some in made for line in some]
            _tell("overview.html", "overview.md", tasks=outlines, methods=overview.methods(outlines), few=FEW)
        else:
            jobs = [(place, plot.name) for place in range(len(sections)) for plot in every()]
            drawn = pool.map(_draw, *zip(*jobs, strict=True))
            lines = [line for section in sections for line in _lines(section)]
            pictures: dict[int, list[Picture]] = {place: [] for place in range(len(sections))}
            for (place, _), picture in zip(jobs, drawn, strict=True):
                pictures[place] += [picture] if picture else []
            parts = [_part(_view(section, pictures[place])) for place, section in enumerate(sections)]
            _tell("index.html", "report.md", parts=parts, up=None)
    _tables(sections, lines, out)


def _pages(say: Say, language: str) -> Environment:
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    pages.filters["cell"] = cell
    pages.globals |= {
        "say": say,
        "units": units,
        "language": language,
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "style": Markup((TEMPLATES / "style.css").read_text("utf-8")),
        "script": Markup((TEMPLATES / "script.js").read_text("utf-8")),
    }
    return pages


def _tell(page: str, markdown: str, **what: Any) -> None:
    """The first page and the Markdown, by templates for few sections or for many."""
    for template, file in ((page, "index.html"), (markdown, "report.md")):
        (_desk.out / file).write_text(_desk.pages.get_template(template).render(what), "utf-8")


def _task(place: int) -> tuple[Outline, list[Line]]:
    """One section of many: its pictures and its page are written, and what others need of it is told."""
    section = _desk.sections[place]
    drawn = [_draw(place, plot.name) for plot in every()[:FIRST]]
    view = _view(section, [picture for picture in drawn if picture], FIRST)
    page = _desk.pages.get_template("index.html").render(parts=[_part(view)], up="../index.html")
    (_desk.out / "tasks" / f"{section.slug}.html").write_text(page, "utf-8")
    return overview.outline(section, view.advice), _lines(section)


def _view(section: Section, pictures: list[Picture], seeds: int | None = None) -> View:
    return View(section, pictures, _desk.questions(section.records[0].spec), _desk.say, seeds)


def _part(view: View) -> Part:
    page, markdown = (_desk.pages.get_template(f"section.{kind}").render(view=view) for kind in ("html", "md"))
    return Part(view.section.title, view.section.slug, Markup(page.rstrip("\n")), markdown)


def _draw(place: int, name: str) -> Picture | None:
    """One plot of one section, also as files; None where it has nothing to show."""
    from matplotlib import pyplot

    section, say, folder = _desk.sections[place], _desk.say, _desk.out / "plots"
    plot = next(plot for plot in every() if plot.name == name)
    with style():
        figure = plot.draw(section, say)
        if figure is None:
            return None
        settle(figure)
        file, text = f"{section.slug}-{plot.name}", StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        if len(_desk.sections) <= FEW:  # which takes as long again
            figure.savefig(folder / f"{file}.png")
        pyplot.close(figure)
    (folder / f"{file}.svg").write_text(text.getvalue(), "utf-8")
    return Picture(plot.name, file, plot.caption(say), _inline(text.getvalue(), section))


def _inline(svg: str, section: Section) -> Markup:
    """A picture as a part of a page: marks tell what they stand for, and no two pictures have the same ids."""
    told = {row.key: _told(row, section.metric) for row in section.rows if row.status == "ok"}
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r'<g id="mark:([0-9a-f]+)">',
        lambda found: f'<g class="mark" tabindex="0" role="img" data-tip="{html.escape(told.get(found[1], ""))}">',
        body,
    )
    return Markup(re.sub(r'<g id="[^"]*">', "<g>", body))


def _told(row: Row, metric: str) -> str:
    each = None if row.query_p50_ms is None else row.query_p50_ms / 1000
    memory = units.UNMEASURED if row.peak_mib is None else f"{row.peak_mib:,.0f} MiB"
    figures = [f"{metric} {row.scores[metric]:.3f}", f"{units.time(row.fit_s)} + {units.time(each)}", memory]
    return f"{row.label}: {' · '.join(figures)}"


def _lines(section: Section) -> list[Line]:
    """Every row of a section, with all training sizes."""
    lines = []
    for records, cells in section.by_size:
        bounds = {cell.key: cell.interval for cell in cells}
        for row in rows(records):
            line: Line = {"task": section.task, "model": records[0].spec.base.ref}
            line |= row.model_dump(exclude={"scores", "params", "seeds"})
            line |= {"params": json.dumps(row.params), "seeds": " ".join(map(str, row.seeds))}
            if row.status == "ok":
                line |= row.scores | {"low": bounds[row.key].low, "high": bounds[row.key].high}
            lines.append(line)
    return lines


def _tables(sections: Sequence[Section], lines: list[Line], out: Path) -> None:
    """Every row as CSV and every run as Parquet."""
    import pandas

    pandas.DataFrame(lines).to_csv(out / "table.csv", index=False)
    runs = [flat(record) for section in sections for record in section.every]
    pandas.DataFrame(runs).to_parquet(out / "records.parquet", index=False)
