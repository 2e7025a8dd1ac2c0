"""Task fruit-sums: stories, rationales and answers agree; bookworm saw no sentence."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Rows, imported

from bench.task import Task, load_task

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tasks" / "fruit-sums"


@pytest.fixture(scope="module")
def phrases(recipe: ModuleType) -> ModuleType:
    return sys.modules["phrases"]


@pytest.fixture(scope="module")
def training_sums() -> Iterator[ModuleType]:
    """The module that wrote the word problems in the training text of bookworm."""
    yield from imported(ROOT / "models" / "bookworm", "sums")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(FOLDER)


def all_rows(rows: Rows) -> list[dict[str, str]]:
    return [row for split_rows in rows.values() for row in split_rows]


def read_steps(row: dict[str, str]) -> list[tuple[int, int, int]]:
    """Return the value, signed change and result of each step of a rationale."""
    matches = [re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)", part) for part in row["rationale"].split(", ")]
    return [(int(match[1]), int(match[2] + match[3]), int(match[4])) for match in matches if match]


def read_numbers(row: dict[str, str]) -> tuple[int, ...]:
    """Return the initial number and the signed changes of a rationale."""
    row_steps = read_steps(row)
    return row_steps[0][0], *(change for _, change, _ in row_steps)


def test_stories_texts_and_numbers_are_distinct(rows: Rows) -> None:
    stories = all_rows(rows)
    assert len({"".join(filter(str.isalnum, row["input"])) for row in stories}) == len(stories)
    assert len({read_numbers(row) for row in stories}) == len(stories)


def test_rationales_reach_the_target_in_three_steps(rows: Rows) -> None:
    for row in all_rows(rows):
        row_steps = read_steps(row)
        assert len(row_steps) == row["rationale"].count("=") == 3, row["id"]
        assert all(value + change == after for value, change, after in row_steps), row["id"]
        assert all(before[2] == after[0] for before, after in pairwise(row_steps)), row["id"]
        assert row["target"] == f"답: {row_steps[-1][2]}개", row["id"]


def test_rationales_numbers_are_within_bounds(rows: Rows) -> None:
    for row in all_rows(rows):
        start, *changes = read_numbers(row)
        assert 3 <= start <= 20 and all(1 <= abs(change) <= 9 for change in changes), row["id"]
        assert all(0 <= after <= 40 for _, _, after in read_steps(row)), row["id"]


def test_stories_contain_exactly_the_numbers_of_the_rationale(rows: Rows) -> None:
    for row in all_rows(rows):
        assert re.findall(r"\d+", row["input"]) == [str(abs(number)) for number in read_numbers(row)], row["id"]


def sentence_pattern(sentence: str) -> str:
    """Return a regular expression that matches a template with any words in its fields."""
    return re.sub(r"\\\{.*?\\\}", r"[가-힣\\d]+", re.escape(sentence))


def test_sentences_verb_agrees_with_the_sign_of_the_step(rows: Rows, phrases: ModuleType) -> None:
    gain, loss = ("|".join(map(sentence_pattern, templates)) for templates in (phrases.GAINS, phrases.LOSSES))
    for row in all_rows(rows):
        _, *sentences = [part for part in re.findall(r"[^.?]+[.?]", row["input"]) if re.search(r"\d", part)]
        for sentence, change in zip(sentences, read_numbers(row)[1:], strict=True):
            expected, opposite = (gain, loss) if change > 0 else (loss, gain)
            assert re.fullmatch(expected, sentence.strip()), (row["id"], sentence)
            assert not re.fullmatch(opposite, sentence.strip()), (row["id"], sentence)


def test_stories_one_third_have_an_irrelevant_sentence(rows: Rows) -> None:
    with_aside = [row for row in all_rows(rows) if len(re.findall(r"[.?]", row["input"])) == 6]
    assert 0.3 < len(with_aside) / len(all_rows(rows)) < 0.4


def test_stories_count_one_fruit_only(rows: Rows, phrases: ModuleType) -> None:
    fruit = "|".join(sorted(phrases.FRUITS, key=len, reverse=True))
    for row in all_rows(rows):
        counted = re.findall(rf"(?<![가-힣])({fruit})(?:[이가을를은는])? \d", row["input"])
        assert len(set(counted)) == 1 and counted[0] in row["input"].split(". ")[-1], row["id"]


def test_targets_each_result_is_rare(rows: Rows) -> None:
    for split, split_rows in rows.items():
        assert max(Counter(row["target"] for row in split_rows).values()) < 0.08 * len(split_rows), split


def test_stories_no_sentence_is_in_the_training_text_of_bookworm(rows: Rows, training_sums: ModuleType) -> None:
    words = [word for value in vars(training_sums).values() if isinstance(value, tuple) for word in value]
    templates = [word for word in words if isinstance(word, str) and word.endswith((".", "?"))]
    assert len(templates) > 20
    training_pattern = re.compile(
        "|".join(sentence_pattern(re.sub(r"(?<=})./.", "", template)) for template in templates)
    )
    sentences = {part.strip() for row in all_rows(rows) for part in re.findall(r"[^.?]+[.?]", row["input"])}
    assert not [sentence for sentence in sentences if training_pattern.fullmatch(sentence)]


@pytest.mark.parametrize(
    ("noun", "expected"), [("귤", "귤이 귤을 귤은 귤과"), ("배", "배가 배를 배는 배와"), ("형", "형이 형을 형은 형과")]
)
def test_noun_format_chooses_the_particle_form(phrases: ModuleType, noun: str, expected: str) -> None:
    assert " ".join(format(phrases.Noun(noun), particle) for particle in "이을은과") == expected


@pytest.mark.parametrize(
    ("answer", "em", "format_score"),
    [
        ("답: 11개", 1, 1),
        ("답: 12개", 0, 1),
        ("11개", 0, 0),
        ("7 + 5 = 12, 12 - 1 = 11\n답: 11개", 0, 0),
        ("답: 11개 답: 12개", 0, 0),
        ("답: 11개.", 0, 0),
        ("", 0, 0),
    ],
)
def test_score_only_a_direct_answer_is_correct(task: Task, answer: str, em: float, format_score: float) -> None:
    scores = task.score(task.trim(answer), ["답: 11개"])
    assert (scores["em"], scores["format"]) == (em, format_score)
