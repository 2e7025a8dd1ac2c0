"""The task capitals: its files follow from its recipe, and its form is told by examples alone."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "tasks" / "capitals"
SPLITS = {"train": 1000, "validation": 200, "test": 500}
Rows = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    """The module make.py, imported as it is when run as a script."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("make")
    sys.path.remove(str(FOLDER))
    for name in ("make", "phrases"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The rows of each split as they are shipped."""
    return {
        split: [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text("utf-8").splitlines()]
        for split in SPLITS
    }


def test_recipe_reproduces_the_files_byte_for_byte(recipe: ModuleType) -> None:
    for name, content in recipe.make().items():
        assert (FOLDER / name).read_bytes() == content.encode(), name


def test_no_question_and_no_id_is_given_twice(rows: Rows) -> None:
    everything = [row for some in rows.values() for row in some]
    assert len({"".join(filter(str.isalnum, row["input"])) for row in everything}) == len(everything)
    assert len({row["id"] for row in everything}) == len(everything)


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
