"""Advice in planted situations: the first sentence and the reasons, in English and in Korean."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeRecord

from bench.analysis import advice, task_results
from bench.analysis.constraints import Constraints
from bench.analysis.known_spread import MEASURED
from bench.i18n import translator
from bench.measurement import environment
from bench.records import CurvePoint, Record, Samples
from bench.report import advice_text, findings

N_QUESTIONS = 400
MakeRun = Callable[..., Record]


@pytest.fixture
def make_run(make_record: MakeRecord) -> MakeRun:
    """A run of one method on one machine; a name in capitals is a control.

    `score` is the share of right answers, those of the questions from number `first` on; `f1` is the score of a wrong
    answer.
    """

    def make(
        name: str,
        score: float,
        *,
        f1: float = 0.0,
        losses: tuple[float, ...] = (),
        cut: int = 0,
        repeating: int = 0,
        cores: int = 8,
        background: float = 0.0,
        wrong: str | None = None,
        first: int = 0,
        **changes: Any,
    ) -> Record:
        env = environment.describe_environment("2026-11-21T00:00:00+00:00", "c" * 64, "cpu", background)
        env = env.model_copy(update={"cores": cores})
        changes = {"base__ref": "./mymodel", "env": env.model_dump()} | changes
        template = make_record(name, items=N_QUESTIONS, method__control=name.isupper(), **changes)
        samples = []
        for number, sample in enumerate(template.samples):
            is_right = (number - first) % N_QUESTIONS < score * N_QUESTIONS
            # The wrong answers of one method differ, unless `wrong` says which they share.
            answer = sample.references[0] if is_right else f"{wrong or name} {number if wrong else number % 7}"
            scores = {"em": float(is_right), "f1": 1.0 if is_right else f1}
            samples.append(sample.model_copy(update={"scores": scores, "raw": answer, "answer": answer}))
        assert template.cost is not None and template.cost.answering is not None
        counts = {"generated_answers": N_QUESTIONS, "cut_answers": cut, "repeating_answers": repeating}
        answering = template.cost.answering.model_copy(update=counts)
        points = (
            CurvePoint(
                step=10 * step, tokens=0, seconds=0, train_loss=None, validation_loss=loss, next_token_accuracy=0
            )
            for step, loss in enumerate(losses)
        )
        means = {metric: sum(sample.scores[metric] for sample in samples) / N_QUESTIONS for metric in ("em", "f1")}
        return template.model_copy(
            update={
                "samples": Samples.from_list(samples),
                "scores": means,
                "cost": template.cost.model_copy(update={"answering": answering}),
                "curve": tuple(points),
            }
        )

    return make


def tell(*records: Record, lang: str = "en") -> list[str]:
    (results,) = task_results.group_by_task(records)
    constraints = Constraints()
    translate = translator(lang)
    return advice_text.advice_sentences(advice.advise(results, constraints), results, constraints, translate)


def seeds(make_run: MakeRun, name: str, score: float, **options: Any) -> list[Record]:
    return [make_run(name, score, seed=seed, **options) for seed in range(3)]


def without_reservation(sentence: str) -> str:
    return re.sub(r"^(Preliminary |잠정 결과)\([^)]*\): ", "", sentence)


def assert_told(records: list[Record], first: str, *others: str, korean: str) -> None:
    sentences = tell(*records)
    assert without_reservation(sentences[0]).startswith(first)
    for other in others:
        assert other in "\n".join(sentences), sentences
    assert without_reservation(tell(*records, lang="ko")[0]).startswith(korean)


def test_advice_all_scores_zero_recommends_nothing(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.0), make_run("full", 0.0), make_run("NEAREST", 0.0)]
    assert_told(
        records,
        "Nothing works yet: the highest score is 0.0 % em",
        "The records show no reason.",
        korean="아직 쓸 만한 방법이 없습니다",
    )
    (results,) = task_results.group_by_task(records)
    floor = findings.comparison_sentences(results.comparison)
    assert floor == ["All methods score below 5 %, so nothing can be said about their order."]


@pytest.mark.parametrize("score", [0.05, 0.3])
def test_advice_control_leads_at_low_score_is_not_recommended(make_run: MakeRun, score: float) -> None:
    records = [make_run("lora", 0.02), make_run("NEAREST", score)]
    assert_told(records, "Nothing works yet: the highest score is", ", of NEAREST;", korean="아직 쓸 만한")
    (results,) = task_results.group_by_task(records)
    assert findings.comparison_sentences(results.comparison)[0].startswith("The control NEAREST scores highest")


def test_advice_methods_below_useful_control_recommends_control(make_run: MakeRun) -> None:
    records = [*seeds(make_run, "lora", 0.6), *seeds(make_run, "TFIDF", 0.8)]
    assert_told(records, "Use TFIDF.", "TFIDF is a control: no method", korean="추천 방법: TFIDF.")


def test_advice_method_not_shown_better_than_control_is_inconclusive(make_run: MakeRun) -> None:
    records = [*seeds(make_run, "lora", 0.7, first=40), *seeds(make_run, "TFIDF", 0.68)]
    first = "Inconclusive: no method is shown to be better than the control TFIDF"
    assert_told(records, first, "test questions would be needed", korean="판단 불가: 기준선 TFIDF")


def test_advice_method_maybe_better_than_control_is_inconclusive(make_run: MakeRun) -> None:
    records = [*seeds(make_run, "lora", 0.68, first=100), *seeds(make_run, "TFIDF", 0.7)]
    assert_told(records, "Inconclusive between the control TFIDF and lora", korean="판단 불가(기준선 TFIDF, lora)")


def test_advice_one_seed_is_preliminary(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.8), make_run("NEAREST", 0.2)]
    assert_told(records, "Use lora.", "One seed: how much scores vary", korean="추천 방법: lora.")
    assert tell(*records)[0] == "Preliminary (one seed): Use lora."
    assert tell(*records, lang="ko")[0] == "잠정 결과(시드 1개): 추천 방법: lora."
    assert "One seed" not in "\n".join(tell(*seeds(make_run, "lora", 0.8), make_run("NEAREST", 0.2)))


def test_advice_one_seed_names_the_assumed_spread_and_its_source(make_run: MakeRun) -> None:
    sentences = tell(make_run("lora", 0.8), make_run("NEAREST", 0.2))
    (told,) = [sentence for sentence in sentences if sentence.startswith("One seed: ")]
    points, runs = 100 * (MEASURED["trained"].share * 0.16) ** 0.5, MEASURED["trained"].n_runs
    assert f"standard deviation of {points:.1f} points is assumed, as in {runs} runs of other tasks" in told


@pytest.mark.parametrize(
    ("single", "is_preliminary"), [(("lora", 0.8), True), (("full", 0.78), True), (("full", 0.3), False)]
)
def test_advice_one_seed_of_a_close_method_is_preliminary(
    make_run: MakeRun, single: tuple[str, float], is_preliminary: bool
) -> None:
    """A method that is clearly worse needs no further seed."""
    name, score = single
    others = [*seeds(make_run, "full" if name == "lora" else "lora", 0.8), make_run("NEAREST", 0.2)]
    assert ("Preliminary" in tell(make_run(name, score), *others)[0]) is is_preliminary


def test_advice_control_far_above_one_seed_is_not_preliminary(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.3), make_run("TFIDF", 0.95)]
    assert tell(*records)[0] == "Use TFIDF."
    assert "One seed" not in "\n".join(tell(*records))


def test_advice_method_without_seed_is_not_preliminary(make_run: MakeRun) -> None:
    records = [make_run("zero-shot", 0.8, method__ref="zero-shot"), make_run("NEAREST", 0.2)]
    assert tell(*records)[0] == "Use zero-shot."
    (results,) = task_results.group_by_task(records)
    assert "one seed" not in findings.comparison_sentences(results.comparison)[0]


def test_advice_quick_budget_is_called_a_smoke_test(make_run: MakeRun) -> None:
    quick = {"budget": {"examples": 200, "epochs": 1}}
    records = [make_run("lora", 0.8, **quick), make_run("NEAREST", 0.2, **quick)]
    assert_told(records, "Use lora.", "Short budget: one epoch over 200 examples", korean="추천 방법: lora.")
    assert tell(*records)[0] == "Preliminary (one seed, short budget): Use lora."
    assert tell(*records, lang="ko")[0] == "잠정 결과(시드 1개, 짧은 예산): 추천 방법: lora."


def test_advice_quick_budget_in_which_a_control_leads_is_preliminary(make_run: MakeRun) -> None:
    """With little training, a control may lead that the method would overtake."""
    quick = {"budget": {"examples": 200, "epochs": 1}}
    records = [make_run("lora", 0.1, **quick), make_run("NEAREST", 0.9, **quick)]
    assert tell(*records)[0] == "Preliminary (short budget): Use NEAREST."
    assert tell(records[1])[0].startswith("Inconclusive: only controls were run")
    full_budget = [make_run("lora", 0.1), make_run("NEAREST", 0.9)]
    assert tell(*full_budget)[0] == "Use NEAREST."


def test_advice_control_beside_method_still_learning_is_inconclusive(make_run: MakeRun) -> None:
    falling = (4.0, 2.0, 1.5, 1.2, 1.0)
    records = [*seeds(make_run, "lora", 0.6, losses=falling), *seeds(make_run, "TFIDF", 0.8)]
    assert_told(records, "Inconclusive: the control TFIDF is as good for now, but lora", korean="판단 불가: 지금은")
    flat = [*seeds(make_run, "lora", 0.6, losses=(4.0, 1.0, 1.0, 1.0, 1.0)), *seeds(make_run, "TFIDF", 0.8)]
    assert tell(*flat)[0] == "Use TFIDF."


def test_advice_cut_answers_are_a_reason(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.1, cut=300), make_run("NEAREST", 0.05)]
    assert_told(records, "Nothing works yet", "Answers are cut: 75 % of those of lora", korean="아직 쓸 만한")


def test_advice_repeating_answers_are_a_reason(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.1, cut=300, repeating=200), make_run("NEAREST", 0.05)]
    assert_told(records, "Nothing works yet", "Answers repeat: 50 % of those of lora", korean="아직 쓸 만한")


def test_advice_methods_agreeing_on_other_answers_question_the_labels(make_run: MakeRun) -> None:
    names = ("lora", "full", "few-shot")
    records = [make_run(name, 0.4, wrong="other") for name in names]
    assert_told(
        records, "Nothing works yet", "Labels may be wrong: on 240 of 400 questions the 3 best", korean="아직 쓸 만한"
    )
    assert "Labels" not in "\n".join(tell(*[make_run(name, 0.4) for name in names]))


def test_advice_f1_far_above_em_calls_metric_strict(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.1, f1=0.7), make_run("NEAREST", 0.05)]
    assert_told(
        records, "Nothing works yet", "Strict metric: lora scores 10.0 % em but 73.0 % f1", korean="아직 쓸 만한"
    )


def test_advice_constant_answer_with_high_f1_calls_metric_lenient(make_run: MakeRun) -> None:
    f1 = {"task__metric": "f1"}
    constant = make_run("MAJORITY", 0.0, f1=0.5, **f1)
    answers = [sample.model_copy(update={"raw": "same", "answer": "same"}) for sample in constant.samples]
    constant = constant.model_copy(update={"samples": Samples.from_list(answers)})
    records = [*seeds(make_run, "lora", 0.8, f1=0.6, **f1), constant]
    lenient = "Lenient metric: the same answer to every question (MAJORITY) scores 50.0 % f1"
    assert_told(records, "Use lora.", lenient, korean="추천 방법: lora.")
    assert "Lenient" not in "\n".join(
        tell(*seeds(make_run, "lora", 0.8, **f1), make_run("MAJORITY", 0.0, f1=0.5, **f1))
    )


def test_advice_loss_still_falling_calls_budget_short(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.1, losses=(4.0, 3.0, 2.0, 1.0)), make_run("NEAREST", 0.05)]
    assert_told(records, "Nothing works yet", "Budget too short: the validation loss of lora", korean="아직 쓸 만한")


def test_advice_controls_alone_are_inconclusive(make_run: MakeRun) -> None:
    records = [make_run("TFIDF", 0.8), make_run("NEAREST", 0.5)]
    assert_told(records, "Inconclusive: only controls were run", korean="판단 불가: 기준선만 실행")


def test_advice_busy_machine_is_told(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.8, background=4.0), make_run("NEAREST", 0.2)]
    assert_told(records, "Use lora.", "Busy machine: other processes used up to 50 %", korean="추천 방법: lora.")


def test_advice_two_machines_compare_no_costs(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.8), make_run("full", 0.9, cores=64), make_run("NEAREST", 0.2)]
    assert_told(records, "Use full.", "different machines", korean="추천 방법: full.")


def test_advice_shipped_model_is_called_a_demonstration(make_run: MakeRun) -> None:
    records = [make_run("lora", 0.8, base__ref="bookworm"), make_run("NEAREST", 0.2, base__ref="bookworm")]
    assert_told(records, "Use lora.", "Demonstration model: bookworm has", korean="추천 방법: lora.")


def test_advice_shipped_model_that_no_method_read_has_no_size(make_run: MakeRun) -> None:
    record = make_run("NEAREST", 0.2, base__ref="bookworm")
    assert record.cost is not None
    cost = record.cost.model_copy(update={"parameters": None})
    told = "\n".join(tell(record.model_copy(update={"cost": cost})))
    assert "Demonstration model: decide with the model" in told and " 0 parameters" not in told


def test_advice_minimum_score_replaces_useful_score(make_run: MakeRun) -> None:
    (results,) = task_results.group_by_task([make_run("lora", 0.35), make_run("NEAREST", 0.05)])
    assert advice.advise(results, Constraints()).answer == "not useful"
    assert advice.advise(results, Constraints(min_scores={"em": 0.3})).recommended == "lora"
