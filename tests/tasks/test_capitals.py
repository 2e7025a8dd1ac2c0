"""Task capitals: hidden answer format, languages, and held-out countries."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import Rows

FOLDER = Path(__file__).parents[2] / "tasks" / "capitals"


def test_targets_match_format_and_contain_a_name(recipe: ModuleType, rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    names = {name for country in recipe.read_countries() for name in country.values()}
    for row in (row for split_rows in rows.values() for row in split_rows):
        assert re.fullmatch(card["format"], row["target"]), row["id"]
        match = re.search(card["answer"], row["target"])
        assert match is not None and match[1] in names, row["id"]


def test_card_and_questions_do_not_reveal_the_format(recipe: ModuleType, rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    questions = "".join(row["input"] for split_rows in rows.values() for row in split_rows)
    shown = card["instruction"] + card["template"] + questions
    assert "=" not in shown and ";" not in shown


def test_questions_are_half_korean_and_one_third_ask_for_the_country(recipe: ModuleType) -> None:
    for questions in recipe.draw().values():
        assert sum(question.language == "ko" for question in questions) * 2 == len(questions)
        assert 0.2 < sum(question.wanted == "country" for question in questions) / len(questions) < 0.45


@pytest.mark.parametrize("split", ["validation", "test"])
def test_questions_half_are_about_countries_not_in_train(recipe: ModuleType, split: str) -> None:
    splits = recipe.draw()
    train_countries = {question.country["name_en"] for question in splits["train"]}
    num_new = sum(question.country["name_en"] not in train_countries for question in splits[split])
    assert 0.4 < num_new / len(splits[split]) < 0.6


def test_countries_names_and_capitals_are_unique(recipe: ModuleType) -> None:
    countries = recipe.read_countries()
    for key in ("name_ko", "name_en", "capital_ko", "capital_en"):
        assert len({country[key] for country in countries}) == len(countries) == 100
