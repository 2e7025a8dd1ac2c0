"""The scores of short answers: what counts as right, in English and in Korean."""

from __future__ import annotations

import unicodedata
from typing import Any, cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import Normalizer, normalize_text, score

NORMALISERS: tuple[Normalizer, ...] = get_args(Normalizer)
LETTERS = st.sampled_from("aàbThe 가나다각《》<>『』\"'.,!()‘’\t\u0301\u1112\u1161\u11abßİ")
TEXTS = st.text(LETTERS, max_size=12) | st.text(max_size=12)
HOW = st.sampled_from(NORMALISERS)
GOLD = "마지막 강"
NFD = unicodedata.normalize("NFD", GOLD)

GOLDEN = [
    ("《마지막 강》", "squad", 0, 0),
    ("《마지막 강》", "korquad", 1, 1),
    ("《마지막 강》", "ko", 1, 1),
    ("『마지막 강』", "squad", 0, 0),
    ("『마지막 강』", "korquad", 0, 0.80),
    ("『마지막 강』", "ko", 1, 1),
    ("마지막강", "squad", 0, 0),
    ("마지막강", "korquad", 0, 1),
    ("마지막강", "ko", 0, 1),
    (NFD, "squad", 0, 0),
    (NFD, "korquad", 0, 0),
    (NFD, "ko", 1, 1),
]


@pytest.mark.parametrize(("prediction", "how", "em", "f1"), GOLDEN)
def test_golden_cases(prediction: str, how: Normalizer, em: float, f1: float) -> None:
    assert score(prediction, GOLD, how) == {"em": em, "f1": pytest.approx(f1)}


@pytest.mark.parametrize(
    ("text", "how", "clean"),
    [
        ("The  Last-River, a tale!\n", "squad", "lastriver tale"),
        ("theatre an anthem", "squad", "theatre anthem"),
        ("「강」", "squad", "「강」"),
        ("'A'(B)", "korquad", "a b"),
        ("The 강.", "korquad", "the 강"),
        ("≪강≫ <물> `숲` ＜산＞", "ko", "강 물 숲 산"),
        ("Straße – “SS”…", "ko", "strasse ss"),
        ("3 + 4 = 7 €", "ko", "3 + 4 = 7 €"),
        ("《 》", "ko", ""),
    ],
)
def test_each_normalizer_strips_just_what_it_names(text: str, how: Normalizer, clean: str) -> None:
    assert normalize_text(text, how) == clean


def test_best_reference_is_taken_for_em_and_f1_apart() -> None:
    assert score("red fox", ["blue whale", "red fox runs"], "squad") == {"em": 0, "f1": pytest.approx(0.8)}
    assert score("red fox", ["red fox runs", "Red Fox!"], "squad") == {"em": 1, "f1": 1}


def test_overlap_counts_repetitions() -> None:
    assert score("go go go", "go", "squad")["f1"] == pytest.approx(0.5)
    assert score("강강강", "강", "ko")["f1"] == pytest.approx(0.5)


@pytest.mark.parametrize("how", NORMALISERS)
def test_two_empty_sides_agree_and_one_does_not(how: Normalizer) -> None:
    assert score("", "()", how) == {"em": 1, "f1": 1}
    assert score("", "강", how) == {"em": 0, "f1": 0}
    assert score("강", "", how) == {"em": 0, "f1": 0}


def test_one_text_is_one_reference_not_its_letters() -> None:
    assert score("강", "강물", "ko")["em"] == 0


def test_unknown_normalizer_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match=r"'squat'.*squad, korquad, ko"):
        score("a", "a", cast(Any, "squat"))


def test_no_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="reference"):
        score("a", [], "squad")


@given(TEXTS, TEXTS, HOW)
def test_f1_is_symmetric(left: str, right: str, how: Normalizer) -> None:
    assert score(left, right, how)["f1"] == score(right, left, how)["f1"]


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), HOW)
def test_scores_are_bounded_and_em_never_exceeds_f1(prediction: str, golds: list[str], how: Normalizer) -> None:
    got = score(prediction, golds, how)
    assert got["em"] in (0, 1)
    assert got["em"] <= got["f1"] <= 1


@given(TEXTS, HOW)
def test_an_exact_match_has_full_f1(text: str, how: Normalizer) -> None:
    assert score(text, text, how) == {"em": 1, "f1": 1}


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), TEXTS, HOW)
def test_one_more_reference_never_lowers_a_score(prediction: str, golds: list[str], more: str, how: Normalizer) -> None:
    before, after = score(prediction, golds, how), score(prediction, [*golds, more], how)
    assert after["em"] >= before["em"]
    assert after["f1"] >= before["f1"]


@given(TEXTS)
def test_ko_does_not_see_the_unicode_form(text: str) -> None:
    assert normalize_text(unicodedata.normalize("NFD", text), "ko") == normalize_text(text, "ko")


def test_agrees_with_the_squad_metric_of_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    try:
        metric = evaluate.load("squad")
    except Exception as error:  # what it raises offline has changed with every release
        pytest.skip(f"evaluate cannot load its squad script offline: {type(error).__name__}")
    pairs = [("The red fox", "a red fox!"), ("fox fox", "the fox"), ("whale", "fox"), ("마지막강", GOLD)]
    for prediction, gold in pairs:
        theirs = metric.compute(
            predictions=[{"id": "0", "prediction_text": prediction}],
            references=[{"id": "0", "answers": {"text": [gold], "answer_start": [0]}}],
        )
        ours = score(prediction, gold, "squad")
        assert 100 * ours["em"] == pytest.approx(theirs["exact_match"])
        assert 100 * ours["f1"] == pytest.approx(theirs["f1"])
