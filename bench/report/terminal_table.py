"""Tables that `bench run` prints: a row per method, best first, for 80 columns."""

from __future__ import annotations

import re

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench import units
from bench.analysis.summary import MethodSummary, uses_cuda
from bench.analysis.task_results import TaskResults
from bench.report.caveats import describe_prompts
from bench.report.loss_change import list_loss_changes, measured_texts

COST_HEADS = ("params", "train\ns", "peak\nMiB", "tok/s", "ms/\nquery", "size")
CUDA_COST_HEADS = (*COST_HEADS[:2], "GPU\nMiB", "RAM\nMiB", *COST_HEADS[3:])
"""Heads where some method used a GPU: its memory and that of the process are different quantities."""
LOSS_CHANGE_HEAD = "Δ\nloss"
PEAK_LEGEND = "peak: peak memory over all phases."
CUDA_PEAK_LEGEND = "GPU, RAM: peak memory over all phases on the GPU (torch's allocator) and of the process."
LEGEND = (
    f"° control. – not measured. params: trainable parameters. train: training time. {PEAK_LEGEND} "
    "tok/s: generated tokens per second, batched. ms/query: median latency of single queries. size: bytes on disk."
)
LOSS_CHANGE_LEGEND = "Δ loss: increase in loss on general text, nats per token."
MAX_METRIC_HEAD_CHARS = 6
"""Longer metric names are broken; the width leaves 10 columns for method names in a table of em, f1, parsed, format."""


def render_table(task_results: TaskResults) -> Table:
    """Return the scores and costs of every method, means over the seeds.

    The columns are the metrics, the loss change on each general text (if it was measured for some method) and the
    costs of `COST_HEADS` or `CUDA_COST_HEADS`. A method that failed shows its status in place of the first score.
    """
    rows = task_results.summaries
    table = Table(title=_title(task_results), title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("method", overflow="fold")  # Long names are folded, so that numbers never are.
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.scores))
    texts = measured_texts(rows)
    loss_change_heads = [
        LOSS_CHANGE_HEAD if len(texts) == 1 else f"{LOSS_CHANGE_HEAD} {index}" for index in range(1, len(texts) + 1)
    ]
    has_cuda = uses_cuda(rows)
    cost_heads = CUDA_COST_HEADS if has_cuda else COST_HEADS
    for head in [*map(_break_metric_name, metrics), *loss_change_heads, *cost_heads]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [units.format_score(row.scores.get(metric)) for metric in metrics]
        if row.status != "ok":
            cells[:1] = [Text(row.status, style="bold red")]
        cells += [units.format_change(text.loss_change(row)) for text in texts]
        table.add_row(_marked_label(row), *cells, *_cost_cells(row, has_cuda=has_cuda))
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


def legend(task_results: TaskResults) -> list[str]:
    """Explain the symbols and heads of the table, and prompts that are not plain text."""
    peak_legend = CUDA_PEAK_LEGEND if uses_cuda(task_results.summaries) else PEAK_LEGEND
    changes = list_loss_changes(task_results.summaries)
    loss_change = [LOSS_CHANGE_LEGEND, *changes] if changes else []
    prompts = [f"{text[0].upper()}{text[1:]}." for text in describe_prompts(task_results.records[0].spec)]
    return [LEGEND.replace(PEAK_LEGEND, peak_legend), *loss_change, *prompts]


def _title(task_results: TaskResults) -> str:
    spec = task_results.records[0].spec
    num_seeds = len({record.spec.seed for record in task_results.records})
    title = f"{spec.task.name} on {spec.base.ref}"
    return f"{title}, means of {num_seeds} seeds" if num_seeds > 1 else title


def _marked_label(row: MethodSummary) -> str:
    return f"{row.label} °" if row.control else row.label


def _cost_cells(row: MethodSummary, *, has_cuda: bool) -> list[str]:
    """Return the cells below `COST_HEADS`, or below `CUDA_COST_HEADS`."""
    peaks = (row.device_peak_mib, row.host_peak_mib) if has_cuda else (row.peak_mib,)
    return [
        units.format_count(row.trainable),
        units.format_number(row.train_s),
        *(units.UNMEASURED if peak is None else f"{peak:.0f}" for peak in peaks),
        units.UNMEASURED if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}",
        units.format_number(row.query_p50_ms),
        units.format_bytes(row.artifact_bytes),
    ]


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
