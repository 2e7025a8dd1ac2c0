"""Records to a report: one page that opens offline, Markdown for a pull request, tables and pictures."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench import __version__, advice, comparison, counsel, notes, units
from bench.advice import Advice
from bench.columns import Column, columns
from bench.contrast import Verdict
from bench.drawing import settle, style
from bench.figures import flat
from bench.limits import Wishes
from bench.plots import every
from bench.record import Record, Spec
from bench.rows import Row
from bench.samples import Sample
from bench.sections import Section
from bench.words import Say, speaker

PAGE = Path(__file__).parent / "page"
SAMPLES, WRONG = 10, 7
Questions = Callable[[Spec], dict[str, str]]
"""The text of each test question by its id, as far as the task is at hand."""
_drawn: tuple[Sequence[Section], Path, Say]


@dataclass(frozen=True)
class Picture:
    """A plot as it was drawn."""

    name: str
    file: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class View:
    """What a page says of one section."""

    section: Section
    pictures: list[Picture]
    questions: dict[str, str]
    say: Say

    @property
    def title(self) -> str:
        """The heading."""
        return self.section.title

    @property
    def slug(self) -> str:
        """The heading as a part of a file's name or an address."""
        return _slug(self.section)

    @cached_property
    def advice(self) -> Advice:
        """What to use where nothing is limited."""
        return advice.decide(self.section, Wishes(), self.say)

    @cached_property
    def answer(self) -> list[str]:
        """The advice in words."""
        return counsel.sentences(self.advice, self.section, Wishes(), self.say)

    @cached_property
    def findings(self) -> list[str]:
        """Who leads, and who is shown better or worse than whom."""
        return comparison.sentences(self.section.found, self.say)

    @cached_property
    def notes(self) -> list[str]:
        """What must be known beside the table."""
        return [*notes.notes(self.section.records, self.say), *notes.smaller(self.section.sizes, self.say)]

    @cached_property
    def columns(self) -> list[Column]:
        """The table's, beside the method, the main metric and the verdicts."""
        return columns(self.section.rows, self.section.metric, self.say)

    @cached_property
    def methods(self) -> dict[str, list[Record]]:
        """The runs of every method by its label, as the table has them, seeds in order."""
        names = {row.key: row.label for row in self.section.rows}
        found: dict[str, list[Record]] = {row.label: [] for row in self.section.rows}
        for record in sorted(self.section.records, key=lambda record: record.spec.seed):
            found[names[record.spec.key]].append(record)
        return found

    def interval(self, row: Row) -> tuple[float, float, float] | None:
        """Mean and 95 % bounds of the main metric."""
        cell = next((cell for cell in self.section.found.cells if cell.key == row.key), None)
        if cell is None or row.status != "ok":
            return None
        return cell.interval.mean, cell.interval.low, cell.interval.high

    def verdicts(self, row: Row) -> tuple[Verdict | None, Verdict | None]:
        """Against the leader and against the best control."""
        found = self.section.found
        leader, control = found.against_leader.get(row.key), found.against_control.get(row.key)
        ok = row.status == "ok"
        return leader.verdict if leader and ok else None, control.verdict if control and ok else None

    def verdict(self, one: Verdict | None) -> str:
        """A verdict in one word; nothing where nothing was compared."""
        words = {
            "better": self.say("better"),
            "worse": self.say("worse"),
            "equivalent": self.say("same"),
            "undecided": self.say("open"),
        }
        return words[one] if one else ""

    @cached_property
    def setting(self) -> list[str]:
        """Under which terms it was measured, and where."""
        spec, say = self.section.records[0].spec, self.say
        granted = spec.budget.model_dump(exclude_none=True)
        told = [
            say("{methods} methods", methods=len(self.methods)),
            say("seeds {seeds}", seeds=", ".join(map(str, sorted({one.spec.seed for one in self.section.records})))),
            say("{items} test questions", items=max(len(one.samples) for one in self.section.records)),
            say("budget: {budget}", budget=", ".join(f"{name} {value}" for name, value in granted.items())),
            spec.base.dtype,
        ]
        machines = dict.fromkeys(
            say("{processor}, {cores} cores, {device}", **one.env.model_dump())
            for one in self.section.records
            if one.env
        )
        return [*told, *machines]

    def samples(self, record: Record) -> list[Sample]:
        """Some answers, errors first."""
        scores = record.samples.scores(self.section.metric)
        wrong = [place for place, score in enumerate(scores) if score < 1]
        right = [place for place, score in enumerate(scores) if score >= 1]
        some = wrong[: max(WRONG, SAMPLES - len(right))]
        return record.samples.at(some + right[: SAMPLES - len(some)])

    def wrong(self, record: Record) -> int:
        """How many answers are not fully right."""
        return sum(score < 1 for score in record.samples.scores(self.section.metric))


def write(sections: Sequence[Section], out: Path, language: str = "en", questions: Questions = lambda spec: {}) -> None:
    """Write the whole report into a folder, over one that is there."""
    say = speaker(language)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    for section in sections:
        _ = section.found, section.rows  # reckoned once, before the processes that draw part
    pictures = _pictures(sections, out / "plots", say)
    views = [
        View(section, drawn, questions(section.records[0].spec), say)
        for section, drawn in zip(sections, pictures, strict=True)
    ]
    pages = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    pages.filters["cell"] = _cell
    pages.globals |= {
        "say": say,
        "units": units,
        "language": language,
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "style": Markup((PAGE / "style.css").read_text("utf-8")),
        "script": Markup((PAGE / "script.js").read_text("utf-8")),
    }
    for name in ("index.html", "report.md"):
        (out / name).write_text(pages.get_template(name).render(views=views), "utf-8")
    _tables(sections, out)


def _cell(text: str) -> str:
    """Text that stays what it is in Markdown, also in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _pictures(sections: Sequence[Section], folder: Path, say: Say) -> list[list[Picture]]:
    """Every plot of each section that has something to show, also as files; drawn on all cores."""
    global _drawn  # inherited by the processes that draw, since sections are large
    _drawn = sections, folder, say
    jobs = [(place, plot.name) for place in range(len(sections)) for plot in every()]
    with get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        found = pool.starmap(_draw, jobs, chunksize=1)
    return [
        [picture for (place, _), picture in zip(jobs, found, strict=True) if place == wanted and picture]
        for wanted in range(len(sections))
    ]


def _draw(place: int, name: str) -> Picture | None:
    """One plot of one section; None where it has nothing to show."""
    from matplotlib import pyplot

    sections, folder, say = _drawn
    plot = next(plot for plot in every() if plot.name == name)
    with style():
        figure = plot.draw(sections[place], say)
        if figure is None:
            return None
        settle(figure)
        file, text = f"{_slug(sections[place])}-{plot.name}", StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        figure.savefig(folder / f"{file}.png")
        pyplot.close(figure)
    (folder / f"{file}.svg").write_text(text.getvalue(), "utf-8")
    return Picture(plot.name, file, plot.caption(say), _inline(text.getvalue(), sections[place]))


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


def _tables(sections: Sequence[Section], out: Path) -> None:
    """Every row as CSV and every run as Parquet, with all training sizes."""
    import pandas

    from bench.rows import rows

    lines = []
    for section in sections:
        for records in list(section.sizes.values()) or [section.records]:
            bounds = {cell.key: cell.interval for cell in comparison.cells(records)}
            for row in rows(records):
                line: dict[str, Any] = {"task": section.task, "model": records[0].spec.base.ref}
                line |= row.model_dump(exclude={"scores", "params", "seeds"})
                line |= {"params": json.dumps(row.params), "seeds": " ".join(map(str, row.seeds))}
                if row.status == "ok":
                    line |= row.scores | {"low": bounds[row.key].low, "high": bounds[row.key].high}
                lines.append(line)
    pandas.DataFrame(lines).to_csv(out / "table.csv", index=False)
    runs = [
        record
        for section in sections
        for records in (section.sizes.values() or [section.records])
        for record in records
    ]
    pandas.DataFrame([flat(record) for record in runs]).to_parquet(out / "records.parquet", index=False)


def _slug(section: Section) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{section.task}-{section.model}")
