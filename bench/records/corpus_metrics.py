"""Metrics of all answers: macro-F1, weighted F1, MCC, balanced accuracy, and BLEU.

Each is computed from counts that are summed over weighted questions, so that it can be resampled.

Of closed labels, an answer that names no label is a wrong answer. It has a column of its own in the confusion matrix
and no row, so it lowers the recall of the right label and the precision of none. The mean is over the labels that some
question has.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy
from numpy.typing import NDArray
from scipy import sparse

from bench.metrics import CORPUS_METRICS, CORPUS_TEXT_METRICS
from bench.records.labels import AnswerLabels, LabelCodes
from bench.records.ngrams import AnswerNgrams, NgramCounts, bleu
from bench.records.samples import AnswerRule, Samples

SCORE_TOLERANCE = 1e-6
"""Rounding error by which a metric of a record may differ from that of its answers."""
TEXT_SCORE_TOLERANCE = 1e-3
"""The same of metrics of texts: a newer version of the tokenizer may know new punctuation."""
Counts = NDArray[numpy.float64]


class CorpusMetric(Protocol):
    """A metric of all answers of one run, for any weights of its questions."""

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest possible value."""

    @property
    def tolerance(self) -> float:
        """Error by which the value of a record may differ."""

    def score(self, weights: Counts | None = None) -> Counts:
        """Return the metric for each set of weights (sets, questions).

        The weights of a set add up to 1; None weighs all questions alike.
        """

    def jackknife_values(self) -> Counts:
        """Return a value of each question; their mean is the metric, with its standard error.

        They are the delete-one pseudo-values, shifted so that their mean is exactly the metric of all answers. So the
        standard error of their mean is the jackknife's (Efron and Stein 1981, https://doi.org/10.1214/aos/1176345462).
        A single question has the metric itself.
        """

    def take(self, positions: NDArray[numpy.intp]) -> Self:
        """Return the metric of the same answers with the questions in another order."""


@dataclass(frozen=True)
class LabelMetric:
    """A metric of closed labels."""

    name: str
    codes: LabelCodes
    n_labels: int
    tolerance: float = SCORE_TOLERANCE

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest possible value."""
        return lowest_score(self.name), 1.0

    def score(self, weights: Counts | None = None) -> Counts:
        """Return the metric for each set of weights."""
        return corpus_score(self.name, count_labels(self.codes, self.n_labels, weights))

    def jackknife_values(self) -> Counts:
        """Return a value of each question."""
        return jackknife_values(self.name, self.codes, self.n_labels)

    def take(self, positions: NDArray[numpy.intp]) -> LabelMetric:
        """Return the metric with the questions in another order."""
        ordered = (numpy.asarray(part, dtype=numpy.int32)[positions] for part in self.codes)
        return LabelMetric(self.name, LabelCodes(*(array("i", part.tobytes()) for part in ordered)), self.n_labels)


@dataclass(frozen=True)
class BleuMetric:
    """BLEU of the answers of a run."""

    counts: NgramCounts
    """Counts of each question."""
    limits: tuple[float, float] = (0.0, 1.0)
    tolerance: float = TEXT_SCORE_TOLERANCE

    def score(self, weights: Counts | None = None) -> Counts:
        """Return the metric for each set of weights."""
        if weights is None:
            return numpy.asarray(bleu(self.counts.sum(axis=0, keepdims=True))[0])
        return bleu(len(self.counts) * (weights @ self.counts))

    def jackknife_values(self) -> Counts:
        """Return a value of each question."""
        score = self.score()
        if len(self.counts) < 2:
            return numpy.full(len(self.counts), score)
        return _pseudo_values(float(score), bleu(self.counts.sum(axis=0) - self.counts))

    def take(self, positions: NDArray[numpy.intp]) -> BleuMetric:
        """Return the metric with the questions in another order."""
        return BleuMetric(self.counts[positions])


def answer_rules(labels: AnswerLabels | None, metrics: Iterable[str], stop: tuple[str, ...]) -> list[AnswerRule[Any]]:
    """Return the rules that metrics of all answers of a run need.

    Args:
        labels: Closed labels of the task; None for open answers.
        metrics: Names of the metrics of texts to compute; other names are left out.
        stop: Texts that end an answer.
    """
    rules: list[AnswerRule[Any]] = [] if labels is None else [labels]
    return [*rules, AnswerNgrams(stop)] if set(metrics) & set(CORPUS_TEXT_METRICS) else rules


def metrics_of(rule: AnswerRule[Any], codes: Any) -> dict[str, CorpusMetric]:
    """Return the metrics, by name, that are computed from what a rule has read."""
    if isinstance(rule, AnswerLabels):
        return {name: LabelMetric(name, codes, len(rule.names)) for name in CORPUS_METRICS}
    return {"bleu": BleuMetric(codes)}


def read_metrics(samples: Samples, rules: Iterable[AnswerRule[Any]]) -> dict[str, CorpusMetric]:
    """Return the metrics of some rules for the samples of a run.

    Raises:
        ValueError: The samples are not those of a rule.
    """
    return {name: metric for rule in rules for name, metric in metrics_of(rule, samples.codes(rule)).items()}


@dataclass(frozen=True)
class LabelCounts:
    """Counts of labels, of one or many sets of answers: arrays of shape (labels, …)."""

    right: Counts
    """Questions of each label that are answered right (true positives)."""
    answered: Counts
    """Answers that name each label."""
    asked: Counts
    """Questions of each label (support)."""

    @property
    def total(self) -> Counts:
        """Number of questions."""
        return numpy.asarray(self.asked.sum(axis=0))

    @property
    def recall(self) -> Counts:
        """Share of the questions of each label that are answered right; 0 without a question."""
        return _divide(self.right, self.asked)

    @property
    def precision(self) -> Counts:
        """Share of the answers that name a label and are right; 0 without an answer."""
        return _divide(self.right, self.answered)

    @property
    def f1(self) -> Counts:
        """F1 of each label; 0 if neither a question nor an answer has it."""
        return _divide(2 * self.right, self.answered + self.asked)


def confusion_matrix(codes: LabelCodes, n_labels: int) -> NDArray[numpy.int64]:
    """Return the number of questions by label of the reference (row) and of the answer.

    The last column counts answers that name no label.
    """
    matrix = numpy.zeros((n_labels, n_labels + 1), dtype=numpy.int64)
    numpy.add.at(matrix, (numpy.asarray(codes.references), numpy.asarray(codes.answers)), 1)
    return matrix


def count_labels(codes: LabelCodes, n_labels: int, weights: Counts | None = None) -> LabelCounts:
    """Count labels over weighted questions.

    Args:
        codes: Labels of the questions and their answers.
        n_labels: Number of labels.
        weights: Weights of the questions (sets, questions); None counts each once.

    Returns:
        Counts (labels, sets), or (labels,) without weights.
    """
    references, answers = numpy.asarray(codes.references), numpy.asarray(codes.answers)
    is_right = references == answers
    if weights is None:
        labels = (references[is_right], answers, references)
        return LabelCounts(*(numpy.bincount(each, minlength=n_labels + 1)[:n_labels].astype(float) for each in labels))
    questions = numpy.arange(len(references))
    # Every question has one label, so a sparse product takes a fraction of the time of a dense one.
    right, answered, asked = (
        sparse.csr_array((numpy.ones(len(labels)), (labels, selected)), shape=(n_labels + 1, len(references)))
        @ weights.T
        for labels, selected in (
            (references[is_right], questions[is_right]),
            (answers, questions),
            (references, questions),
        )
    )
    return LabelCounts(right[:n_labels], answered[:n_labels], asked[:n_labels])


def corpus_score(metric: str, counts: LabelCounts) -> Counts:
    """Return a metric of `bench.metrics.CORPUS_METRICS` for every set of answers.

    They are those of scikit-learn: `f1_score` with `labels` that some question has, `matthews_corrcoef` (0 where it is
    not defined) and `balanced_accuracy_score`.

    Raises:
        KeyError: There is no such metric.
    """
    return _METRICS[metric](counts)


def corpus_scores(codes: LabelCodes, n_labels: int) -> dict[str, float]:
    """Return all corpus metrics of the answers of a run."""
    counts = count_labels(codes, n_labels)
    return {metric: float(compute(counts)) for metric, compute in _METRICS.items()}


def check_corpus_scores(scores: Mapping[str, float], metrics: Mapping[str, CorpusMetric]) -> None:
    """Check that the corpus metrics of a record are those of its answers.

    Raises:
        ValueError: If one differs.
    """
    for name, metric in metrics.items():
        if name in scores and not abs(scores[name] - (expected := float(metric.score()))) <= metric.tolerance:
            raise ValueError(f"{name} is {scores[name]}, but {expected:.6g} is that of the answers")


def lowest_score(metric: str) -> float:
    """Return the lowest value that a metric can have: -1 for MCC, 0 for all others."""
    return -1.0 if metric == "mcc" else 0.0


def constant_answer_score(metric: str, codes: LabelCodes, n_labels: int) -> float:
    """Return the score of the best constant answer, the chance level of a metric."""
    asked = count_labels(codes, n_labels).asked
    best = int(asked.argmax())
    constant = LabelCounts(
        right=numpy.where(numpy.arange(n_labels) == best, asked, 0.0),
        answered=numpy.where(numpy.arange(n_labels) == best, asked.sum(), 0.0),
        asked=asked,
    )
    return float(corpus_score(metric, constant))


def jackknife_values(metric: str, codes: LabelCodes, n_labels: int) -> Counts:
    """Return the values of `CorpusMetric.jackknife_values` for a metric of closed labels."""
    counts = count_labels(codes, n_labels)
    score, n_questions = float(corpus_score(metric, counts)), len(codes.references)
    if n_questions < 2:
        return numpy.full(n_questions, score)
    pairs = numpy.asarray(codes.references) * (n_labels + 1) + numpy.asarray(codes.answers)
    cells, positions = numpy.unique(pairs, return_inverse=True)
    references, answers = numpy.divmod(cells, n_labels + 1)
    labels = numpy.arange(n_labels)[:, None]
    without_one = LabelCounts(
        right=counts.right[:, None] - ((labels == references) & (references == answers)[None, :]),
        answered=counts.answered[:, None] - (labels == answers),
        asked=counts.asked[:, None] - (labels == references),
    )
    remaining = corpus_score(metric, without_one)[positions]
    return _pseudo_values(score, remaining)


def jackknife_values_of(compute: Callable[[list[int]], Mapping[str, float]], n_questions: int) -> dict[str, Counts]:
    """Return the values of `CorpusMetric.jackknife_values` for metrics of any function.

    Args:
        compute: Returns the metrics of the answers at some positions; it is called once per question and once more.
        n_questions: Number of questions.
    """
    everything = list(range(n_questions))
    scores = compute(everything)
    if n_questions < 2:
        return {name: numpy.full(n_questions, score) for name, score in scores.items()}
    without_one = [compute(everything[:index] + everything[index + 1 :]) for index in everything]
    return {
        name: _pseudo_values(score, numpy.array([other.get(name, score) for other in without_one]))
        for name, score in scores.items()
    }


def _pseudo_values(score: float, remaining: Counts) -> Counts:
    """Return jackknife values from the metric without each question."""
    return numpy.asarray(score + (len(remaining) - 1) * (remaining.mean() - remaining))


def _divide(numerator: Counts, denominator: Counts) -> Counts:
    """Divide, with 0 where the denominator is 0."""
    out = numpy.zeros(numpy.shape(numerator))
    return numpy.asarray(numpy.divide(numerator, denominator, out=out, where=denominator > 0))


def _mean_over_asked(values: Counts, counts: LabelCounts) -> Counts:
    is_asked = counts.asked > 0
    return _divide((values * is_asked).sum(axis=0), is_asked.sum(axis=0).astype(float))


def _macro_f1(counts: LabelCounts) -> Counts:
    return _mean_over_asked(counts.f1, counts)


def _weighted_f1(counts: LabelCounts) -> Counts:
    return _divide((counts.f1 * counts.asked).sum(axis=0), counts.total)


def _balanced_accuracy(counts: LabelCounts) -> Counts:
    return _mean_over_asked(counts.recall, counts)


def _mcc(counts: LabelCounts) -> Counts:
    """Return the multiclass MCC.

    Source: Gorodkin (2004), https://doi.org/10.1016/j.compbiolchem.2004.09.006.
    """
    total = counts.total
    without_label = total - counts.answered.sum(axis=0)
    covariance = counts.right.sum(axis=0) * total - (counts.answered * counts.asked).sum(axis=0)
    answer_spread = total**2 - (counts.answered**2).sum(axis=0) - without_label**2
    reference_spread = total**2 - (counts.asked**2).sum(axis=0)
    # Weighted counts that add up to the total but for rounding have no spread.
    has_spread = (answer_spread > 1e-9 * total**2) & (reference_spread > 1e-9 * total**2)
    return _divide(covariance, numpy.where(has_spread, numpy.sqrt(numpy.abs(answer_spread * reference_spread)), 0.0))


_METRICS: dict[str, Callable[[LabelCounts], Counts]] = {
    "macro-f1": _macro_f1,
    "weighted-f1": _weighted_f1,
    "mcc": _mcc,
    "balanced-accuracy": _balanced_accuracy,
}
