"""Task card-json: notes and answers agree, hidden conventions, and the scorer."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import Rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.task import Task, load_task

FOLDER = Path(__file__).parents[2] / "tasks" / "card-json"
EXPECTED = {"name": "김민수", "title": "어린 왕자", "copies": 2, "day": "3-05", "act": "대출", "desk": "A1"}
PERFECT_SCORES = {"em": 1.0, "f1": 1.0, "parsed": 1.0, "format": 1.0}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(FOLDER)


def all_rows(rows: Rows) -> list[dict[str, str]]:
    return [row for split_rows in rows.values() for row in split_rows]


def read_answer(row: dict[str, str]) -> dict[str, Any]:
    """Return the JSON object in the target of a row."""
    content: dict[str, Any] = json.loads(row["target"])
    return content


def test_notes_two_thirds_are_korean(rows: Rows) -> None:
    for split, split_rows in rows.items():
        num_korean = sum(not row["input"].isascii() and "월" in row["input"] for row in split_rows)
        assert 0.6 < num_korean / len(split_rows) < 0.73, split


@pytest.mark.parametrize("split", ["validation", "test"])
def test_names_half_of_a_split_are_not_in_train(rows: Rows, split: str) -> None:
    train_text = "\n".join(row["input"] for row in rows["train"])
    names = [read_answer(row)["name"] for row in rows[split]]
    for counted in (names, list(set(names))):
        assert 0.42 < sum(name not in train_text for name in counted) / len(counted) < 0.58


@pytest.mark.parametrize("split", ["validation", "test"])
def test_books_half_of_a_split_are_not_in_train_in_any_language(rows: Rows, recipe: ModuleType, split: str) -> None:
    books = {book[key]: book["id"] for book in recipe.read_books() for key in ("title_ko", "title_en")}
    train_books = {books[read_answer(row)["title"]] for row in rows["train"]}
    titles = [read_answer(row)["title"] for row in rows[split]]
    for counted in (titles, list(set(titles))):
        assert 0.42 < sum(books[title] not in train_books for title in counted) / len(counted) < 0.58


def test_notes_contain_name_and_title_of_the_answer(rows: Rows) -> None:
    for row in all_rows(rows):
        card = read_answer(row)
        assert card["name"] in row["input"] and card["title"] in row["input"], row["id"]


def test_notes_state_day_and_copies_of_the_answer(rows: Rows, recipe: ModuleType) -> None:
    phrases = recipe.phrases
    for row in all_rows(rows):
        card, text = read_answer(row), row["input"]
        month, day = map(int, card["day"].split("-"))
        english = phrases.MONTHS_EN[month - 1]
        assert card["day"] == f"{month}-{day:02}", row["id"]
        assert re.search(rf"(?<!\d){month}월 {day}일|{english} {day}(?!\d)|(?<!\d){day} {english}", text), row["id"]
        counts = [name for name in (*phrases.COUNTS, *phrases.COUNTS_EN) if name in text.lower()]
        assert counts in ([phrases.COUNTS[card["copies"] - 1]], [phrases.COUNTS_EN[card["copies"] - 1]]), row["id"]


def test_notes_state_desk_and_action_of_the_answer_only(rows: Rows, recipe: ModuleType) -> None:
    phrases = recipe.phrases
    for row in all_rows(rows):
        card, text = read_answer(row), row["input"].lower().replace(str(read_answer(row)["title"]).lower(), "")
        desks = [code for code, names in phrases.DESKS.items() if any(name in text for name in names)]
        verbs = {act for act in phrases.DEEDS for verb in (*phrases.VERBS[act], *phrases.VERBS_EN[act]) if verb in text}
        nouns = {act for act in phrases.DEEDS for noun in (phrases.DEEDS[act], phrases.DEEDS_EN[act]) if noun in text}
        assert desks == [card["desk"]], row["id"]
        (act,) = verbs or nouns
        assert card["act"] == (phrases.DEEDS_EN if card["name"].isascii() else phrases.DEEDS)[act], row["id"]


def test_notes_one_third_have_a_distractor(rows: Rows, recipe: ModuleType) -> None:
    phrases = recipe.phrases
    months = "|".join(phrases.MONTHS_EN)
    days = re.compile(rf"\d+월 \d+일|(?:{months}) \d+|\d+ (?:{months})")
    names = {read_answer(row)["name"] for row in all_rows(rows)}
    name_pattern = re.compile("|".join(sorted(names, key=len, reverse=True)))
    with_distractor = [
        row for row in all_rows(rows) if len(days.findall(row["input"])) + len(name_pattern.findall(row["input"])) > 2
    ]
    assert 0.25 < len(with_distractor) / len(all_rows(rows)) < 0.45


def test_card_does_not_reveal_the_conventions(task: Task, recipe: ModuleType) -> None:
    shown = task.card.instruction + task.card.template + task.card.summary
    assert not [code for code in (*recipe.phrases.DESKS, *recipe.phrases.DEEDS_EN.values()) if code in shown]
    assert not re.search(r"\d|대출|반납|예약|연장|월|권", shown)


def test_score_of_every_reference_is_perfect(task: Task, rows: Rows) -> None:
    for row in all_rows(rows):
        assert task.score(task.trim(row["target"] + "\n\nmore"), [row["target"]]) == PERFECT_SCORES, row["id"]


def score_of(task: Task, answer: str) -> dict[str, float]:
    return task.score(answer, [json.dumps(EXPECTED, ensure_ascii=False)])


def test_score_ignores_key_order_and_json_spacing(task: Task) -> None:
    reordered = dict(reversed(EXPECTED.items()))
    assert score_of(task, json.dumps(reordered, separators=(",", ":"))) == PERFECT_SCORES


@pytest.mark.parametrize("copies", ["2", 2.0, 3, None, True, [2], {"2": 2}])
def test_score_value_of_another_type_is_wrong(task: Task, copies: object) -> None:
    assert score_of(task, json.dumps(EXPECTED | {"copies": copies})) == PERFECT_SCORES | {
        "em": 0.0,
        "f1": pytest.approx(5 / 6),
    }


def test_score_true_is_not_one(task: Task) -> None:
    reference = json.dumps(EXPECTED | {"copies": 1})
    assert task.score(json.dumps(EXPECTED | {"copies": True}), [reference])["em"] == 0


def test_score_missing_or_extra_key_lowers_f1_and_format(task: Task) -> None:
    missing = {key: value for key, value in EXPECTED.items() if key != "day"}
    assert score_of(task, json.dumps(missing)) == {"em": 0, "f1": pytest.approx(10 / 11), "parsed": 1, "format": 0}
    extra = EXPECTED | {"note": ""}
    assert score_of(task, json.dumps(extra)) == {"em": 0, "f1": pytest.approx(12 / 13), "parsed": 1, "format": 0}


def test_score_multiline_object_is_correct_without_format(task: Task) -> None:
    assert score_of(task, json.dumps(EXPECTED, indent=1)) == PERFECT_SCORES | {"format": 0.0}


@pytest.mark.parametrize(
    "template",
    ["{} 끝", "답: {}", "```json\n{}\n```", "[{}]", "{}{}", "{}\n{}", '"{}"'],
)  # fmt: skip
def test_score_text_around_the_object_is_zero(task: Task, template: str) -> None:
    assert not any(score_of(task, template.replace("{}", json.dumps(EXPECTED))).values())


@pytest.mark.parametrize(
    "answer",
    ["", " ", "null", "[]", "3", '{"name": "김민수"', '{"name": NaN}', '{"act": "L", "act": "L"}', "{'act': 'L'}",
    "[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5_000 + "}", '{"a": 1e999}',
    "\ufeff{}", '{"\\ud800": "\\udfff"}'],
)  # fmt: skip
def test_score_text_that_is_no_valid_object_is_zero(task: Task, answer: str) -> None:
    scores = score_of(task, answer)
    assert scores["em"] == scores["f1"] == scores["format"] == 0


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
OBJECTS = st.dictionaries(
    st.sampled_from([*EXPECTED, "more"]),
    st.recursive(LEAVES, lambda values: st.lists(values) | st.dictionaries(st.text(), values)),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=st.text() | OBJECTS.map(json.dumps) | OBJECTS.map(lambda values: json.dumps(EXPECTED | values)[:-3]))
def test_score_of_any_text_is_between_zero_and_one(task: Task, answer: str) -> None:
    scores = score_of(task, answer)
    assert set(scores) == set(PERFECT_SCORES) and all(0 <= value <= 1 for value in scores.values())
    assert scores["em"] <= scores["f1"] <= scores["parsed"] and scores["format"] <= scores["parsed"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=OBJECTS)
def test_score_em_is_equality_of_objects(task: Task, value: dict[str, Any]) -> None:
    text = json.dumps(value, allow_nan=True)
    if not re.search(r"NaN|Infinity", text):
        assert task.score(text, [text, "{}"])["em"] == 1
        assert task.score(text, [json.dumps(value | {"else": 1})])["em"] == 0
