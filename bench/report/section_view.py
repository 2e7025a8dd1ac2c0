"""What a page says of one section: everything that is told of it, as templates want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from bench.analysis import advice
from bench.analysis.advice import Advice
from bench.analysis.constraints import Constraints
from bench.analysis.significance import Verdict
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate
from bench.records.record import Record
from bench.records.samples import Sample
from bench.report import advice_text, caveats, findings
from bench.report.columns import TableColumn, build_columns

SAMPLES, WRONG = 10, 7


@dataclass(frozen=True)
class Picture:
    """A plot as it was drawn."""

    name: str
    file: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class SectionView:
    """What a page says of one section."""

    section: TaskResults
    pictures: list[Picture]
    questions: dict[str, str]
    translate: Translate
    seeds: int | None = None
    """Of each method, so many runs' answers are shown; None: all."""

    @cached_property
    def advice(self) -> Advice:
        """What to use where nothing is limited."""
        return advice.advise(self.section, Constraints(), self.translate)

    @cached_property
    def answer(self) -> list[str]:
        """The advice in words."""
        return advice_text.advice_sentences(self.advice, self.section, Constraints(), self.translate)

    @cached_property
    def findings(self) -> list[str]:
        """Who leads, and who is shown better or worse than whom."""
        return findings.comparison_sentences(self.section.comparison, self.translate)

    @cached_property
    def notes(self) -> list[str]:
        """What must be known beside the table."""
        return caveats.caveats(self.section, self.translate)

    @cached_property
    def columns(self) -> list[TableColumn]:
        """The table's, beside the method, the main metric and the verdicts."""
        return build_columns(self.section.rows, self.section.metric, self.translate)

    @cached_property
    def methods(self) -> dict[str, list[Record]]:
        """The runs of every method by its label, as the table has them, seeds in order."""
        names = {row.key: row.label for row in self.section.rows}
        found: dict[str, list[Record]] = {row.label: [] for row in self.section.rows}
        for record in sorted(self.section.records, key=lambda record: record.spec.seed):
            found[names[record.spec.key]].append(record)
        return found

    def interval(self, row: MethodSummary) -> tuple[float, float, float] | None:
        """Mean and 95 % bounds of the main metric."""
        cell = next((cell for cell in self.section.comparison.results if cell.key == row.key), None)
        if cell is None or row.status != "ok":
            return None
        return cell.interval.mean, cell.interval.low, cell.interval.high

    def verdicts(self, row: MethodSummary) -> tuple[Verdict | None, Verdict | None]:
        """Against the leader and against the best control."""
        found = self.section.comparison
        leader, control = found.against_leader.get(row.key), found.against_control.get(row.key)
        ok = row.status == "ok"
        return leader.verdict if leader and ok else None, control.verdict if control and ok else None

    def verdict(self, one: Verdict | None) -> str:
        """A verdict in one word; nothing where nothing was compared."""
        words = {
            "better": self.translate("better"),
            "worse": self.translate("worse"),
            "equivalent": self.translate("equivalent"),
            "inconclusive": self.translate("inconclusive"),
        }
        return words[one] if one else ""

    @cached_property
    def setting(self) -> list[str]:
        """Under which terms it was measured, and where."""
        spec, translate = self.section.records[0].spec, self.translate
        granted = spec.budget.model_dump(exclude_none=True)
        told = [
            translate("{methods} methods", methods=len(self.methods)),
            translate(
                "seeds {seeds}", seeds=", ".join(map(str, sorted({one.spec.seed for one in self.section.records})))
            ),
            translate("{items} test questions", items=max(len(one.samples) for one in self.section.records)),
            translate("budget: {budget}", budget=", ".join(f"{name} {value}" for name, value in granted.items())),
            spec.base.dtype,
        ]
        machines = dict.fromkeys(
            translate("{processor}, {cores} cores, {device}", **one.env.model_dump())
            for one in self.section.records
            if one.env
        )
        return [*told, *machines]

    def answered(self, records: Sequence[Record]) -> list[Record]:
        """The runs of a method whose answers are shown."""
        return [record for record in records if record.samples][: self.seeds]

    def samples(self, record: Record) -> list[Sample]:
        """Some answers, errors first."""
        scores = record.samples.scores(self.section.metric)
        wrong = [place for place, score in enumerate(scores) if score < 1]
        right = [place for place, score in enumerate(scores) if score >= 1]
        some = wrong[: max(WRONG, SAMPLES - len(right))]
        return record.samples.take(some + right[: SAMPLES - len(some)])

    def wrong(self, record: Record) -> int:
        """How many answers are not fully right."""
        return sum(score < 1 for score in record.samples.scores(self.section.metric))
