"""The columns of a report's table: what each is called, where its figure comes from and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import units
from bench.analysis.summary import MethodSummary
from bench.i18n import Translate


@dataclass(frozen=True)
class TableColumn:
    """One column; `of` gives None where nothing was measured."""

    heading: str
    help: str
    of: Callable[[MethodSummary], float | None]
    written: Callable[[float | None], str]


def build_columns(rows: Sequence[MethodSummary], main: str, translate: Translate) -> list[TableColumn]:
    """Scores first, the main metric left out since it stands with its interval; then costs that some row has."""
    metrics = dict.fromkeys(metric for row in rows for metric in row.scores if metric != main)
    made = [TableColumn(metric, "", partial(_score, metric=metric), units.decimal) for metric in metrics]
    made += [
        TableColumn(
            translate("forgets"),
            translate("nats that a token of general text costs more after adapting"),
            lambda row: row.forgetting_nats,
            units.signed,
        ),
        TableColumn(translate("trained"), translate("parameters trained"), lambda row: row.trainable, units.count),
        TableColumn(translate("fit"), translate("time to adapt, mean over seeds"), lambda row: row.train_s, units.time),
        TableColumn(
            translate("peak memory"),
            translate("highest of all phases and seeds, MiB"),
            lambda row: row.peak_mib,
            units.whole,
        ),
        TableColumn(
            translate("tokens/s"),
            translate("answer tokens per second, in batches"),
            lambda row: row.tokens_per_s,
            units.whole,
        ),
        TableColumn(
            translate("answer"),
            translate("median time of one question, alone"),
            lambda row: row.query_p50_ms,
            _milliseconds,
        ),
        TableColumn(
            translate("answer 95 %"),
            translate("95 of 100 questions took no longer"),
            lambda row: row.query_p95_ms,
            _milliseconds,
        ),
        TableColumn(translate("kept"), translate("bytes on disk"), lambda row: row.artifact_bytes, units.size),
    ]
    return [column for column in made if any(column.of(row) is not None for row in rows)]


def _score(row: MethodSummary, metric: str) -> float | None:
    return row.scores.get(metric)


def _milliseconds(value: float | None) -> str:
    return units.time(None if value is None else value / 1000)
