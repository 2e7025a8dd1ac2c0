"""Tables that `bench run` prints: a row per method, best first, for 80 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench import units
from bench.analysis.comparison import Comparison
from bench.analysis.significance import Interval, Verdict
from bench.analysis.summary import MethodSummary, uses_cuda
from bench.analysis.task_results import TaskResults
from bench.report.caveats import describe_prompts
from bench.report.findings import FLOOR_SCORE
from bench.report.loss_change import list_loss_changes, measured_texts

INTERVAL_HEAD = "95 %\ninterval"
VERDICT_HEAD = "verdict"
COST_HEADS = ("train", "latency", "peak\nMiB", "size")
CUDA_COST_HEADS = (*COST_HEADS[:2], "GPU\nMiB", "RAM\nMiB", *COST_HEADS[3:])
"""Heads where some method used a GPU: its memory and that of the process are different quantities."""
WIDE_COST_HEADS = ("params", "tok/s", "p95")
"""Heads that only the wide table has, after those of every table."""
LOSS_CHANGE_HEAD = "Δ\nloss"
PEAK_LEGEND = "peak: peak memory over all phases."
CUDA_PEAK_LEGEND = "GPU, RAM: peak memory over all phases on the GPU (torch's allocator) and of the process."
LEGEND = (
    "° control. – not measured. verdict: against the highest score of a method that is no control. train: training "
    f"time. latency: mean of single queries. {PEAK_LEGEND} size: bytes on disk."
)
WIDE_LEGEND = (
    "params: trainable parameters. tok/s: generated tokens per second, batched. p95: 95th percentile of the latency."
)
LOSS_CHANGE_LEGEND = "Δ loss: increase in loss on general text, nats per token."
HIGHEST = "highest"
INVERSE_VERDICTS: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
MAX_METRIC_HEAD_CHARS = 6
"""Longer metric names are broken in the wide table."""


def render_table(task_results: TaskResults, *, wide: bool = False) -> Table:
    """Return the main score, its interval, a verdict and the costs of every method.

    All are means over the seeds. Controls stand apart, below the other methods. A method that failed shows its status
    in place of a verdict.

    Args:
        task_results: Results of a task on a model.
        wide: True adds the other metrics, the loss change on each general text and the costs of `WIDE_COST_HEADS`; the
            table may then be wider than 80 columns.
    """
    rows = task_results.summaries
    has_cuda = uses_cuda(rows)
    table = Table(title=_title(task_results), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge = False
    table.add_column("method", overflow="fold")  # Long names are folded, so that numbers never are.
    for head in (f"{_break_metric_name(task_results.metric)}\n%", INTERVAL_HEAD):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(VERDICT_HEAD, no_wrap=True)
    for head in [*(CUDA_COST_HEADS if has_cuda else COST_HEADS), *(_wide_heads(rows, task_results) if wide else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    contenders = [row for row in rows if not row.control]
    controls = [row for row in rows if row.control]
    for group in (contenders, controls):
        for row in group:
            cells = [*_score_cells(row, task_results), *_cost_cells(row, has_cuda=has_cuda)]
            if wide:
                cells += _wide_cells(row, rows, task_results)
            table.add_row(_marked_label(row), *cells)
        table.add_section()
    return table


def render_by_train_size(task_results: TaskResults) -> Table:
    """Return the main metric of every method for each number of training examples."""
    table = Table(
        title=f"{task_results.metric} by training examples",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("method", overflow="fold")
    columns: list[dict[str, MethodSummary]] = []
    for size, rows in task_results.summaries_by_size.items():
        table.add_column(f"{size:,}", justify="right", no_wrap=True)
        columns.append({row.label: row for row in rows if row.status == "ok"})
    # The order of the largest training size comes first, since that size is the one that is compared.
    for label in dict.fromkeys(label for column in reversed(columns) for label in column):
        scores = [column[label].scores.get(task_results.metric) if label in column else None for column in columns]
        row = next(column[label] for column in columns if label in column)
        table.add_row(_marked_label(row), *map(units.format_score, scores))
    return table


def legend(task_results: TaskResults, *, wide: bool = False) -> list[str]:
    """Explain the symbols and heads of the table, and prompts that are not plain text."""
    peak_legend = CUDA_PEAK_LEGEND if uses_cuda(task_results.summaries) else PEAK_LEGEND
    changes = list_loss_changes(task_results.summaries)
    wide_legend = [WIDE_LEGEND, *([LOSS_CHANGE_LEGEND] if changes else [])] if wide else []
    prompts = [f"{text[0].upper()}{text[1:]}." for text in describe_prompts(task_results.records[0].spec)]
    return [LEGEND.replace(PEAK_LEGEND, peak_legend), *wide_legend, *changes, *prompts]


def _title(task_results: TaskResults) -> str:
    spec = task_results.records[0].spec
    num_seeds = len({record.spec.seed for record in task_results.records})
    title = f"{spec.task.name} on {spec.base.ref}"
    return f"{title}, means of {num_seeds} seeds" if num_seeds > 1 else title


def _marked_label(row: MethodSummary) -> str:
    return f"{row.label} °" if row.control else row.label


def _score_cells(row: MethodSummary, task_results: TaskResults) -> list[str | Text]:
    """Return score and interval in per cent, and a verdict or the status of a failed run."""
    if row.status != "ok":
        return [units.UNMEASURED, units.UNMEASURED, Text(row.status, style="bold red")]
    comparison = task_results.comparison
    interval = next(result.interval for result in comparison.results if result.key == row.key)
    return [f"{100 * interval.mean:.1f}", _format_interval(interval), _verdict(row.key, comparison)]


def _format_interval(interval: Interval) -> str:
    return f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def _verdict(key: str, comparison: Comparison) -> str:
    """Return the verdict on a method against the leader; empty where none is given.

    None is given if no method scores above the floor. Of the controls, only the best is compared with the leader.
    """
    leader, control = comparison.leader, comparison.control
    if leader is None or comparison.results[0].interval.mean < FLOOR_SCORE:
        return ""
    if key == leader.key:
        return HIGHEST
    if key in comparison.against_leader:
        return comparison.against_leader[key].verdict
    if control is not None and key == control.key:
        verdict = comparison.against_control[leader.key].verdict
        return INVERSE_VERDICTS.get(verdict, verdict)
    return ""


def _cost_cells(row: MethodSummary, *, has_cuda: bool) -> list[str]:
    """Return the cells below `COST_HEADS`, or below `CUDA_COST_HEADS`."""
    peaks = (row.device_peak_mib, row.host_peak_mib) if has_cuda else (row.peak_mib,)
    return [
        units.format_seconds(row.train_s),
        units.format_seconds(_seconds(row.query_mean_ms)),
        *map(units.format_integer, peaks),
        units.format_bytes(row.artifact_bytes),
    ]


def _wide_heads(rows: Sequence[MethodSummary], task_results: TaskResults) -> list[str]:
    texts = measured_texts(rows)
    loss_change_heads = [
        LOSS_CHANGE_HEAD if len(texts) == 1 else f"{LOSS_CHANGE_HEAD} {index}" for index in range(1, len(texts) + 1)
    ]
    return [*map(_break_metric_name, _other_metrics(rows, task_results)), *loss_change_heads, *WIDE_COST_HEADS]


def _wide_cells(row: MethodSummary, rows: Sequence[MethodSummary], task_results: TaskResults) -> list[str]:
    """Return the cells below the heads of `_wide_heads`."""
    return [
        *(units.format_score(row.scores.get(metric)) for metric in _other_metrics(rows, task_results)),
        *(units.format_change(text.loss_change(row)) for text in measured_texts(rows)),
        units.format_count(row.trainable),
        units.format_integer(row.tokens_per_s),
        units.format_seconds(_seconds(row.query_p95_ms)),
    ]


def _other_metrics(rows: Sequence[MethodSummary], task_results: TaskResults) -> list[str]:
    """Return the names of all metrics but the main one."""
    return [name for name in dict.fromkeys(name for row in rows for name in row.scores) if name != task_results.metric]


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _break_metric_name(name: str) -> str:
    """Break a long metric name after spaces, underscores and hyphens, never inside a word."""
    if len(name) <= MAX_METRIC_HEAD_CHARS:
        return name
    words = re.findall(r"[^\s_-]+[\s_-]*|[\s_-]+", name)
    width = max(MAX_METRIC_HEAD_CHARS, *(len(word.rstrip()) for word in words))
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)
