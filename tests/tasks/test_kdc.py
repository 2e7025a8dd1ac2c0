"""Task kdc: balanced labels, topics of the descriptions, and held-out topics."""

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import Rows

FOLDER = Path(__file__).parents[2] / "tasks" / "kdc"
SPLITS = {"train": 1000, "validation": 200, "test": 500}


def test_labels_are_those_of_the_card_and_balanced(rows: Rows) -> None:
    card: dict[str, Any] = yaml.safe_load((FOLDER / "task.yaml").read_text("utf-8"))
    for split, size in SPLITS.items():
        assert Counter(row["target"] for row in rows[split]) == dict.fromkeys(card["labels"], size // 10)


def test_descriptions_name_two_topics_of_their_class_and_one_other_at_most(recipe: ModuleType) -> None:
    topics_by_class = recipe.read_topics()
    for description in (description for descriptions in recipe.draw().values() for description in descriptions):
        assert all(topic in description.text for topic in description.own_topics) and set(
            description.own_topics
        ) <= set(topics_by_class[description.label])
        assert len(description.own_topics) >= 2
        assert description.other_topic is None or (
            description.other_topic in description.text
            and description.other_topic not in topics_by_class[description.label]
        )


@pytest.mark.parametrize("split", ["validation", "test"])
def test_topics_half_of_a_split_are_not_in_train(recipe: ModuleType, rows: Rows, split: str) -> None:
    splits = recipe.draw()
    train_topics = {
        topic for description in splits["train"] for topic in (*description.own_topics, description.other_topic)
    }
    split_topics = [topic for description in splits[split] for topic in description.own_topics]
    assert 0.4 < sum(topic not in train_topics for topic in split_topics) / len(split_topics) < 0.6


def test_topics_contain_neither_each_other_nor_their_class(recipe: ModuleType) -> None:
    topics_by_class = recipe.read_topics()
    topics = [topic for class_topics in topics_by_class.values() for topic in class_topics]
    assert {len(class_topics) for class_topics in topics_by_class.values()} <= {31, 32} and len(topics_by_class) == 10
    assert not [(short, long) for short in topics for long in topics if short != long and short in long]
    assert not [topic for label, class_topics in topics_by_class.items() for topic in class_topics if label in topic]
