"""All shipped tasks: make.py reproduces the files; sizes of the splits; no duplicates."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import imported

from bench.task import load_task

TASKS_FOLDER = Path(__file__).parents[2] / "tasks"
TASK_FOLDERS = sorted(file.parent for file in TASKS_FOLDER.glob("*/make.py") if (file.parent / "task.yaml").is_file())
SPLIT_SIZES = {"train": 1000, "validation": 200, "test": 500}


def test_shipped_tasks_are_five() -> None:
    assert [folder.name for folder in TASK_FOLDERS] == ["bookrec", "capitals", "card-json", "fruit-sums", "kdc"]


@pytest.mark.parametrize("folder", TASK_FOLDERS, ids=lambda folder: folder.name)
def test_make_reproduces_the_files_byte_for_byte(folder: Path) -> None:
    for recipe in imported(folder, "make"):
        for name, content in recipe.make().items():
            assert (folder / name).read_bytes() == content.encode(), name


@pytest.mark.parametrize("folder", TASK_FOLDERS, ids=lambda folder: folder.name)
def test_splits_have_the_sizes_and_no_question_twice(folder: Path) -> None:
    splits = load_task(folder).splits
    assert {split: len(rows) for split, rows in splits.items()} == SPLIT_SIZES
    questions = Counter("".join(filter(str.isalnum, row.input)) for rows in splits.values() for row in rows)
    assert questions.most_common(1)[0][1] == 1
