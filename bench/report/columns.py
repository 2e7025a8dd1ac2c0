"""Columns of the results table on a page: heads, explanations and number formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import units
from bench.analysis.summary import MethodSummary, uses_cuda
from bench.i18n import Translate, format_duration
from bench.report.loss_change import format_loss_change, measured_texts

MINOR_METRICS = ("weighted-f1", "mcc", "balanced-accuracy")
"""Metrics of closed labels that follow the costs, since macro-F1 beside em mostly says enough."""


@dataclass(frozen=True)
class TableColumn:
    """A column of the results table.

    Attributes:
        heading: Head of the column.
        help: Explanation of the column; empty for metrics.
        value: Returns the number of a method, or None if it was not measured.
        format: Writes that number; None becomes a dash.
    """

    heading: str
    help: str
    value: Callable[[MethodSummary], float | None]
    format: Callable[[float | None], str]


def build_columns(rows: Sequence[MethodSummary], main_metric: str, translate: Translate) -> list[TableColumn]:
    """Return the columns for which some method has a value: metrics, costs, minor metrics.

    Columns on answers without an end follow the metrics if some method has such answers.

    Args:
        rows: The methods of the table.
        main_metric: Metric that is left out, since the table shows it with its interval.
        translate: Translates heads and explanations.
    """
    metrics = dict.fromkeys(metric for row in rows for metric in row.scores if metric != main_metric)
    columns = [_metric_column(metric) for metric in metrics if metric not in MINOR_METRICS]
    columns.append(
        TableColumn(
            translate("shifted"),
            translate("{metric} on the questions of another time or source", metric=main_metric),
            lambda row: row.shifted_score,
            partial(units.format_score, metric=main_metric),
        )
    )
    if any(row.cut_share for row in rows):
        columns += _ending_columns(translate)
    columns += _loss_change_columns(rows, translate)
    columns += _cost_columns(translate, has_cuda=uses_cuda(rows))
    columns += [_metric_column(metric) for metric in metrics if metric in MINOR_METRICS]
    return [column for column in columns if any(column.value(row) is not None for row in rows)]


def _metric_column(metric: str) -> TableColumn:
    return TableColumn(metric, "", partial(_score, metric=metric), partial(units.format_score, metric=metric))


def _ending_columns(translate: Translate) -> list[TableColumn]:
    """Return the columns on answers without an end, which stand beside `parsed`."""
    return [
        TableColumn(
            translate("cut"),
            translate("share of the generated answers that reached the token limit before they ended"),
            lambda row: row.cut_share,
            units.format_score,
        ),
        TableColumn(
            translate("repeating"),
            translate("share of the generated answers that reached the token limit while repeating a short phrase"),
            lambda row: row.repeating_share,
            units.format_score,
        ),
    ]


def _loss_change_columns(rows: Sequence[MethodSummary], translate: Translate) -> list[TableColumn]:
    """Return a column for each general text that forgetting was measured on."""
    texts = measured_texts(rows, translate)
    return [
        TableColumn(
            translate("Δ loss") if len(texts) == 1 else f"{translate('Δ loss')} ({text.name})",
            translate(
                "increase in loss on general text ({text}), nats per token, and in perplexity, per cent", text=text.name
            ),
            text.loss_change,
            partial(format_loss_change, translate=translate),
        )
        for text in texts
    ]


def _cost_columns(translate: Translate, *, has_cuda: bool) -> list[TableColumn]:
    duration = partial(format_duration, translate=translate)
    return [
        TableColumn(
            translate("trainable params"),
            translate("number of trained parameters"),
            lambda row: row.trainable,
            units.format_count,
        ),
        TableColumn(translate("training time"), translate("mean over seeds"), lambda row: row.train_s, duration),
        TableColumn(
            translate("training energy (J)"),
            translate("joules drawn by the whole device during training, mean over seeds"),
            lambda row: row.train_joules,
            units.format_integer,
        ),
        *_memory_columns(translate, has_cuda=has_cuda),
        TableColumn(
            translate("checkpointing"),
            translate("layers were computed twice while training, because a step did not fit into memory otherwise"),
            lambda row: 1.0 if row.activation_checkpointing else None,
            lambda value: units.UNMEASURED if value is None else translate("yes"),
        ),
        TableColumn(
            translate("tokens/s"),
            translate("generated tokens per second, batched"),
            lambda row: row.tokens_per_s,
            units.format_integer,
        ),
        TableColumn(
            translate("latency"),
            translate("mean latency of single queries"),
            lambda row: _seconds(row.query_mean_ms),
            duration,
        ),
        TableColumn(
            translate("latency p95"),
            translate("95th percentile of the latency of single queries"),
            lambda row: _seconds(row.query_p95_ms),
            duration,
        ),
        TableColumn(
            translate("size on disk"),
            translate("size of the saved files"),
            lambda row: row.artifact_bytes,
            units.format_bytes,
        ),
    ]


def _memory_columns(translate: Translate, *, has_cuda: bool) -> list[TableColumn]:
    """Return the column of peak memory, or those of GPU and process if a GPU was used."""
    if not has_cuda:
        help_text = translate("maximum over all phases and seeds")
        return [TableColumn(translate("peak memory (MiB)"), help_text, lambda row: row.peak_mib, units.format_integer)]
    return [
        TableColumn(
            translate("peak GPU memory (MiB)"),
            translate("memory of torch's allocator on the GPU, maximum over all phases and seeds"),
            lambda row: row.device_peak_mib,
            units.format_integer,
        ),
        TableColumn(
            translate("peak host memory (MiB)"),
            translate("resident memory of the process, maximum over all phases and seeds"),
            lambda row: row.host_peak_mib,
            units.format_integer,
        ),
    ]


def _score(row: MethodSummary, metric: str) -> float | None:
    return row.scores.get(metric)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
