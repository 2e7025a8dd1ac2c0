"""Metrics of all answers together, against scikit-learn."""

from __future__ import annotations

import warnings
from array import array

import numpy
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from bench.metrics import CORPUS_METRICS
from bench.records import corpus_metrics
from bench.records.labels import AnswerLabels, LabelCodes

KOREAN_LABELS = ("총류", "철학", "종교", "사회과학", "자연과학", "기술과학", "예술")
ENGLISH_LABELS = ("Positive", "Negative", "neutral")
N_CASES = 1000


def draw_answers(seed: int) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Labels, references and answers of a random case; some answers name no label."""
    rng = numpy.random.default_rng(seed)
    labels = (KOREAN_LABELS if seed % 2 else ENGLISH_LABELS)[: rng.integers(2, 8)]
    shares = rng.dirichlet(numpy.full(len(labels), rng.choice([0.2, 1.0, 5.0])))
    n_questions = int(rng.integers(1, 80))
    references = [labels[index] for index in rng.choice(len(labels), n_questions, p=shares)]
    is_right = rng.random(n_questions) < rng.random()
    guesses = rng.choice([*labels, "모르겠다"], n_questions)
    answers = [
        reference if right else str(guess)
        for reference, guess, right in zip(references, guesses, is_right, strict=True)
    ]
    return labels, references, answers


def sklearn_scores(labels: tuple[str, ...], reference_labels: list[str], answer_labels: list[str]) -> dict[str, float]:
    asked = [index for index, label in enumerate(labels) if label in reference_labels]
    position_of = {label: index for index, label in enumerate(labels)}  # numbers take scikit-learn half the time
    references = [position_of[label] for label in reference_labels]
    answers = [position_of.get(label, len(labels)) for label in answer_labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant answer, or one that is no label
        f1 = {
            average: sklearn_metrics.f1_score(references, answers, labels=asked, average=average, zero_division=0)
            for average in ("macro", "weighted")
        }
        return {
            "macro-f1": f1["macro"],
            "weighted-f1": f1["weighted"],
            "mcc": sklearn_metrics.matthews_corrcoef(references, answers),
            "balanced-accuracy": sklearn_metrics.balanced_accuracy_score(references, answers),
        }


class Run:
    """A sample with one reference."""

    def __init__(self, reference: str, answer: str | None) -> None:
        self.references, self.answer = (reference,), answer


def read_codes(labels: tuple[str, ...], references: list[str], answers: list[str]) -> LabelCodes:
    rule = AnswerLabels(names=labels, compared=labels, normalize="text")
    return rule.read_codes([Run(*pair) for pair in zip(references, answers, strict=True)])


def resample(codes: LabelCodes, counts: NDArray[numpy.int64]) -> LabelCodes:
    return LabelCodes(*(array("i", numpy.repeat(numpy.asarray(part), counts)) for part in codes))


def test_corpus_scores_random_cases_equal_scikit_learn() -> None:
    for seed in range(N_CASES):
        labels, references, answers = draw_answers(seed)
        scores = corpus_metrics.corpus_scores(read_codes(labels, references, answers), len(labels))
        assert tuple(scores) == CORPUS_METRICS
        assert scores == pytest.approx(sklearn_scores(labels, references, answers), abs=1e-12), seed


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_corpus_score_weights_equal_repeated_questions(metric: str) -> None:
    rng = numpy.random.default_rng(0)
    for seed in range(30):
        labels, references, answers = draw_answers(seed)
        codes, n_questions = read_codes(labels, references, answers), len(references)
        repeats = rng.multinomial(n_questions, numpy.full(n_questions, 1 / n_questions), size=5)
        weighted = corpus_metrics.count_labels(codes, len(labels), repeats / n_questions)
        expected = [corpus_metrics.corpus_scores(resample(codes, counts), len(labels))[metric] for counts in repeats]
        assert corpus_metrics.corpus_score(metric, weighted) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_jackknife_values_have_the_mean_and_error_of_delete_one(metric: str) -> None:
    labels, references, answers = draw_answers(7)
    codes, n_questions = read_codes(labels, references, answers), len(references)
    values = corpus_metrics.jackknife_values(metric, codes, len(labels))
    without_one = [
        corpus_metrics.corpus_scores(resample(codes, 1 - numpy.eye(n_questions, dtype=int)[index]), len(labels))[metric]
        for index in range(n_questions)
    ]
    assert values.mean() == pytest.approx(corpus_metrics.corpus_scores(codes, len(labels))[metric])
    variance = (n_questions - 1) * numpy.var(without_one)
    assert values.var(ddof=1) / n_questions == pytest.approx(variance)


def test_constant_answer_score_is_that_of_the_most_frequent_label() -> None:
    labels, references = ("yes", "no"), ["yes"] * 9 + ["no"]
    codes = read_codes(labels, references, ["no"] * 10)
    expected = sklearn_scores(labels, references, ["yes"] * 10)
    scores = {metric: corpus_metrics.constant_answer_score(metric, codes, 2) for metric in CORPUS_METRICS}
    assert scores == pytest.approx(expected)
    assert scores["macro-f1"] == pytest.approx(0.474, abs=0.001)


def test_answer_that_names_no_label_has_a_column_of_its_own() -> None:
    codes = read_codes(("yes", "no"), ["yes", "yes", "no"], ["YES.", "maybe", "no"])
    assert corpus_metrics.confusion_matrix(codes, 2).tolist() == [[1, 0, 1], [0, 1, 0]]


def test_answer_to_several_accepted_labels_is_right_with_any() -> None:
    rule = AnswerLabels(names=("a", "b", "c"), compared=("a", "b", "c"), normalize="text")
    run = Run("a", "b")
    run.references = ("a", "b")
    codes = rule.read_codes([run, Run("c", None)])
    assert (codes.references.tolist(), codes.answers.tolist()) == ([1, 2], [1, 3])


def test_labels_that_differ_in_case_only_compare_as_em_does() -> None:
    rule = AnswerLabels(names=("On", "on"), compared=("On", "on"), normalize="squad")
    assert rule.read_codes([Run("on", "ON")]).answers.tolist() == [1]
