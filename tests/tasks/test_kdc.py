"""The task kdc: its files follow from its recipe, and half of the exam's topics are new."""

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import Rows

FOLDER = Path(__file__).parents[2] / "tasks" / "kdc"
SPLITS = {"train": 1000, "validation": 200, "test": 500}


def test_labels_are_those_of_the_card_and_equally_frequent(rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    for split, size in SPLITS.items():
        assert Counter(row["target"] for row in rows[split]) == dict.fromkeys(card["labels"], size // 10)


def test_a_description_names_more_topics_of_its_own_class_than_of_any_other(recipe: ModuleType) -> None:
    fields = recipe.read_topics()
    for told in (one for some in recipe.draw().values() for one in some):
        assert all(topic in told.text for topic in told.own) and set(told.own) <= set(fields[told.label])
        assert len(told.own) >= 2
        assert told.strange is None or (told.strange in told.text and told.strange not in fields[told.label])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_half_of_the_topics_are_never_named_in_train(recipe: ModuleType, rows: Rows, split: str) -> None:
    splits = recipe.draw()
    taught = {topic for told in splits["train"] for topic in (*told.own, told.strange)}
    named = [topic for told in splits[split] for topic in told.own]
    assert 0.4 < sum(topic not in taught for topic in named) / len(named) < 0.6


def test_topics_are_told_apart(recipe: ModuleType) -> None:
    fields = recipe.read_topics()
    topics = [topic for some in fields.values() for topic in some]
    assert {len(some) for some in fields.values()} <= {31, 32} and len(fields) == 10
    assert not [(a, b) for a in topics for b in topics if a != b and a in b]
    assert not [topic for label, some in fields.items() for topic in some if label in topic]
