"""The task capitals: its files follow from its recipe, and its form is told by examples alone."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import Rows

FOLDER = Path(__file__).parents[2] / "tasks" / "capitals"


def test_targets_have_the_form_and_the_name(recipe: ModuleType, rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    names = {name for country in recipe.read_countries() for name in country.values()}
    for row in (row for some in rows.values() for row in some):
        assert re.fullmatch(card["format"], row["target"]), row["id"]
        found = re.search(card["answer"], row["target"])
        assert found is not None and found[1] in names, row["id"]


def test_the_form_is_told_nowhere_but_in_the_answers(recipe: ModuleType, rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    asked = card["instruction"] + card["template"] + "".join(row["input"] for some in rows.values() for row in some)
    assert "=" not in asked and ";" not in asked


def test_both_languages_ask_in_both_directions(recipe: ModuleType) -> None:
    for some in recipe.draw().values():
        assert sum(asked.language == "ko" for asked in some) * 2 == len(some)
        assert 0.2 < sum(asked.wanted == "country" for asked in some) / len(some) < 0.45


@pytest.mark.parametrize("split", ["validation", "test"])
def test_half_of_the_questions_are_about_countries_that_train_never_asks_about(recipe: ModuleType, split: str) -> None:
    splits = recipe.draw()
    taught = {asked.country["name_en"] for asked in splits["train"]}
    new = sum(asked.country["name_en"] not in taught for asked in splits[split])
    assert 0.4 < new / len(splits[split]) < 0.6


def test_no_answer_stands_in_another_country_of_the_table(recipe: ModuleType) -> None:
    countries = recipe.read_countries()
    for key in ("name_ko", "name_en", "capital_ko", "capital_en"):
        assert len({country[key] for country in countries}) == len(countries) == 100
