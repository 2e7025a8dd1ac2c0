"""The task card-json: its files follow from its recipe, its notes tell what its answers hold, its scorer is just."""

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
GOLD = {"name": "김민수", "title": "어린 왕자", "copies": 2, "day": "3-05", "act": "대출", "desk": "A1"}
RIGHT = {"em": 1.0, "f1": 1.0, "parsed": 1.0, "format": 1.0}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(FOLDER)


def every(rows: Rows) -> list[dict[str, str]]:
    return [row for some in rows.values() for row in some]


def filed(row: dict[str, str]) -> dict[str, Any]:
    """The object of a row's answer."""
    content: dict[str, Any] = json.loads(row["target"])
    return content


def test_two_thirds_are_korean(rows: Rows) -> None:
    for split, some in rows.items():
        assert 0.6 < sum(not row["input"].isascii() and "월" in row["input"] for row in some) / len(some) < 0.73, split


@pytest.mark.parametrize("split", ["validation", "test"])
def test_about_half_of_the_names_never_occur_in_train(rows: Rows, split: str) -> None:
    trained = "\n".join(row["input"] for row in rows["train"])
    names = [filed(row)["name"] for row in rows[split]]
    for some in (names, list(set(names))):
        assert 0.42 < sum(name not in trained for name in some) / len(some) < 0.58


@pytest.mark.parametrize("split", ["validation", "test"])
def test_about_half_of_the_books_never_occur_in_train_in_either_language(
    rows: Rows, recipe: ModuleType, split: str
) -> None:
    books = {book[key]: book["id"] for book in recipe.read_books() for key in ("title_ko", "title_en")}
    trained = {books[filed(row)["title"]] for row in rows["train"]}
    titles = [filed(row)["title"] for row in rows[split]]
    for some in (titles, list(set(titles))):
        assert 0.42 < sum(books[title] not in trained for title in some) / len(some) < 0.58


def test_notes_tell_name_and_title_as_they_are_filed(rows: Rows) -> None:
    for row in every(rows):
        card = filed(row)
        assert card["name"] in row["input"] and card["title"] in row["input"], row["id"]


def test_day_and_copies_follow_from_the_note(rows: Rows, recipe: ModuleType) -> None:
    words = recipe.words
    for row in every(rows):
        card, text = filed(row), row["input"]
        month, day = map(int, card["day"].split("-"))
        english = words.MONTHS_EN[month - 1]
        assert card["day"] == f"{month}-{day:02}", row["id"]
        assert re.search(rf"(?<!\d){month}월 {day}일|{english} {day}(?!\d)|(?<!\d){day} {english}", text), row["id"]
        counts = [name for name in (*words.COUNTS, *words.COUNTS_EN) if name in text.lower()]
        assert counts in ([words.COUNTS[card["copies"] - 1]], [words.COUNTS_EN[card["copies"] - 1]]), row["id"]


def test_codes_follow_from_the_note_and_from_nothing_else_in_it(rows: Rows, recipe: ModuleType) -> None:
    words = recipe.words
    for row in every(rows):
        card, text = filed(row), row["input"].lower().replace(str(filed(row)["title"]).lower(), "")
        desks = [code for code, names in words.DESKS.items() if any(name in text for name in names)]
        verbs = {act for act in words.DEED for verb in (*words.DID[act], *words.DID_EN[act]) if verb in text}
        nouns = {act for act in words.DEED for noun in (words.DEED[act], words.DEED_EN[act]) if noun in text}
        assert desks == [card["desk"]], row["id"]
        (act,) = verbs or nouns
        assert card["act"] == (words.DEED_EN if card["name"].isascii() else words.DEED)[act], row["id"]


def test_a_third_of_the_notes_mislead(rows: Rows, recipe: ModuleType) -> None:
    words = recipe.words
    months = "|".join(words.MONTHS_EN)
    days = re.compile(rf"\d+월 \d+일|(?:{months}) \d+|\d+ (?:{months})")
    names = {filed(row)["name"] for row in every(rows)}
    known = re.compile("|".join(sorted(names, key=len, reverse=True)))
    twice = [row for row in every(rows) if len(days.findall(row["input"])) + len(known.findall(row["input"])) > 2]
    assert 0.25 < len(twice) / len(every(rows)) < 0.45


def test_conventions_are_not_in_the_instruction(task: Task, recipe: ModuleType) -> None:
    told = task.card.instruction + task.card.template + task.card.summary
    assert not [code for code in (*recipe.words.DESKS, *recipe.words.DEED_EN.values()) if code in told]
    assert not re.search(r"\d|대출|반납|예약|연장|월|권", told)


def test_all_references_score_full_marks(task: Task, rows: Rows) -> None:
    for row in every(rows):
        assert task.score(task.trim(row["target"] + "\n\nmore"), [row["target"]]) == RIGHT, row["id"]


def marks(task: Task, said: str) -> dict[str, float]:
    return task.score(said, [json.dumps(GOLD, ensure_ascii=False)])


def test_order_of_keys_and_spelling_of_the_json_are_free(task: Task) -> None:
    turned = dict(reversed(GOLD.items()))
    assert marks(task, json.dumps(turned, separators=(",", ":"))) == RIGHT


@pytest.mark.parametrize("copies", ["2", 2.0, 3, None, True, [2], {"2": 2}])
def test_a_value_of_another_type_is_wrong(task: Task, copies: object) -> None:
    assert marks(task, json.dumps(GOLD | {"copies": copies})) == RIGHT | {"em": 0.0, "f1": pytest.approx(5 / 6)}


def test_true_is_not_one(task: Task) -> None:
    one = json.dumps(GOLD | {"copies": 1})
    assert task.score(json.dumps(GOLD | {"copies": True}), [one])["em"] == 0


def test_missing_and_needless_keys_cost_form_and_share(task: Task) -> None:
    fewer = {key: value for key, value in GOLD.items() if key != "day"}
    assert marks(task, json.dumps(fewer)) == {"em": 0, "f1": pytest.approx(10 / 11), "parsed": 1, "format": 0}
    more = GOLD | {"note": ""}
    assert marks(task, json.dumps(more)) == {"em": 0, "f1": pytest.approx(12 / 13), "parsed": 1, "format": 0}


def test_an_object_over_several_lines_is_right_but_out_of_form(task: Task) -> None:
    assert marks(task, json.dumps(GOLD, indent=1)) == RIGHT | {"format": 0.0}


@pytest.mark.parametrize(
    "spoil",
    ["{} 끝", "답: {}", "```json\n{}\n```", "[{}]", "{}{}", "{}\n{}", '"{}"'],
)  # fmt: skip
def test_anything_around_the_object_is_no_answer(task: Task, spoil: str) -> None:
    assert not any(marks(task, spoil.replace("{}", json.dumps(GOLD))).values())


@pytest.mark.parametrize(
    "said",
    ["", " ", "null", "[]", "3", '{"name": "김민수"', '{"name": NaN}', '{"act": "L", "act": "L"}', "{'act': 'L'}",
    "[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5_000 + "}", '{"a": 1e999}',
    "\ufeff{}", '{"\\ud800": "\\udfff"}'],
)  # fmt: skip
def test_no_text_is_worth_anything_or_crashes_unless_it_is_such_an_object(task: Task, said: str) -> None:
    scores = marks(task, said)
    assert scores["em"] == scores["f1"] == scores["format"] == 0


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
OBJECTS = st.dictionaries(
    st.sampled_from([*GOLD, "more"]),
    st.recursive(LEAVES, lambda some: st.lists(some) | st.dictionaries(st.text(), some)),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.text() | OBJECTS.map(json.dumps) | OBJECTS.map(lambda some: json.dumps(GOLD | some)[:-3]))
def test_any_text_is_scored_between_nothing_and_full_marks(task: Task, said: str) -> None:
    scores = marks(task, said)
    assert set(scores) == set(RIGHT) and all(0 <= value <= 1 for value in scores.values())
    assert scores["em"] <= scores["f1"] <= scores["parsed"] and scores["format"] <= scores["parsed"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=OBJECTS)
def test_em_is_equality_of_objects(task: Task, said: dict[str, Any]) -> None:
    text = json.dumps(said, allow_nan=True)
    if not re.search(r"NaN|Infinity", text):
        assert task.score(text, [text, "{}"])["em"] == 1
        assert task.score(text, [json.dumps(said | {"else": 1})])["em"] == 0
