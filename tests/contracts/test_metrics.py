"""Scores of short answers in English and Korean."""

from __future__ import annotations

import unicodedata
from typing import Any, cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import Normalizer, canonical_number, match_label, normalize_text, score

NORMALIZERS: tuple[Normalizer, ...] = get_args(Normalizer)
LETTERS = st.sampled_from("aàbThe 가나다각《》<>『』\"'.,!()‘’\t\u0301\u1112\u1161\u11abßİ")
TEXTS = st.text(LETTERS, max_size=12) | st.text(max_size=12)
RULES = st.sampled_from(NORMALIZERS)
REFERENCE = "마지막 강"
NFD = unicodedata.normalize("NFD", REFERENCE)

KNOWN_SCORES = [
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


@pytest.mark.parametrize(("prediction", "rule", "em", "f1"), KNOWN_SCORES)
def test_score_known_cases(prediction: str, rule: Normalizer, em: float, f1: float) -> None:
    assert score(prediction, REFERENCE, rule) == {"em": em, "f1": pytest.approx(f1)}


@pytest.mark.parametrize(
    ("text", "rule", "normalized"),
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
        (" “Seoul”.\n", "text", "seoul"),
        ("The  A, B!", "text", "the a, b!"),
        ("...", "text", "..."),
        ("\u200bA\u200d", "text", "a"),
        ("می\u200cشود", "text", "می\u200cشود"),
    ],
)
def test_normalize_text_removes_only_what_the_rule_names(text: str, rule: Normalizer, normalized: str) -> None:
    assert normalize_text(text, rule) == normalized


def test_score_em_and_f1_may_use_different_references() -> None:
    assert score("red fox", ["blue whale", "red fox runs"], "squad") == {"em": 0, "f1": pytest.approx(0.8)}
    assert score("red fox", ["red fox runs", "Red Fox!"], "squad") == {"em": 1, "f1": 1}


def test_score_f1_counts_repeated_words_and_characters() -> None:
    assert score("go go go", "go", "squad")["f1"] == pytest.approx(0.5)
    assert score("강강강", "강", "ko")["f1"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1,000", "1000"), ("1000.0", "1000"), ("−5", "-5"), ("+5", "5"), (".5", "0.50"), ("5.", "5"), ("-0", "0"),
        ("５", "5"), ("1e3", "1000"), ("٣", "3"), ("'5'", "5"),
        ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
    ],
)  # fmt: skip
def test_score_text_equal_numbers_match(left: str, right: str) -> None:
    assert score(left, right, "text") == {"em": 1, "f1": 1}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("-5", "5"), ("5.3", "53"), ("1,00", "100"), ("1,5", "1.5"), ("007", "7"), ("010-1234-5678", "01012345678"),
        ("2024-01-05", "20240105"), ("1.2.3", "1.23"), ("5%", "5"), ("-5 kg", "5 kg"), ("5.3 kg", "53 kg"),
        ("1/2", "12"), ("1 2", "12"), ("0x10", "16"), ("C", "C++"), ("C#", "C++"), ("A*", "A"), ("The.", "A"),
        ("+", "-"), ("", "()"), ("1e9999999999999999999", "1e1"),
    ],
)  # fmt: skip
def test_score_text_different_meanings_do_not_match(left: str, right: str) -> None:
    assert score(left, right, "text")["em"] == 0


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("Paris, France!", "france paris", 1), ("-5 apples", "5 apples", 0.5), ("is 1,000", "is 1000", 1),
        ("서울시", "서울", 0.8), ("a (5%)", "a 5", 0.5), ("긍정", "부정", 0.5),
    ],
)  # fmt: skip
def test_score_text_f1_compares_numbers_words_and_characters(prediction: str, reference: str, f1: float) -> None:
    assert score(prediction, reference, "text")["f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    "text", ["5 %", "12:30", "NaN", "Infinity", "1_000", "00", "1,0000", "10²", "００７", "٠١", "", "-", "."]
)
def test_canonical_number_other_text_is_none(text: str) -> None:
    assert canonical_number(text) is None


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("C", "C"), ("C++", "C++"), ("c++.", "C++"), (" C# ", "C#"), ("긍정.", "긍정"), ("c", None), ("The.", None),
        ("긍부정", None), ("", None),
    ],
)  # fmt: skip
def test_match_label_finds_the_only_equal_label(prediction: str, label: str | None) -> None:
    labels = ["C", "C++", "C#", "긍정", "부정", "c."]
    assert match_label(prediction, labels) == label


def test_score_text_with_labels_shares_no_characters() -> None:
    assert score("긍정", "부정", "text", ["긍정", "부정"]) == {"em": 0, "f1": 0}
    assert score("긍정.", ["부정", "긍정"], "text", ["긍정", "부정"]) == {"em": 1, "f1": 1}
    assert score("긍정", "부정", "ko", ["긍정", "부정"])["f1"] == pytest.approx(0.5)  # as in earlier records


@given(TEXTS)
def test_normalize_text_of_text_rule_empties_no_visible_text(text: str) -> None:
    visible = "".join(char for char in text if unicodedata.category(char)[0] in "LNPS" and char not in "\u3164\uffa0")
    assert bool(normalize_text(text, "text")) or not visible
    assert normalize_text(normalize_text(text, "text"), "text") == normalize_text(text, "text")


@pytest.mark.parametrize("rule", ["squad", "korquad", "ko"])
def test_score_two_empty_texts_match_one_does_not(rule: Normalizer) -> None:
    assert score("", "()", rule) == {"em": 1, "f1": 1}
    assert score("", "강", rule) == {"em": 0, "f1": 0}
    assert score("강", "", rule) == {"em": 0, "f1": 0}


def test_score_string_is_one_reference() -> None:
    assert score("강", "강물", "ko")["em"] == 0


def test_score_unknown_normalizer_raises_with_valid_names() -> None:
    with pytest.raises(ValueError, match=r"'squat'.*squad, korquad, ko"):
        score("a", "a", cast(Any, "squat"))


def test_score_without_reference_raises() -> None:
    with pytest.raises(ValueError, match="reference"):
        score("a", [], "squad")


@given(TEXTS, TEXTS, RULES)
def test_score_f1_is_symmetric(left: str, right: str, rule: Normalizer) -> None:
    assert score(left, right, rule)["f1"] == score(right, left, rule)["f1"]


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), RULES)
def test_score_em_is_at_most_f1(prediction: str, references: list[str], rule: Normalizer) -> None:
    scores = score(prediction, references, rule)
    assert scores["em"] in (0, 1)
    assert scores["em"] <= scores["f1"] <= 1


@given(TEXTS, RULES)
def test_score_same_text_has_full_em_and_f1(text: str, rule: Normalizer) -> None:
    assert score(text, text, rule) == {"em": 1, "f1": 1}


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), TEXTS, RULES)
def test_score_another_reference_never_lowers_it(
    prediction: str, references: list[str], extra: str, rule: Normalizer
) -> None:
    before, after = score(prediction, references, rule), score(prediction, [*references, extra], rule)
    assert after["em"] >= before["em"]
    assert after["f1"] >= before["f1"]


@given(TEXTS)
def test_normalize_text_ko_ignores_the_unicode_form(text: str) -> None:
    assert normalize_text(unicodedata.normalize("NFD", text), "ko") == normalize_text(text, "ko")


def test_score_squad_agrees_with_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    try:
        metric = evaluate.load("squad")
    except Exception as error:  # the exception raised offline differs between releases
        pytest.skip(f"evaluate cannot load its squad script offline: {type(error).__name__}")
    pairs = [("The red fox", "a red fox!"), ("fox fox", "the fox"), ("whale", "fox"), ("마지막강", REFERENCE)]
    for prediction, reference in pairs:
        theirs = metric.compute(
            predictions=[{"id": "0", "prediction_text": prediction}],
            references=[{"id": "0", "answers": {"text": [reference], "answer_start": [0]}}],
        )
        ours = score(prediction, reference, "squad")
        assert 100 * ours["em"] == pytest.approx(theirs["exact_match"])
        assert 100 * ours["f1"] == pytest.approx(theirs["f1"])
