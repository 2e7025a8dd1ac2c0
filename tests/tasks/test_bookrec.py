"""Task bookrec: answer format, held-out books, conditions, and the hidden rule."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import Rows

FOLDER = Path(__file__).parents[2] / "tasks" / "bookrec"


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """The content of task.yaml."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    return content


def every_request(recipe: ModuleType) -> list[Any]:
    """Return the requests of all splits."""
    return [request for requests in recipe.draw().values() for request in requests]


def title_of(target: str) -> str:
    """Return the title in an answer."""
    return target.split(" | ")[1].removeprefix("책: ")


def test_requests_are_distinct_ignoring_punctuation(rows: Rows) -> None:
    texts = ["".join(filter(str.isalnum, row["input"])) for split_rows in rows.values() for row in split_rows]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_books_half_of_a_split_are_not_in_train(rows: Rows, split: str) -> None:
    train_text = "".join(row["target"] + row["input"] for row in rows["train"])
    split_titles = {title_of(row["target"]) for row in rows[split]}
    train_titles = {title_of(row["target"]) for row in rows["train"]} & split_titles
    assert len(train_titles) * 2 == len(split_titles)
    assert not [held_out for held_out in split_titles - train_titles if f"책: {held_out} |" in train_text]


def test_targets_match_format_and_contain_the_title(rows: Rows, card: dict[str, Any]) -> None:
    for row in (row for split_rows in rows.values() for row in split_rows):
        assert re.fullmatch(card["format"], row["target"]), row["id"]
        match = re.search(card["answer"], row["target"])
        assert match is not None and match[1] == title_of(row["target"]), row["id"]


def test_answer_subject_heading_is_the_theme_of_book_and_request(recipe: ModuleType) -> None:
    for _, book, conditions in every_request(recipe):
        heading = recipe.answer(book, conditions).split(" | ")[0].removeprefix("주제: ")
        assert heading == conditions["theme"] == book["theme"]


def test_conditions_match_one_book_and_at_least_five_without_theme(recipe: ModuleType) -> None:
    books = recipe.read_books()
    for text, book, conditions in every_request(recipe):
        matching = [other["title_ko"] for other in books if recipe.satisfies(other, conditions)]
        assert matching == [book["title_ko"]], text
        without_theme = {attribute: value for attribute, value in conditions.items() if attribute != "theme"}
        assert sum(recipe.satisfies(other, without_theme) for other in books) >= 5, text


def test_requests_seven_in_ten_state_the_theme_by_color_only(recipe: ModuleType) -> None:
    requests = every_request(recipe)
    by_color = [request for request in requests if "띠" in request.text]
    assert 0.6 < len(by_color) / len(requests) < 0.8
    assert not [request.text for request in by_color if f"{request.conditions['theme']}을 다루는" in request.text]


def test_card_instruction_and_template_do_not_reveal_the_rule(recipe: ModuleType, card: dict[str, Any]) -> None:
    shown = card["instruction"] + card["template"] + card["summary"]
    assert not [word for word in (*recipe.BANDS, *recipe.BANDS.values(), "띠", "주제", "이유", " | ") if word in shown]
