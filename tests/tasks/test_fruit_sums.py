"""The task fruit-sums: its files follow from its recipe, and each story's numbers give its answer."""

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
def learnt() -> Iterator[ModuleType]:
    """The sums that the shipped base model was trained on."""
    yield from imported(ROOT / "models" / "bookworm", "sums")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(FOLDER)


def every(rows: Rows) -> list[dict[str, str]]:
    return [row for some in rows.values() for row in some]


def steps(row: dict[str, str]) -> list[tuple[int, int, int]]:
    """Value, signed change and result of each step of a rationale; nothing else may stand in it."""
    found = [re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)", part) for part in row["rationale"].split(", ")]
    return [(int(one[1]), int(one[2] + one[3]), int(one[4])) for one in found if one]


def numbers(row: dict[str, str]) -> tuple[int, ...]:
    """Start and signed changes as the rationale has them."""
    done = steps(row)
    return done[0][0], *(change for _, change, _ in done)


def test_no_story_is_told_twice_and_no_numbers_recur(rows: Rows) -> None:
    told = every(rows)
    assert len({"".join(filter(str.isalnum, row["input"])) for row in told}) == len(told)
    assert len({numbers(row) for row in told}) == len(told)


def test_each_rationale_leads_in_three_steps_to_its_target(rows: Rows) -> None:
    for row in every(rows):
        done = steps(row)
        assert len(done) == row["rationale"].count("=") == 3, row["id"]
        assert all(value + change == after for value, change, after in done), row["id"]
        assert all(before[2] == after[0] for before, after in pairwise(done)), row["id"]
        assert row["target"] == f"답: {done[-1][2]}개", row["id"]


def test_numbers_keep_within_bounds(rows: Rows) -> None:
    for row in every(rows):
        start, *changes = numbers(row)
        assert 3 <= start <= 20 and all(1 <= abs(change) <= 9 for change in changes), row["id"]
        assert all(0 <= after <= 40 for _, _, after in steps(row)), row["id"]


def test_a_story_tells_the_numbers_of_its_rationale_in_order_and_no_others(rows: Rows) -> None:
    for row in every(rows):
        assert re.findall(r"\d+", row["input"]) == [str(abs(number)) for number in numbers(row)], row["id"]


def pattern(sentence: str) -> str:
    """A regular expression for a sentence with any words in its gaps."""
    return re.sub(r"\\\{.*?\\\}", r"[가-힣\\d]+", re.escape(sentence))


def test_sentences_say_by_their_verb_what_the_rationale_does(rows: Rows, phrases: ModuleType) -> None:
    gain, loss = ("|".join(map(pattern, some)) for some in (phrases.GAINS, phrases.LOSSES))
    for row in every(rows):
        _, *told = [part for part in re.findall(r"[^.?]+[.?]", row["input"]) if re.search(r"\d", part)]
        for sentence, change in zip(told, numbers(row)[1:], strict=True):
            right, wrong = (gain, loss) if change > 0 else (loss, gain)
            assert re.fullmatch(right, sentence.strip()), (row["id"], sentence)
            assert not re.fullmatch(wrong, sentence.strip()), (row["id"], sentence)


def test_a_third_of_the_stories_has_a_sentence_that_does_not_count(rows: Rows) -> None:
    aside = [row for row in every(rows) if len(re.findall(r"[.?]", row["input"])) == 6]
    assert 0.3 < len(aside) / len(every(rows)) < 0.4


def test_one_fruit_only_is_counted(rows: Rows, phrases: ModuleType) -> None:
    fruit = "|".join(sorted(phrases.FRUITS, key=len, reverse=True))
    for row in every(rows):
        counted = re.findall(rf"(?<![가-힣])({fruit})(?:[이가을를은는])? \d", row["input"])
        assert len(set(counted)) == 1 and counted[0] in row["input"].split(". ")[-1], row["id"]


def test_no_result_is_frequent(rows: Rows) -> None:
    for split, some in rows.items():
        assert max(Counter(row["target"] for row in some).values()) < 0.08 * len(some), split


def test_no_sentence_is_one_the_base_model_was_trained_on(rows: Rows, learnt: ModuleType) -> None:
    words = [word for some in vars(learnt).values() if isinstance(some, tuple) for word in some]
    sentences = [word for word in words if isinstance(word, str) and word.endswith((".", "?"))]
    assert len(sentences) > 20
    known = re.compile("|".join(pattern(re.sub(r"(?<=})./.", "", sentence)) for sentence in sentences))
    told = {part.strip() for row in every(rows) for part in re.findall(r"[^.?]+[.?]", row["input"])}
    assert not [sentence for sentence in told if known.fullmatch(sentence)]


@pytest.mark.parametrize(
    ("noun", "told"), [("귤", "귤이 귤을 귤은 귤과"), ("배", "배가 배를 배는 배와"), ("형", "형이 형을 형은 형과")]
)
def test_particles_fit_their_noun(phrases: ModuleType, noun: str, told: str) -> None:
    assert " ".join(format(phrases.Noun(noun), particle) for particle in "이을은과") == told


@pytest.mark.parametrize(
    ("said", "em", "form"),
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
def test_only_a_direct_answer_counts(task: Task, said: str, em: float, form: float) -> None:
    scores = task.score(task.trim(said), ["답: 11개"])
    assert (scores["em"], scores["format"]) == (em, form)
