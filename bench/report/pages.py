"""Report of records: offline pages, Markdown for a pull request, tables and plots."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup
from threadpoolctl import threadpool_limits

from bench import __version__, units
from bench.analysis.summary import MethodSummary, summarize_methods
from bench.analysis.task_results import TaskResults
from bench.cpu import available_cores
from bench.escape import clean_text, csv_cell, escape_markdown_value, xml_text
from bench.i18n import Translate, format_duration, translator
from bench.records import Spec
from bench.records.flatten import flatten_record
from bench.report import overview
from bench.report.overview import TaskOutline
from bench.report.plot_style import finish_figure, plot_style
from bench.report.plots import all_plots
from bench.report.section_view import Picture, SectionView

TEMPLATES = Path(__file__).parent / "templates"
MAX_TASKS_ON_ONE_PAGE = 12
"""With more tasks each has its own page, with fewer plots and answers."""
PLOTS_PER_TASK_PAGE = 1
SEEDS_PER_TASK_PAGE = 1
LoadQuestions = Callable[[Spec], dict[str, str]]
"""Returns the text of each test question by its id; empty if the task of the run is not available."""
CsvRow = dict[str, Any]


@dataclass(frozen=True)
class RenderedSection:
    """The section of one task, as HTML and as Markdown."""

    title: str
    slug: str
    html: Markup
    markdown: Markup


@dataclass(frozen=True)
class ReportWriter:
    """Writes the parts of one report.

    Worker processes inherit the writer when they are forked, since the results are too large to be sent to them.

    Attributes:
        results: The results of every task.
        out: Folder of the report.
        translate: Translates a sentence and fills in its values.
        load_questions: Returns the test questions of a run.
        templates: The Jinja environment.
        show_command: Command that writes this report, without options.
    """

    results: Sequence[TaskResults]
    out: Path
    translate: Translate
    load_questions: LoadQuestions
    templates: Environment
    show_command: str

    def write_file(self, template: str, file: str, **values: Any) -> None:
        """Render a template into a file of the report."""
        (self.out / file).write_text(self.templates.get_template(template).render(values), "utf-8")

    def write_task_page(self, index: int) -> tuple[TaskOutline, list[CsvRow]]:
        """Write plots and page of one task.

        Returns:
            The line of the task in the overview, and its rows of the CSV table.
        """
        task_results = self.results[index]
        pictures = [self.draw(index, plot.name) for plot in all_plots()[:PLOTS_PER_TASK_PAGE]]
        view = self.view(task_results, [picture for picture in pictures if picture], SEEDS_PER_TASK_PAGE)
        file = f"tasks/{task_results.slug}.html"
        self.write_file("index.html", file, sections=[self.render(view)], up="../index.html")
        return overview.outline_task(task_results, view.advice), _csv_rows(task_results)

    def view(self, task_results: TaskResults, pictures: list[Picture], max_seeds: int | None = None) -> SectionView:
        """Return the view model of one task."""
        questions = self.load_questions(task_results.records[0].spec)
        return SectionView(task_results, pictures, questions, self.translate, max_seeds, self.show_command)

    def render(self, view: SectionView) -> RenderedSection:
        """Render a section as HTML and as Markdown."""
        page, markdown = (self.templates.get_template(f"section.{kind}").render(view=view) for kind in ("html", "md"))
        task_results = view.task_results
        return RenderedSection(task_results.title, task_results.slug, Markup(page.rstrip("\n")), Markup(markdown))

    def draw(self, index: int, plot_name: str) -> Picture | None:
        """Draw one plot of one task and write its files; returns None if it has nothing to show."""
        from matplotlib import pyplot

        task_results, folder = self.results[index], self.out / "plots"
        plot = next(plot for plot in all_plots() if plot.name == plot_name)
        with plot_style():
            figure = plot.draw(task_results, self.translate)
            if figure is None:
                return None
            finish_figure(figure)
            file, buffer = f"{task_results.slug}-{plot.name}", StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            if len(self.results) <= MAX_TASKS_ON_ONE_PAGE:  # The PNG takes as long as the drawing and the SVG together.
                figure.savefig(folder / f"{file}.png")
            pyplot.close(figure)
        svg = xml_text(buffer.getvalue())
        (folder / f"{file}.svg").write_text(svg, "utf-8")
        return Picture(plot.name, file, plot.caption(self.translate), self._inline_svg(svg, task_results))

    def _inline_svg(self, svg: str, task_results: TaskResults) -> Markup:
        """Prepare a plot for a page: add tooltips to the markers and remove ids.

        Two plots on a page may have the same ids.
        """
        metric = task_results.metric
        tooltips = {row.key: self._tooltip(row, metric) for row in task_results.summaries if row.status == "ok"}

        def marker_group(match: re.Match[str]) -> str:
            tip = html.escape(clean_text(tooltips.get(match[1], "")))
            return f'<g class="mark" tabindex="0" role="img" data-tip="{tip}">'

        body = svg[svg.index("<svg") :]
        body = re.sub(r'<g id="mark:([0-9a-f]+)">', marker_group, body)
        return Markup(re.sub(r'<g id="[^"]*">', "<g>", body))

    def _tooltip(self, row: MethodSummary, metric: str) -> str:
        """Return score, training time, mean latency and peak memory of a method."""
        latency_s = None if row.query_mean_ms is None else row.query_mean_ms / 1000
        training, latency = (format_duration(seconds, self.translate) for seconds in (row.train_s, latency_s))
        memory = units.UNMEASURED if row.peak_mib is None else f"{row.peak_mib:,.0f} MiB"
        score = units.format_score(row.scores[metric], metric)
        return f"{row.label}: {metric} {score} · {training} + {latency} · {memory}"


_worker_writer: ReportWriter
"""The writer of this worker process, set by `_start_worker`."""


def write_report(
    results: Sequence[TaskResults],
    out: Path,
    language: str = "en",
    load_questions: LoadQuestions = lambda spec: {},
    show_command: str = "bench report",
) -> None:
    """Write a report into a folder, with one process per core.

    Files of an older report are overwritten. Up to `MAX_TASKS_ON_ONE_PAGE` tasks share one page. With more tasks each
    has its own page, and the first page is an overview of all.

    Args:
        results: The results of every task.
        out: Folder of the report; it is created.
        language: Language of the pages, "en" or "ko".
        load_questions: Returns the text of the test questions of a run by their ids.
        show_command: Command that writes this report, without options.
    """
    translate = translator(language)
    writer = ReportWriter(results, out, translate, load_questions, _load_templates(translate, language), show_command)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    workers = available_cores()
    with ProcessPoolExecutor(workers, get_context("fork"), _start_worker, (writer,)) as pool:
        write = _write_many if len(results) > MAX_TASKS_ON_ONE_PAGE else _write_few
        csv_rows = write(writer, pool)
    _write_tables(results, csv_rows, out)


def _start_worker(writer: ReportWriter) -> None:
    global _worker_writer
    _worker_writer = writer
    threadpool_limits(1)  # There is already one process per core.


def _write_task_page_in_worker(index: int) -> tuple[TaskOutline, list[CsvRow]]:
    return _worker_writer.write_task_page(index)


def _draw_in_worker(index: int, plot_name: str) -> Picture | None:
    return _worker_writer.draw(index, plot_name)


def _write_many(writer: ReportWriter, pool: ProcessPoolExecutor) -> list[CsvRow]:
    """Write a page for each task and the overview; returns the rows of the CSV table."""
    (writer.out / "tasks").mkdir(exist_ok=True)
    outlines: list[TaskOutline] = []
    csv_rows: list[CsvRow] = []
    for outline, rows in pool.map(_write_task_page_in_worker, range(len(writer.results))):
        outlines.append(outline)
        csv_rows += rows
    values = {
        "tasks": outlines,
        "methods": overview.overview_methods(outlines),
        "max_tasks": MAX_TASKS_ON_ONE_PAGE,
    }
    writer.write_file("overview.html", "index.html", **values)
    writer.write_file("overview.md", "report.md", **values)
    return csv_rows


def _write_few(writer: ReportWriter, pool: ProcessPoolExecutor) -> list[CsvRow]:
    """Write one page with all tasks and all plots; returns the rows of the CSV table."""
    jobs = [(index, plot.name) for index in range(len(writer.results)) for plot in all_plots()]
    drawn = pool.map(_draw_in_worker, *zip(*jobs, strict=True))
    # The workers draw while this process computes the rows.
    csv_rows = [row for task_results in writer.results for row in _csv_rows(task_results)]
    pictures: list[list[Picture]] = [[] for _ in writer.results]
    for (index, _), picture in zip(jobs, drawn, strict=True):
        if picture:
            pictures[index].append(picture)
    sections = [
        writer.render(writer.view(task_results, pictures[index])) for index, task_results in enumerate(writer.results)
    ]
    writer.write_file("index.html", "index.html", sections=sections, up=None)
    writer.write_file("report.md", "report.md", sections=sections)
    return csv_rows


def _load_templates(translate: Translate, language: str) -> Environment:
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_safe_value,
    )
    templates.globals |= {
        "translate": translate,
        "units": units,
        "language": language,
        "version": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "style": Markup((TEMPLATES / "style.css").read_text("utf-8")),
        "script": Markup((TEMPLATES / "script.js").read_text("utf-8")),
    }
    return templates


@pass_eval_context
def _safe_value(context: EvalContext, value: Any) -> Any:
    """Return a value in a template safe for Markdown, or for HTML, where Jinja escapes it too."""
    if not context.autoescape:
        return escape_markdown_value(value)
    return clean_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csv_rows(task_results: TaskResults) -> list[CsvRow]:
    """Return a row for each method and training size."""
    csv_rows = []
    for records, results in task_results.results_by_size:
        intervals = {result.key: result.interval for result in results}
        for summary in summarize_methods(records):
            row: CsvRow = {"task": task_results.task, "model": records[0].spec.base.ref}
            row["terms"] = task_results.run_set.id
            row |= summary.model_dump(exclude={"scores", "params", "seeds"})
            row |= {"params": json.dumps(summary.params), "seeds": " ".join(map(str, summary.seeds))}
            if summary.status == "ok":
                interval = intervals[summary.key]
                row |= summary.scores | {"low": interval.low, "high": interval.high}
            csv_rows.append(row)
    return csv_rows


def _write_tables(results: Sequence[TaskResults], csv_rows: list[CsvRow], out: Path) -> None:
    """Write every method as CSV and every run as Parquet."""
    import pandas

    safe_rows = [{csv_cell(name): csv_cell(value) for name, value in row.items()} for row in csv_rows]
    pandas.DataFrame(safe_rows).to_csv(out / "table.csv", index=False, encoding="utf-8")
    runs = [flatten_record(record) for task_results in results for record in task_results.all_records]
    pandas.DataFrame(runs).to_parquet(out / "records.parquet", index=False)
