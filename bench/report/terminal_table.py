"""Tables that `bench run` prints: a row per method, best first, for 80 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench import units
from bench.analysis.comparison import Comparison
from bench.analysis.significance import Verdict
from bench.analysis.summary import MethodSummary, uses_cuda
from bench.analysis.task_results import TaskResults
from bench.i18n import Message, Translate, format_duration, localize, untranslated
from bench.report.caveats import describe_prompts
from bench.report.findings import FLOOR_SCORE
from bench.report.loss_change import list_loss_changes, measured_texts

INTERVAL_HEAD = Message("95 %\ninterval")
VERDICT_HEAD = Message("verdict")
COST_HEADS = (Message("train"), Message("latency"), Message("peak\nMiB"), Message("size"))
CUDA_COST_HEADS = (*COST_HEADS[:2], Message("GPU\nMiB"), Message("RAM\nMiB"), *COST_HEADS[3:])
"""Heads where some method used a GPU: its memory and that of the process are different quantities."""
WIDE_COST_HEADS = (Message("params"), Message("tok/s"), Message("p95"))
"""Heads that only the wide table has, after those of every table."""
LOSS_CHANGE_HEAD = Message("Δ\nloss")
LEGEND = Message(
    "° control. – not measured. verdict: against the highest score of a method that is no control. train: training "
    "time. latency: mean of single queries. peak: peak memory over all phases. size: bytes on disk."
)
CUDA_LEGEND = Message(
    "° control. – not measured. verdict: against the highest score of a method that is no control. train: training "
    "time. latency: mean of single queries. GPU, RAM: peak memory over all phases on the GPU (torch's allocator) and "
    "of the process. size: bytes on disk."
)
WIDE_LEGEND = Message(
    "params: trainable parameters. tok/s: generated tokens per second, batched. p95: 95th percentile of the latency."
)
LOSS_CHANGE_LEGEND = Message("Δ loss: increase in loss on general text, nats per token.")
HIGHEST = Message("highest")
VERDICT_WORDS: dict[Verdict, Message] = {
    "better": Message("better"),
    "worse": Message("worse"),
    "equivalent": Message("equivalent"),
    "inconclusive": Message("inconclusive"),
}
INVERSE_VERDICTS: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
MAX_METRIC_HEAD_CHARS = 7
"""Longer metric names are broken in the wide table; `100.0 %` is as long."""


def render_table(task_results: TaskResults, translate: Translate = untranslated, *, wide: bool = False) -> Table:
    """Return the main score, its interval, a verdict and the costs of every method.

    All are means over the seeds. Controls stand apart, below the other methods. A method that failed shows its status
    in place of a verdict.

    Args:
        task_results: Results of a task on a model.
        translate: Translates a sentence and fills in its values.
        wide: True adds the other metrics, the loss change on each general text and the costs of `WIDE_COST_HEADS`; the
            table may then be wider than 80 columns.
    """
    rows = task_results.summaries
    has_cuda = uses_cuda(rows)
    table = Table(title=_title(task_results, translate), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge = False
    table.add_column(translate("method"), overflow="fold")  # Long names are folded, so that numbers never are.
    for head in (units.metric_head(_break_metric_name(task_results.metric)), INTERVAL_HEAD):
        table.add_column(localize(head, translate), justify="right", no_wrap=True)
    table.add_column(localize(VERDICT_HEAD, translate), no_wrap=True)
    cost_heads = [localize(head, translate) for head in (CUDA_COST_HEADS if has_cuda else COST_HEADS)]
    for head in [*cost_heads, *(_wide_heads(rows, task_results, translate) if wide else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    contenders = [row for row in rows if not row.control]
    controls = [row for row in rows if row.control]
    for group in (contenders, controls):
        for row in group:
            cells = _score_cells(row, task_results, translate) + _cost_cells(row, translate, has_cuda=has_cuda)
            if wide:
                cells += _wide_cells(row, rows, task_results, translate)
            table.add_row(_marked_label(row), *cells)
        table.add_section()
    return table


def render_by_train_size(task_results: TaskResults, translate: Translate = untranslated) -> Table:
    """Return the main metric of every method for each number of training examples."""
    table = Table(
        title=translate("{metric} by training examples", metric=task_results.metric),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column(translate("method"), overflow="fold")
    columns: list[dict[str, MethodSummary]] = []
    for size, rows in task_results.summaries_by_size.items():
        table.add_column(f"{size:,}", justify="right", no_wrap=True)
        columns.append({row.label: row for row in rows if row.status == "ok"})
    # The order of the largest training size comes first, since that size is the one that is compared.
    for label in dict.fromkeys(label for column in reversed(columns) for label in column):
        scores = [column[label].scores.get(task_results.metric) if label in column else None for column in columns]
        row = next(column[label] for column in columns if label in column)
        table.add_row(_marked_label(row), *(units.format_score(score, task_results.metric) for score in scores))
    return table


def legend(task_results: TaskResults, translate: Translate = untranslated, *, wide: bool = False) -> list[str]:
    """Explain the symbols and heads of the table, and prompts that are not plain text."""
    symbols = [CUDA_LEGEND if uses_cuda(task_results.summaries) else LEGEND]
    changes = list_loss_changes(task_results.summaries, translate)
    if wide:
        symbols += [WIDE_LEGEND, *([LOSS_CHANGE_LEGEND] if changes else [])]
    prompts = [f"{text[0].upper()}{text[1:]}." for text in describe_prompts(task_results.records[0].spec, translate)]
    return [*(localize(text, translate) for text in symbols), *changes, *prompts]


def _title(task_results: TaskResults, translate: Translate) -> str:
    spec = task_results.records[0].spec
    num_seeds = len({record.spec.seed for record in task_results.records})
    title = translate("{task} on {model}", task=spec.task.name, model=spec.base.ref)
    return translate("{title}, means of {seeds} seeds", title=title, seeds=num_seeds) if num_seeds > 1 else title


def _marked_label(row: MethodSummary) -> str:
    return f"{row.label} °" if row.control else row.label


def _score_cells(row: MethodSummary, task_results: TaskResults, translate: Translate) -> list[str | Text]:
    """Return score and interval, and a verdict or the status of a failed run."""
    if row.status != "ok":
        return [units.UNMEASURED, units.UNMEASURED, Text(row.status, style="bold red")]
    comparison, metric = task_results.comparison, task_results.metric
    interval = next(result.interval for result in comparison.results if result.key == row.key)
    return [
        units.format_metric(metric, interval.mean),
        units.format_metric_interval(metric, interval.low, interval.high),
        _verdict(row.key, comparison, translate),
    ]


def _verdict(key: str, comparison: Comparison, translate: Translate) -> str:
    """Return the verdict on a method against the leader; empty where none is given.

    None is given if no method scores above the floor. Of the controls, only the best is compared with the leader.
    """
    leader, control = comparison.leader, comparison.control
    if leader is None or comparison.results[0].interval.mean < FLOOR_SCORE:
        return ""
    if key == leader.key:
        return localize(HIGHEST, translate)
    if key in comparison.against_leader:
        return localize(VERDICT_WORDS[comparison.against_leader[key].verdict], translate)
    if control is not None and key == control.key:
        verdict = comparison.against_control[leader.key].verdict
        return localize(VERDICT_WORDS[INVERSE_VERDICTS.get(verdict, verdict)], translate)
    return ""


def _cost_cells(row: MethodSummary, translate: Translate, *, has_cuda: bool) -> list[str | Text]:
    """Return the cells below `COST_HEADS`, or below `CUDA_COST_HEADS`."""
    peaks = (row.device_peak_mib, row.host_peak_mib) if has_cuda else (row.peak_mib,)
    return [
        format_duration(row.train_s, translate),
        format_duration(_seconds(row.query_mean_ms), translate),
        *map(units.format_integer, peaks),
        units.format_bytes(row.artifact_bytes),
    ]


def _wide_heads(rows: Sequence[MethodSummary], task_results: TaskResults, translate: Translate) -> list[str]:
    texts = measured_texts(rows)
    loss_change = localize(LOSS_CHANGE_HEAD, translate)
    loss_change_heads = [
        loss_change if len(texts) == 1 else f"{loss_change} {index}" for index in range(1, len(texts) + 1)
    ]
    cost_heads = [localize(head, translate) for head in WIDE_COST_HEADS]
    shifted_heads = [translate("shifted")] if _has_shifted_scores(rows) else []
    other_heads = map(_break_metric_name, _other_metrics(rows, task_results))
    return [*other_heads, *shifted_heads, *loss_change_heads, *cost_heads]


def _wide_cells(
    row: MethodSummary, rows: Sequence[MethodSummary], task_results: TaskResults, translate: Translate
) -> list[str]:
    """Return the cells below the heads of `_wide_heads`."""
    return [
        *(units.format_score(row.scores.get(metric), metric) for metric in _other_metrics(rows, task_results)),
        *([units.format_score(row.shifted_score, task_results.metric)] if _has_shifted_scores(rows) else []),
        *(units.format_change(text.loss_change(row)) for text in measured_texts(rows)),
        units.format_count(row.trainable),
        units.format_integer(row.tokens_per_s),
        format_duration(_seconds(row.query_p95_ms), translate),
    ]


def _has_shifted_scores(rows: Sequence[MethodSummary]) -> bool:
    return any(row.shifted_score is not None for row in rows)


def _other_metrics(rows: Sequence[MethodSummary], task_results: TaskResults) -> list[str]:
    """Return the names of all metrics but the main one."""
    return [name for name in dict.fromkeys(name for row in rows for name in row.scores) if name != task_results.metric]


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _break_metric_name(name: str) -> str:
    """Break a long metric name after spaces and signs such as hyphens, never inside a word."""
    if len(name) <= MAX_METRIC_HEAD_CHARS:
        return name
    words = re.findall(r"[^\s_:/#-]+[\s_:/#-]*|[\s_:/#-]+", name)
    width = max(MAX_METRIC_HEAD_CHARS, *(len(word.rstrip()) for word in words))
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)
