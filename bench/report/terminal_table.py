"""The table that a run ends with: one row per method, best first, for a terminal of 80 columns."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench import units
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults

LEGEND = (
    "° control. – not measured. trained: parameters. peak: of any phase. tok/s: answer tokens, in batches. ms/ask: "
    "median, one question at a time. artifact: bytes kept."
)
LOSS_CHANGE = "forgets: nats by which a token of general text costs more after adapting than before."


def render_table(section: TaskResults) -> Table:
    """The rows of one comparison."""
    spec, shown = section.records[0].spec, section.rows
    seeds = len({record.spec.seed for record in section.records})
    title = f"{spec.task.name} on {spec.base.ref}"
    title = f"{title}, means of {seeds} seeds" if seeds > 1 else title
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("method", overflow="fold")  # rather than a figure, a name gives way
    metrics = list(dict.fromkeys(metric for row in shown for metric in row.scores))
    forgets = ["for-\ngets"] if any(row.forgetting_nats is not None for row in shown) else []
    costs = ["trai-\nned", "fit\ns", "peak\nMiB", "tok\n/s", "ms/\nask", "arte-\nfact"]
    for heading in [*map(_broken, metrics), *forgets, *costs]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in shown:
        scores: list[str | Text] = [units.decimal(row.scores.get(metric)) for metric in metrics]
        if row.status != "ok":
            scores[:1] = [Text(row.status, style="bold red")]
        scores += [units.signed(row.forgetting_nats) for _ in forgets]
        table.add_row(f"{row.label} °" if row.control else row.label, *scores, *_costs(row))
    return table


def render_by_train_size(section: TaskResults) -> Table:
    """The main metric of each method for each number of training examples."""
    sizes = section.rows_by_size
    shown = {size: {row.label: row for row in some if row.status == "ok"} for size, some in sizes.items()}
    table = Table(
        title=f"{section.metric} by training examples", title_justify="left", box=SIMPLE_HEAD, show_edge=False
    )
    table.add_column("method", overflow="fold")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right", no_wrap=True)
    for label in dict.fromkeys(label for found in reversed(shown.values()) for label in found):
        cells = [found[label].scores.get(section.metric) if label in found else None for found in shown.values()]
        control = any(found[label].control for found in shown.values() if label in found)
        table.add_row(f"{label} °" if control else label, *map(units.decimal, cells))
    return table


def legend(section: TaskResults) -> list[str]:
    """What its signs and headings mean."""
    return [LEGEND, LOSS_CHANGE] if any(row.forgetting_nats is not None for row in section.rows) else [LEGEND]


def _costs(row: MethodSummary) -> list[str]:
    return [
        units.count(row.trainable),
        units.figures(row.train_s),
        units.UNMEASURED if row.peak_mib is None else f"{row.peak_mib:.0f}",
        units.UNMEASURED if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}",
        units.figures(row.query_p50_ms),
        units.size(row.artifact_bytes),
    ]


def _broken(metric: str) -> str:
    """A heading in two lines where one would be wider than its figures."""
    return metric if len(metric) < 6 else f"{metric[: len(metric) // 2]}-\n{metric[len(metric) // 2 :]}"
