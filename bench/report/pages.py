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
from bench.analysis.summary import MethodSummary, summarize_methods
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, escape_markdown, translator
from bench.records.flatten import flatten_record
from bench.records.record import Spec
from bench.report import overview
from bench.report.overview import TaskOutline
from bench.report.plot_style import finish_figure, plot_style
from bench.report.plots import all_plots
from bench.report.section_view import Picture, SectionView

TEMPLATES = Path(__file__).parent / "templates"
FEW = 12  # tasks that stand on one page, with all their pictures
FIRST = 1  # pictures of each task, and runs of each method whose answers it shows, where there are more
Questions = Callable[[Spec], dict[str, str]]
"""The text of each test question by its id, as far as the task is at hand."""
Line = dict[str, Any]


@dataclass(frozen=True)
class PageWriter:
    """What all parts of one report need; processes that make parts inherit it, since sections are large."""

    sections: Sequence[TaskResults]
    out: Path
    translate: Translate
    questions: Questions
    pages: Environment


@dataclass(frozen=True)
class TaskPage:
    """One section, as it stands in a report."""

    title: str
    slug: str
    page: Markup
    markdown: str


_desk: PageWriter


def write_report(
    sections: Sequence[TaskResults], out: Path, language: str = "en", questions: Questions = lambda spec: {}
) -> None:
    """Write the whole report into a folder, over one that is there, on all cores.

    Few sections stand on one page. Of many each has its own, and the first page says what they have in common.
    """
    global _desk
    translate = translator(language)
    _desk = PageWriter(sections, out, translate, questions, _pages(translate, language))
    (out / "plots").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("fork"), threadpool_limits, (1,)) as pool:
        if len(sections) > FEW:
            (out / "tasks").mkdir(exist_ok=True)
            made = list(pool.map(_task, range(len(sections))))
            outlines, lines = [one for one, _ in made], [line for _, some in made for line in some]
            _tell("overview.html", "overview.md", tasks=outlines, methods=overview.overview_methods(outlines), few=FEW)
        else:
            jobs = [(place, plot.name) for place in range(len(sections)) for plot in all_plots()]
            drawn = pool.map(_draw, *zip(*jobs, strict=True))
            lines = [line for section in sections for line in _lines(section)]
            pictures: dict[int, list[Picture]] = {place: [] for place in range(len(sections))}
            for (place, _), picture in zip(jobs, drawn, strict=True):
                pictures[place] += [picture] if picture else []
            parts = [_part(_view(section, pictures[place])) for place, section in enumerate(sections)]
            _tell("index.html", "report.md", parts=parts, up=None)
    _tables(sections, lines, out)


def _pages(translate: Translate, language: str) -> Environment:
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    pages.filters["cell"] = escape_markdown
    pages.globals |= {
        "translate": translate,
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


def _task(place: int) -> tuple[TaskOutline, list[Line]]:
    """One section of many: its pictures and its page are written, and what others need of it is told."""
    section = _desk.sections[place]
    drawn = [_draw(place, plot.name) for plot in all_plots()[:FIRST]]
    view = _view(section, [picture for picture in drawn if picture], FIRST)
    page = _desk.pages.get_template("index.html").render(parts=[_part(view)], up="../index.html")
    (_desk.out / "tasks" / f"{section.slug}.html").write_text(page, "utf-8")
    return overview.outline_task(section, view.advice), _lines(section)


def _view(section: TaskResults, pictures: list[Picture], seeds: int | None = None) -> SectionView:
    return SectionView(section, pictures, _desk.questions(section.records[0].spec), _desk.translate, seeds)


def _part(view: SectionView) -> TaskPage:
    page, markdown = (_desk.pages.get_template(f"section.{kind}").render(view=view) for kind in ("html", "md"))
    return TaskPage(view.section.title, view.section.slug, Markup(page.rstrip("\n")), markdown)


def _draw(place: int, name: str) -> Picture | None:
    """One plot of one section, also as files; None where it has nothing to show."""
    from matplotlib import pyplot

    section, translate, folder = _desk.sections[place], _desk.translate, _desk.out / "plots"
    plot = next(plot for plot in all_plots() if plot.name == name)
    with plot_style():
        figure = plot.draw(section, translate)
        if figure is None:
            return None
        finish_figure(figure)
        file, text = f"{section.slug}-{plot.name}", StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        if len(_desk.sections) <= FEW:  # which takes as long again
            figure.savefig(folder / f"{file}.png")
        pyplot.close(figure)
    (folder / f"{file}.svg").write_text(text.getvalue(), "utf-8")
    return Picture(plot.name, file, plot.caption(translate), _inline(text.getvalue(), section))


def _inline(svg: str, section: TaskResults) -> Markup:
    """A picture as a part of a page: marks tell what they stand for, and no two pictures have the same ids."""
    told = {row.key: _told(row, section.metric) for row in section.rows if row.status == "ok"}
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r'<g id="mark:([0-9a-f]+)">',
        lambda found: f'<g class="mark" tabindex="0" role="img" data-tip="{html.escape(told.get(found[1], ""))}">',
        body,
    )
    return Markup(re.sub(r'<g id="[^"]*">', "<g>", body))


def _told(row: MethodSummary, metric: str) -> str:
    each = None if row.query_p50_ms is None else row.query_p50_ms / 1000
    memory = units.UNMEASURED if row.peak_mib is None else f"{row.peak_mib:,.0f} MiB"
    figures = [f"{metric} {row.scores[metric]:.3f}", f"{units.time(row.train_s)} + {units.time(each)}", memory]
    return f"{row.label}: {' · '.join(figures)}"


def _lines(section: TaskResults) -> list[Line]:
    """Every row of a section, with all training sizes."""
    lines = []
    for records, cells in section.by_size:
        bounds = {cell.key: cell.interval for cell in cells}
        for row in summarize_methods(records):
            line: Line = {"task": section.task, "model": records[0].spec.base.ref}
            line |= row.model_dump(exclude={"scores", "params", "seeds"})
            line |= {"params": json.dumps(row.params), "seeds": " ".join(map(str, row.seeds))}
            if row.status == "ok":
                line |= row.scores | {"low": bounds[row.key].low, "high": bounds[row.key].high}
            lines.append(line)
    return lines


def _tables(sections: Sequence[TaskResults], lines: list[Line], out: Path) -> None:
    """Every row as CSV and every run as Parquet."""
    import pandas

    pandas.DataFrame(lines).to_csv(out / "table.csv", index=False)
    runs = [flatten_record(record) for section in sections for record in section.all_records]
    pandas.DataFrame(runs).to_parquet(out / "records.parquet", index=False)
