"""The task bookrec: its files follow from its recipe, and its requests ask for exactly one book."""

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


def title(target: str) -> str:
    """The title in an answer."""
    return target.split(" | ")[1].removeprefix("책: ")


def test_no_request_is_asked_twice(rows: Rows) -> None:
    squeezed = ["".join(filter(str.isalnum, row["input"])) for some in rows.values() for row in some]
    assert len(set(squeezed)) == len(squeezed)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_half_of_the_books_are_never_asked_for_in_train(rows: Rows, split: str) -> None:
    trained = "".join(row["target"] + row["input"] for row in rows["train"])
    asked = {title(row["target"]) for row in rows[split]}
    seen = {title(row["target"]) for row in rows["train"]} & asked
    assert len(seen) * 2 == len(asked)
    assert not [absent for absent in asked - seen if f"책: {absent} |" in trained]


def test_targets_have_the_format_and_a_title(rows: Rows, card: dict[str, Any]) -> None:
    for row in (row for some in rows.values() for row in some):
        assert re.fullmatch(card["format"], row["target"]), row["id"]
        found = re.search(card["answer"], row["target"])
        assert found is not None and found[1] == title(row["target"]), row["id"]


def test_the_subject_heading_is_a_theme_of_the_book_and_the_one_asked_for(recipe: ModuleType) -> None:
    for _, book, wishes in (asked for some in recipe.draw().values() for asked in some):
        heading = recipe.answer(book, wishes).split(" | ")[0].removeprefix("주제: ")
        assert heading == wishes["theme"] == book["theme"]


def test_each_request_fits_exactly_one_book_and_several_without_its_theme(recipe: ModuleType) -> None:
    books = recipe.read_books()
    for text, book, wishes in (asked for some in recipe.draw().values() for asked in some):
        assert [fitting["title_ko"] for fitting in books if recipe.fits(fitting, wishes)] == [book["title_ko"]], text
        spared = {attribute: value for attribute, value in wishes.items() if attribute != "theme"}
        assert sum(recipe.fits(other, spared) for other in books) >= 5, text


def test_most_requests_tell_the_theme_by_color_only(recipe: ModuleType) -> None:
    asked = [one for some in recipe.draw().values() for one in some]
    banded = [one for one in asked if "띠" in one.text]
    assert 0.6 < len(banded) / len(asked) < 0.8
    assert not [one.text for one in banded if f"{one.wishes['theme']}을 다루는" in one.text]


def test_hidden_rule_is_not_in_the_instruction(recipe: ModuleType, card: dict[str, Any]) -> None:
    told = card["instruction"] + card["template"] + card["summary"]
    assert not [word for word in (*recipe.BANDS, *recipe.BANDS.values(), "띠", "주제", "이유", " | ") if word in told]
