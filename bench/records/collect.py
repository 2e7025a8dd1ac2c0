"""Read the records in files and folders, each run once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.i18n import Message
from bench.records.labels import find_task_labels
from bench.records.record import Record, find_records_below


def read_records(paths: Sequence[Path]) -> list[Record]:
    """Read the records in files and folders, each run once.

    Records of tuning trials are left out: the record of the run that they were made for lists their scores.

    Raises:
        UserError: If a path does not exist, no record is found, a record cannot be read, two different records have
            the same run id, or a successful run has no scores.
    """
    from bench.records import reader  # The import of msgspec and multiprocessing would slow `bench list` down.

    records: dict[str, Record] = {}
    for path in paths:
        if not os.path.exists(path):
            raise UserError(
                Message("{path}: no such file or folder", path=path),
                hint=Message("name a record, or a folder of `bench run --out`"),
            )
        files = find_record_files(path)
        for file, record in zip(files, reader.read_files(files), strict=True):
            if record.spec.split != "test":  # A tuning trial.
                continue
            _require_scores(record, file)
            if records.setdefault(record.id, record) != record:
                raise UserError(
                    Message("two different records have the same run id, {id}", id=record.id),
                    location=str(file),
                    hint=Message("read one of the folders at a time"),
                )
    if not records:
        raise UserError(
            Message("no record in {names}", names=", ".join(map(str, paths))),
            hint=Message("create one: bench run --methods lora --task bookrec"),
        )
    return [_with_corpus_scores(record) for record in records.values()]


def _with_corpus_scores(record: Record) -> Record:
    """Return an old record with its corpus metrics, if its task is found and has labels."""
    if record.status != "ok" or record.labels is not None or not record.samples:
        return record
    labels = find_task_labels(record.spec.task)
    if labels is None:
        return record
    from bench.records import corpus_metrics

    try:
        codes = record.samples.codes(labels)
    except ValueError:  # The answers are those of another task with the same digest, or of no task at all.
        return record
    scores = corpus_metrics.corpus_scores(codes, len(labels.names))
    return record.model_copy(update={"labels": labels, "corpus_scores": scores})


def _require_scores(record: Record, file: Path) -> None:
    """Check that a successful run has the main metric, which every table and comparison needs.

    Raises:
        UserError: If it has no score of that metric; the run of `bench answer` has none.
    """
    metric = record.spec.task.metric
    if record.status == "ok" and metric not in record.all_scores:
        raise UserError(
            Message("the run is recorded as ok, but without scores for its main metric, {metric}", metric=metric),
            location=str(file),
            hint=Message("move the file out of the folder, or run it again with --force"),
        )
    for name, values in (record.corpus_values or {}).items():
        if len(values) != len(record.samples):
            raise UserError(
                Message(
                    "{name} has {values} values, but there are {samples} samples",
                    name=name,
                    values=len(values),
                    samples=len(record.samples),
                ),
                location=str(file),
                hint=Message("move the file out of the folder, or run it again with --force"),
            )


def find_record_files(path: Path) -> list[Path]:
    """Return the record files below a folder, sorted, or `path` itself if it is a file."""
    return find_records_below(path) if path.is_dir() else [path]
