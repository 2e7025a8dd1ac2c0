"""BLEU of all answers, against sacrebleu, and in records."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import MakeRecord
from sacrebleu.metrics.bleu import BLEU
from support import ENGLISH_WORDS, KOREAN_WORDS

from bench.analysis import significance
from bench.analysis.comparison import compare_methods, statistic_of
from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.metrics.bleu import count_ngrams
from bench.records import Record, read_records
from bench.records.corpus_metrics import BleuMetric
from bench.records.ngrams import AnswerNgrams, bleu

N_CASES = 1000
WORDS = {"en": ENGLISH_WORDS, "ko": KOREAN_WORDS}


def draw_texts(seed: int, n_questions: int, language: str) -> tuple[list[str], list[list[str]]]:
    """Answers and one to three references of each question."""
    rng = random.Random(seed)
    accuracy = rng.random()
    references = [
        [" ".join(rng.choices(WORDS[language], k=rng.randint(3, 9))) + rng.choice(["", ".", "!"])
         for _ in range(rng.randint(1, 3))]
        for _ in range(n_questions)
    ]  # fmt: skip
    answers = [
        " ".join(word if rng.random() < accuracy else rng.choice(WORDS[language]) for word in rng.choice(texts).split())
        for texts in references
    ]
    return [answer if rng.random() < 0.95 else "" for answer in answers], references


def spaced(text: str) -> str:
    """A text with spaces around the syllables of Hangul."""
    return re.sub("([가-힣])", r" \1 ", text)


def sacrebleu_score(answers: list[str], references: list[list[str]]) -> float:
    longest = max(map(len, references))
    streams = [[spaced(texts[row]) if row < len(texts) else None for texts in references] for row in range(longest)]
    score = BLEU(tokenize="intl", force=True).corpus_score([spaced(answer) for answer in answers], streams)
    return min(float(score.score) / 100, 1.0)  # sacrebleu rounds up to 100.00000000000004


def read_counts(answers: list[str], references: list[list[str]]) -> Any:
    return numpy.array([count_ngrams(*pair) for pair in zip(answers, references, strict=True)], dtype=float)


def test_bleu_random_cases_equal_sacrebleu() -> None:
    for seed in range(N_CASES):
        answers, references = draw_texts(seed, 1 + seed % 12, "ko" if seed % 2 else "en")
        score = BleuMetric(read_counts(answers, references)).score()
        assert float(score) == pytest.approx(sacrebleu_score(answers, references), abs=1e-12), seed


def test_bleu_without_matches_or_answers_is_0() -> None:
    counts = read_counts(["xyz abc def ghi", ""], [["a b c d e"], ["a b c d e"]])
    assert bleu(counts).tolist() == [0.0, 0.0]


def test_bleu_weights_equal_repeated_questions() -> None:
    rng = numpy.random.default_rng(0)
    for seed in range(20):
        answers, references = draw_texts(seed, 12, "ko" if seed % 2 else "en")
        repeats = rng.multinomial(12, numpy.full(12, 1 / 12), size=4)
        weighted = BleuMetric(read_counts(answers, references)).score(repeats / 12)
        expected = [
            sacrebleu_score(
                list(numpy.repeat(answers, each)), [references[row] for row in numpy.repeat(range(12), each)]
            )
            for each in repeats
        ]
        assert weighted == pytest.approx(expected, abs=1e-9)


def test_bleu_jackknife_values_have_the_mean_and_error_of_delete_one() -> None:
    answers, references = draw_texts(3, 30, "en")
    values = BleuMetric(read_counts(answers, references)).jackknife_values()
    without_one = [
        sacrebleu_score(answers[:row] + answers[row + 1 :], references[:row] + references[row + 1 :])
        for row in range(30)
    ]
    assert values.mean() == pytest.approx(sacrebleu_score(answers, references))
    assert values.var(ddof=1) / 30 == pytest.approx(29 * numpy.var(without_one))


def make_bleu_record(
    make_record: MakeRecord, name: str, answers: list[str], references: list[list[str]], **changes: Any
) -> Record:
    samples = [
        {
            "id": f"q{row:04}",
            "references": texts,
            "raw": f" {answer}\nQ: next" if answer else "",
            "answer": answer or None,
            "scores": {"em": float(answer in texts), "f1": 0.5},
        }
        for row, (answer, texts) in enumerate(zip(answers, references, strict=True))
    ]
    corpus_scores = {"bleu": sacrebleu_score(answers, references)}
    fields = {"samples": samples, "corpus_scores": corpus_scores, "task__metric": "bleu", "decoding__stop": ("\n",)}
    return make_record(name, **(fields | changes))


def test_compare_methods_bleu_has_intervals_and_verdicts(make_record: MakeRecord, tmp_path: Path) -> None:
    _, references = draw_texts(0, 200, "en")
    rng = random.Random(1)
    for name, accuracy in {"lora": 0.9, "full": 0.4}.items():
        answers = [
            " ".join(word if rng.random() < accuracy else "x" for word in texts[0].split()) for texts in references
        ]
        make_bleu_record(make_record, name, answers, references).write(tmp_path)
    comparison = compare_methods(read_records([tmp_path]))
    assert [result.name for result in comparison.results] == ["lora", "full"]
    lora, full = comparison.results
    assert lora.interval.mean == pytest.approx(lora.records[0].all_scores["bleu"])
    assert 0 < full.interval.low < full.interval.mean < full.interval.high < lora.interval.low
    assert comparison.against_leader[full.key].verdict == "worse"


def test_interval_of_bleu_is_the_percentile_interval_of_resampled_answers(make_record: MakeRecord) -> None:
    answers, references = draw_texts(5, 60, "ko")
    record = make_bleu_record(make_record, "zero-shot", answers, references)
    rng = numpy.random.default_rng(1)
    resamples = []
    for _ in range(300):
        rows = rng.integers(0, 60, 60)
        resamples.append(sacrebleu_score([answers[row] for row in rows], [references[row] for row in rows]))
    interval = significance.score_interval(statistic_of([record], "bleu"))
    assert (interval.low, interval.high) == pytest.approx(tuple(numpy.quantile(resamples, [0.025, 0.975])), abs=0.03)


def test_interval_of_bleu_of_right_answers_only_is_that_of_clopper_and_pearson(make_record: MakeRecord) -> None:
    _, references = draw_texts(0, 100, "en")
    record = make_bleu_record(make_record, "zero-shot", [texts[0] for texts in references], references)
    interval = significance.score_interval(statistic_of([record], "bleu"))
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.025**0.01, 1, 1))


def test_statistic_of_bleu_pairs_questions_by_id(make_record: MakeRecord) -> None:
    record = make_bleu_record(make_record, "lora", *draw_texts(2, 20, "en"))
    other = record.model_copy(update={"samples": record.samples[::-1]})
    values = statistic_of([record, other], "bleu").values
    assert values[0] == pytest.approx(values[1])


def test_record_whose_bleu_is_not_that_of_its_answers_is_invalid(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_bleu_record(make_record, "lora", *draw_texts(2, 20, "en"))
    file = record.write(tmp_path)
    assert read_records([tmp_path])[0] == record
    changed = file.read_text("utf-8").replace(f'"bleu": {record.all_scores["bleu"]}', '"bleu": 0.999')
    file.write_text(changed, "utf-8")
    with pytest.raises(UserError, match="bleu is 0\\.999"):
        read_records([tmp_path])


def test_bleu_of_task_py_needs_no_references(make_record: MakeRecord) -> None:
    answers, references = draw_texts(2, 20, "en")
    own = {"corpus_scores": {"bleu": 0.25}, "corpus_values": {"bleu": (0.25,) * 20}}
    record = make_bleu_record(make_record, "lora", answers, references, **own)
    assert statistic_of([record], "bleu").values.tolist() == [[0.25] * 20]
    assert record.corpus_metrics() == {}


def test_answer_ngrams_trims_answers_and_needs_references(make_record: MakeRecord) -> None:
    record = make_bleu_record(make_record, "lora", ["the red fox runs"], [["the red fox runs"]])
    assert AnswerNgrams(("\n",)).read_codes(record.samples)[0, 0] == 4
    without = record.samples[0].model_copy(update={"references": ()})
    with pytest.raises(ValueError, match="without references"):
        AnswerNgrams(("\n",)).read_codes([without])


def test_group_by_task_single_answers_of_bleu_are_shown_with_f1(make_record: MakeRecord) -> None:
    from bench.records.samples import answer_metric

    record = make_bleu_record(make_record, "lora", *draw_texts(2, 20, "en"))
    assert group_by_task([record])[0].metric == "bleu"
    assert answer_metric("bleu", record.scores) == "f1"
    assert answer_metric("evaluate:rouge#rougeL", record.scores) == "f1"
    assert answer_metric("macro-f1", record.scores) == "em"
