"""View model of a section: the results of one task as the templates need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from bench import units
from bench.analysis import advice
from bench.analysis.advice import Advice
from bench.analysis.constraints import Constraints
from bench.analysis.significance import Interval, Verdict
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, format_duration
from bench.records import Phase, Record, Sample
from bench.records.samples import answer_metric
from bench.report import advice_text, caveats, findings, loss_change, shift_table, terms_text
from bench.report.columns import TableColumn, build_columns
from bench.report.group_table import GroupTable, group_table
from bench.report.label_table import LabelTable, label_table
from bench.report.shift_table import ShiftRow

NUM_SAMPLES = 10
"""Answers that a page shows of each run."""
MAX_WRONG_SAMPLES = 7
"""Wrong answers among them, unless there are too few correct ones."""
MAX_METHODS_BY_GROUP = 3
"""Methods whose scores by group a Markdown report shows."""


@dataclass(frozen=True)
class Picture:
    """A drawn plot.

    Attributes:
        name: Name of the plot.
        file: Name of its files without the suffix.
        caption: Explanation below the plot.
        svg: The plot as inline SVG.
    """

    name: str
    file: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class SectionView:
    """The section of a page on one task and model.

    Attributes:
        task_results: The results of all methods.
        pictures: The plots, in the order of the page.
        questions: Text of each test question by its id; empty if the task is not available.
        translate: Translates a sentence and fills in its values.
        max_seeds: Runs of each method whose answers are shown; None shows all.
        show_command: Command that writes the page, without options.
    """

    task_results: TaskResults
    pictures: list[Picture]
    questions: dict[str, str]
    translate: Translate
    max_seeds: int | None = None
    show_command: str = "bench report"

    @cached_property
    def advice(self) -> Advice:
        """The advice for a user without limits."""
        return advice.advise(self.task_results, Constraints(), self.translate)

    @cached_property
    def advice_sentences(self) -> list[str]:
        """The advice in words."""
        return advice_text.advice_sentences(self.advice, self.task_results, Constraints(), self.translate)

    @cached_property
    def findings(self) -> list[str]:
        """The leader, and the methods that are significantly better or worse."""
        return findings.comparison_sentences(self.task_results.comparison, self.translate)

    @cached_property
    def caveats(self) -> list[str]:
        """Everything that limits what the table says."""
        records, translate = self.task_results.records, self.translate
        return [
            *loss_change.list_loss_changes(self.task_results.summaries, translate),
            *shift_table.describe_shift(self.task_results, translate),
            *caveats.list_caveats(self.task_results, translate),
            *caveats.describe_energy(records, translate),
        ]

    @cached_property
    def terms_sentences(self) -> list[str]:
        """The runs that are compared, and those that are not because their settings differ."""
        return terms_text.terms_sentences(self.task_results, self.show_command, self.translate)

    @cached_property
    def columns(self) -> list[TableColumn]:
        """The columns of the table after the method, the main metric and the verdicts."""
        return build_columns(self.task_results.summaries, self.task_results.metric, self.translate)

    @cached_property
    def records_by_label(self) -> dict[str, list[Record]]:
        """The records of each method, by its label; records are in the order of their seeds."""
        labels = {row.key: row.label for row in self.task_results.summaries}
        records_by_label: dict[str, list[Record]] = {row.label: [] for row in self.task_results.summaries}
        for record in sorted(self.task_results.records, key=lambda record: record.spec.seed):
            records_by_label[labels[record.spec.key]].append(record)
        return records_by_label

    def interval(self, row: MethodSummary) -> tuple[float, float, float] | None:
        """Return mean, lower and upper 95 % bound of the main metric; None if the method failed."""
        result = next((result for result in self.task_results.comparison.results if result.key == row.key), None)
        if result is None or row.status != "ok":
            return None
        return result.interval.mean, result.interval.low, result.interval.high

    def verdicts(self, row: MethodSummary) -> tuple[Verdict | None, Verdict | None]:
        """Return the verdicts against the leader and against the best control.

        A verdict is None if nothing was compared: for the leader itself, for a control, and after a failure.
        """
        if row.status != "ok":
            return None, None
        comparison = self.task_results.comparison
        vs_leader, vs_control = comparison.against_leader.get(row.key), comparison.against_control.get(row.key)
        return vs_leader.verdict if vs_leader else None, vs_control.verdict if vs_control else None

    def verdict_word(self, verdict: Verdict | None) -> str:
        """Return a verdict in the language of the page; empty for None."""
        words = {
            "better": self.translate("better"),
            "worse": self.translate("worse"),
            "equivalent": self.translate("equivalent"),
            "inconclusive": self.translate("inconclusive"),
        }
        return words[verdict] if verdict else ""

    @cached_property
    def setup(self) -> list[str]:
        """Methods, seeds, test questions, budget, precision and machines of the runs."""
        records, translate = self.task_results.records, self.translate
        spec = records[0].spec
        seeds = sorted({record.spec.seed for record in records})
        budget = spec.budget.model_dump(exclude_none=True)
        machines = dict.fromkeys(
            translate("{processor}, {cores} cores, {device}", **record.env.model_dump())
            for record in records
            if record.env
        )
        return [
            translate("{methods} methods", methods=len(self.records_by_label)),
            translate("seeds {seeds}", seeds=", ".join(map(str, seeds))),
            translate("{items} test questions", items=max(len(record.samples) for record in records)),
            translate("budget: {budget}", budget=", ".join(f"{name} {value}" for name, value in budget.items())),
            spec.base.dtype,
            *caveats.describe_prompts(spec, translate),
            *machines,
        ]

    def duration(self, seconds: float | None) -> str:
        """Write seconds in the language of the page."""
        return format_duration(seconds, self.translate)

    def peak_memory(self, phase: Phase) -> str:
        """Write the peak of a phase in MiB, of a phase on a GPU also that of the process."""
        if phase.host_peak_mib is None:
            return units.format_integer(phase.peak_mib)
        host = self.translate("{mib} host", mib=units.format_integer(phase.host_peak_mib))
        if phase.peak_mib is None:
            return host
        device = self.translate("{mib} GPU", mib=units.format_integer(phase.peak_mib))
        return f"{device}, {host}"

    def has_fit_report(self, records: Sequence[Record]) -> bool:
        """Tell if a run of a method reports what it chose while fitting."""
        return any(record.fit_report for record in records)

    def describe_fit_report(self, record: Record) -> str:
        """Return what a run chose while fitting, e.g. `shots 24, calibrated yes`."""
        words = {True: "yes", False: "no"}
        values = {
            name: words[value] if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else value
            for name, value in (record.fit_report or {}).items()
        }
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items()) or "–"

    def records_with_samples(self, records: Sequence[Record]) -> list[Record]:
        """Return the runs of a method whose answers are shown."""
        return [record for record in records if record.samples][: self.max_seeds]

    @cached_property
    def answer_metric(self) -> str:
        """The score of single answers: the main metric, or `em` if that needs all answers."""
        metric = self.task_results.metric
        return next(
            (answer_metric(metric, record.scores) for record in self.task_results.records if record.scores), metric
        )

    def label_table(self, records: Sequence[Record]) -> LabelTable | None:
        """Return the labels of a method over its seeds; None if its answers are no closed labels."""
        return label_table(records)

    def group_table(self, records: Sequence[Record]) -> GroupTable | None:
        """Return the scores of a method by group of questions; None without groups."""
        return group_table(records)

    @cached_property
    def shift_rows(self) -> list[ShiftRow]:
        """Scores on questions of another time or source, best first; empty if the task has none."""
        return shift_table.shift_rows(self.task_results)

    def points(self, interval: Interval) -> tuple[str, str]:
        """Write a difference and its interval in points."""
        return f"{100 * interval.mean:+.1f}", f"{100 * interval.low:+.1f} – {100 * interval.high:+.1f}"

    @cached_property
    def group_tables(self) -> dict[str, GroupTable]:
        """Scores by group of the best methods, by label.

        They are those that are not shown to be worse than the leader.
        """
        contrasts = self.task_results.comparison.against_leader
        best = [
            result
            for result in self.task_results.comparison.results
            if not result.control and (result.key not in contrasts or contrasts[result.key].verdict != "worse")
        ]
        tables = {result.name: group_table(result.records) for result in best[:MAX_METHODS_BY_GROUP]}
        return {name: table for name, table in tables.items() if table is not None}

    def describe_groups(self, table: GroupTable) -> str:
        """Return the explanation of a table of groups."""
        return self.translate(
            "{shown} of {all} groups with two or more questions, the lowest scores first. The intervals hold for all "
            "these groups together (95 %, Bonferroni).",
            shown=len(table.rows),
            all=table.n_groups,
        )

    def samples(self, record: Record) -> list[Sample]:
        """Return some answers of a run, wrong ones first."""
        scores = record.samples.scores(self.answer_metric)
        wrong = [index for index, score in enumerate(scores) if score < 1]
        correct = [index for index, score in enumerate(scores) if score >= 1]
        shown = wrong[: max(MAX_WRONG_SAMPLES, NUM_SAMPLES - len(correct))]
        return record.samples.take(shown + correct[: NUM_SAMPLES - len(shown)])

    def num_wrong(self, record: Record) -> int:
        """Return the number of answers that are not fully correct."""
        return sum(score < 1 for score in record.samples.scores(self.answer_metric))
