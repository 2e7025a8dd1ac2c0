"""What all tasks that ship have in common: their files follow from their recipes, and nothing is asked twice."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import imported

from bench.task import load_task

TASKS = Path(__file__).parents[2] / "tasks"
SHIPPED = sorted(file.parent for file in TASKS.glob("*/make.py") if (file.parent / "task.yaml").is_file())
SIZES = {"train": 1000, "validation": 200, "test": 500}


def test_five_ship() -> None:
    assert [folder.name for folder in SHIPPED] == ["bookrec", "capitals", "card-json", "fruit-sums", "kdc"]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_recipe_reproduces_the_files_byte_for_byte(folder: Path) -> None:
    for recipe in imported(folder, "make"):
        for name, content in recipe.make().items():
            assert (folder / name).read_bytes() == content.encode(), name


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_sizes_are_those_of_all_and_no_question_is_asked_twice(folder: Path) -> None:
    splits = load_task(folder).splits
    assert {split: len(some) for split, some in splits.items()} == SIZES
    asked = Counter("".join(filter(str.isalnum, row.input)) for some in splits.values() for row in some)
    assert asked.most_common(1)[0][1] == 1
