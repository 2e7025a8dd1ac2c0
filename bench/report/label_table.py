"""Table of the labels of a method: precision, recall, F1 and confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from bench.records import Record, corpus_metrics

MAX_MATRIX_LABELS = 30
"""With more labels the answers are not counted by label, because nobody reads such a table."""


@dataclass(frozen=True)
class LabelRow:
    """One label that some question has.

    Attributes:
        name: The label.
        questions: Questions of the label, of all seeds together (support).
        precision: Share of the answers with this label that are right; 0 if no answer has it.
        recall: Share of the questions of this label that are answered right.
        f1: Harmonic mean of both.
        answers: Answers to its questions by label, in the order of `LabelTable.names`, the last without any label;
            empty if there are too many labels.
        position: Position of the label in `answers`.
    """

    name: str
    questions: int
    precision: float
    recall: float
    f1: float
    answers: tuple[int, ...]
    position: int


@dataclass(frozen=True)
class LabelTable:
    """The labels of a method over its seeds.

    Attributes:
        names: Labels of the columns of the confusion matrix; empty if there are too many.
        rows: Labels that some question has, in the order of the task card.
    """

    names: tuple[str, ...]
    rows: tuple[LabelRow, ...]


def label_table(records: Sequence[Record]) -> LabelTable | None:
    """Return the labels of a method over all its seeds; None for open answers."""
    labels = next((record.labels for record in records if record.labels and record.samples), None)
    if labels is None:
        return None
    n_labels = len(labels.names)
    codes = [record.samples.codes(labels) for record in records if record.samples]
    matrix = numpy.sum([corpus_metrics.confusion_matrix(run_codes, n_labels) for run_codes in codes], axis=0)
    counts = corpus_metrics.LabelCounts(
        right=matrix.diagonal().astype(float),
        answered=matrix[:, :-1].sum(axis=0).astype(float),
        asked=matrix.sum(axis=1).astype(float),
    )
    shows_matrix = n_labels <= MAX_MATRIX_LABELS
    rows = tuple(
        LabelRow(
            name=name,
            questions=int(counts.asked[position]),
            precision=float(counts.precision[position]),
            recall=float(counts.recall[position]),
            f1=float(counts.f1[position]),
            answers=tuple(matrix[position].tolist()) if shows_matrix else (),
            position=position,
        )
        for position, name in enumerate(labels.names)
        if counts.asked[position]
    )
    return LabelTable(labels.names if shows_matrix else (), rows)
