"""A task: everything wrong with one is refused with its place and mend, and answers are scored as its card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CARD, MakeTask, examples
from hypothesis import given
from hypothesis import strategies as st

from bench import task
from bench.errors import UserError
from bench.task import Task, TaskRow, TaskTrainingData
from bench.task_card import TaskCard

SCORER = "def score(prediction, references):\n    return {'em': float(len(prediction) / 100), 'mine': 1.0}\n"
TEXTS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def folder(make_task: MakeTask, tmp_path: Path) -> Path:
    return make_task(tmp_path / "feelings")


def refusal(folder: Path) -> UserError:
    with pytest.raises(UserError) as refused:
        task.load_task(folder)
    return refused.value


def replace_line(file: Path, number: int, line: str) -> None:
    lines = file.read_text("utf-8").split("\n")
    lines[number - 1] = line
    file.write_text("\n".join(lines), "utf-8")


def row(**changes: Any) -> str:
    return json.dumps({"id": "new", "input": "red", "target": "warm"} | changes)


@pytest.mark.parametrize("split", task.SPLITS)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "new", ', "not valid JSON"),
        ("[1]", "one JSON object"),
        ("7", "one JSON object"),
        (row(target=""), "'target' must be a text that is not empty"),
        (row(target="  "), "'target' must be a text that is not empty"),
        (row(target=[]), "'target' must be a text that is not empty"),
        (row(target=["warm", ""]), "'target' must be a text that is not empty"),
        (row(target=None), "'target' must be a text that is not empty"),
        (row(target=3), "'target' must be a text that is not empty"),
        (row(input=""), "'input' must be a text that is not empty"),
        (row(id=7), "'id' must be a text that is not empty"),
        (row(id=" "), "'id' must be a text that is not empty"),
        (row(target="warm\nand"), "contains '\\n'"),
        (row(target=["warm", "warm\nand"]), "contains '\\n'"),
        (row(rationale=3), "'rationale' must be a text"),
    ],
)
def test_a_bad_line_is_refused_with_its_file_and_number(folder: Path, split: str, line: str, said: str) -> None:
    replace_line(folder / f"{split}.jsonl", 3, line)
    refused = refusal(folder)
    assert said in refused.message
    assert refused.location == f"{folder}/{split}.jsonl:3"


@pytest.mark.parametrize("split", task.SPLITS)
def test_a_label_that_is_none_of_the_labels_is_refused(make_task: MakeTask, tmp_path: Path, split: str) -> None:
    folder = make_task(tmp_path / "closed", labels=["warm", "cold", "mild"])
    task.load_task(folder)
    replace_line(folder / f"{split}.jsonl", 2, row(target="hot"))
    refused = refusal(folder)
    assert "'hot' is none of the labels" in refused.message
    assert refused.location == f"{folder}/{split}.jsonl:2"
    assert refused.hint == "warm, cold, mild"


def test_an_unknown_key_of_a_row_is_refused_with_the_nearest_one(folder: Path) -> None:
    replace_line(folder / "test.jsonl", 1, row(targett="warm"))
    refused = refusal(folder)
    assert "'targett'" in refused.message
    assert refused.location == f"{folder}/test.jsonl:1"
    assert "did you mean 'target'" in (refused.hint or "")


@pytest.mark.parametrize("split", task.SPLITS)
def test_an_id_given_twice_is_refused_with_both_places(folder: Path, split: str) -> None:
    first = (folder / "train.jsonl").read_text("utf-8").split("\n")[0]
    replace_line(folder / f"{split}.jsonl", 4, first)
    refused = refusal(folder)
    assert "'q0' is given twice" in refused.message
    assert refused.location == f"{folder}/{split}.jsonl:4"
    assert f"{folder}/train.jsonl:1" in (refused.hint or "")


@pytest.mark.parametrize("split", task.SPLITS)
def test_a_split_that_is_missing_empty_or_not_utf8_is_refused(folder: Path, split: str) -> None:
    file = folder / f"{split}.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"red", "grün".encode("latin-1")) + b"\xff\n")
    assert "not UTF-8" in refusal(folder).message
    assert refusal(folder).location == str(file)
    file.write_text("\n\n", "utf-8")
    assert "empty" in refusal(folder).message
    assert refusal(folder).location == str(file)
    file.unlink()
    assert f"'{split}' is missing" in refusal(folder).message
    assert refusal(folder).location == str(file)
    assert refusal(folder).hint


def test_a_folder_without_a_card_is_refused(folder: Path) -> None:
    (folder / "task.yaml").unlink()
    refused = refusal(folder)
    assert "task.yaml" in refused.message
    assert refused.location == str(folder / "task.yaml")
    assert refused.hint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"instruction": None}, "key 'instruction'"),
        ({"version": 0}, "key 'version'"),
        ({"version": "one"}, "key 'version'"),
        ({"name": "Über uns"}, "key 'name'"),
        ({"name": "../elsewhere"}, "key 'name'"),
        ({"normalize": "klingon"}, "key 'normalize'"),
        ({"new_tokens": 0}, "key 'new_tokens'"),
        ({"template": "{input}"}, "once each"),
        ({"template": "{input}{input}{target}"}, "once each"),
        ({"template": "{target} {input}"}, "before"),
        ({"answer": "(a"}, "regular expression"),
        ({"format": "*"}, "regular expression"),
        ({"answer": "no group"}, "exactly one group"),
        ({"answer": "(a)(b)"}, "exactly one group"),
        ({"metric": "accuracy"}, "metric"),
    ],
)
def test_a_wrong_value_in_the_card_is_refused_with_its_key(
    make_task: MakeTask, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = make_task(tmp_path / "wrong", **changes)
    refused = refusal(folder)
    assert said in refused.message
    assert refused.location == str(folder / "task.yaml")


def test_an_unknown_key_in_the_card_is_refused_with_the_nearest_one(make_task: MakeTask, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "wrong", instrution="x")
    refused = refusal(folder)
    assert "'instrution'" in refused.message
    assert refused.location == str(folder / "task.yaml")
    assert "did you mean 'instruction'" in (refused.hint or "")


@pytest.mark.parametrize("content", [b"a: [", b"- a", b"", b"name: \xff"])
def test_a_card_that_is_no_mapping_in_utf8_is_refused(folder: Path, content: bytes) -> None:
    (folder / "task.yaml").write_bytes(content)
    assert refusal(folder).location == str(folder / "task.yaml")


@pytest.mark.parametrize("code", ["1 / 0", "x = 1", "def score(:"])
def test_a_scorer_that_does_not_load_is_refused(folder: Path, code: str) -> None:
    (folder / "task.py").write_text(code, "utf-8")
    refused = refusal(folder)
    assert refused.location == str(folder / "task.py")
    assert "score(prediction" in (refused.hint or "")


def test_a_sound_task_has_every_row_in_the_order_of_its_files(folder: Path) -> None:
    loaded = task.load_task(folder)
    assert {split: [row.id for row in loaded.splits[split]] for split in task.SPLITS} == {
        "train": [row["id"] for row in examples(0, 9)],
        "validation": [row["id"] for row in examples(20, 4)],
        "test": [row["id"] for row in examples(40, 5)],
    }


def test_a_line_separator_inside_a_text_does_not_end_a_line(make_task: MakeTask, tmp_path: Path) -> None:
    odd = "a\u2028b\x0bc\x85d"
    folder = make_task(tmp_path / "odd", train=[{"id": "one", "input": odd, "target": "warm"}])
    assert task.load_task(folder).splits["train"][0].input == odd


def test_a_byte_order_mark_is_no_part_of_card_or_row(folder: Path) -> None:
    before = task.load_task(folder)
    for name in ("task.yaml", "train.jsonl"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    after = task.load_task(folder)
    assert (after.card, after.splits) == (before.card, before.splits)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("prediction.nope()", "AttributeError: 'str' object has no attribute 'nope'"),
        ("0.5", "score gives 0.5"),
        ("{}", "score gives {}"),
        ("{'em': 1.7}", "score gives {'em': 1.7}"),
        ("{'em': 'good'}", "score gives {'em': 'good'}"),
        ("{'cer': 1.0}", "no score is called 'em'"),
    ],
)
def test_a_scorer_that_does_not_score_is_refused_before_anything_runs(folder: Path, body: str, says: str) -> None:
    (folder / "task.py").write_text(f"def score(prediction, references):\n    return {body}\n", "utf-8")
    refused = refusal(folder)
    assert says in refused.message
    assert refused.location == str(
        folder / ("task.yaml" if "cer" in body else "task.py:2" if "nope" in body else "task.py")
    )


@pytest.mark.parametrize("file", ["task.yaml", "train.jsonl", "validation.jsonl", "test.jsonl", "task.py"])
def test_the_digest_changes_with_any_file_and_with_nothing_else(folder: Path, file: str) -> None:
    (folder / "task.py").write_text(SCORER, "utf-8")
    before = task.load_task(folder).sha256
    (folder / "notes.txt").write_text("nothing", "utf-8")
    assert task.load_task(folder).sha256 == before
    with (folder / file).open("ab") as content:
        content.write(b"\n")
    assert task.load_task(folder).sha256 != before


@pytest.mark.parametrize(
    "other", ["{'em': 1.0}", "{'em': 1.0, 'mine': 7}", "{'em': 1.0, 'mine': 0, 'more': 0}", "None"]
)
def test_a_scorer_that_scores_another_row_otherwise_is_refused_before_anything_runs(folder: Path, other: str) -> None:
    last = task.load_task(folder).splits["test"][-1].target
    code = f"def score(said, references):\n    return {other} if said == {last!r} else {{'em': 1.0, 'mine': 1.0}}\n"
    (folder / "task.py").write_text(code, "utf-8")
    with pytest.raises(UserError, match="and itself"):
        task.load_task(folder)


def test_a_share_may_be_rounded(folder: Path) -> None:
    code = "def score(said, references):\n    return {'em': 1 + 2e-16 * len(said), 'mine': -1e-17}\n"
    (folder / "task.py").write_text(code, "utf-8")
    assert task.load_task(folder).score("warm", ["warm"]) == {"em": 1.0, "mine": 0.0}


@pytest.mark.parametrize(
    "other", ["{'em': 1.0}", "{'em': 1.0, 'mine': 7}", "{'em': 1.0, 'mine': 0, 'more': 0}", "None"]
)
def test_a_scorer_that_scores_some_answers_otherwise_is_told_so(folder: Path, other: str) -> None:
    code = f"def score(said, references):\n    return {other} if said == 'odd' else {{'em': 1.0, 'mine': 1.0}}\n"
    (folder / "task.py").write_text(code, "utf-8")
    sound = task.load_task(folder)
    assert sound.score("even", ["warm"]) == {"em": 1.0, "mine": 1.0}
    with pytest.raises(ValueError, match="for 'odd'; a number from 0 to 1 is due for each of em, mine"):
        sound.score("odd", ["warm"])


def test_the_digest_tells_a_scorer_from_none(folder: Path) -> None:
    before = task.load_task(folder).sha256
    (folder / "task.py").write_text(SCORER, "utf-8")
    assert task.load_task(folder).sha256 != before


def test_the_scorer_of_a_task_replaces_the_common_one(folder: Path) -> None:
    (folder / "task.py").write_text(SCORER, "utf-8")
    assert task.load_task(folder).score("four", ["warm"]) == {"em": 0.04, "mine": 1.0}


def made(**changes: Any) -> TaskTrainingData:
    train = tuple(TaskRow(f"q{place}", f"text {place}", ("warm",)) for place in range(9))
    return TaskTrainingData(TaskCard(**(CARD | changes)), train, train[:1], 0)


@given(TEXTS, TEXTS, st.tuples(TEXTS, TEXTS, TEXTS))
def test_prompt_and_completion_join_to_the_template(asked: str, target: str, around: tuple[str, str, str]) -> None:
    before, between, end = around
    data = made(template=before + "{input}" + between + "{target}" + end)
    joined = data.prompt(asked) + data.completion(TaskRow("one", asked, (target,))) + data.card.end
    assert joined == "Name the feeling.\n\n" + before + asked + between + target + end


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_shots_stand_before_the_question_just_as_they_are_learnt(shots: list[tuple[str, str]]) -> None:
    data = made()
    examples = [TaskRow(str(place), asked, (target,)) for place, (asked, target) in enumerate(shots)]
    shown = "".join(f"Q: {asked}\nA: {target}\n" for asked, target in shots)
    assert data.prompt("red", examples) == f"Name the feeling.\n\n{shown}Q: red\nA:"


def test_a_prompt_never_ends_in_white_space() -> None:
    """Tokenizers join a blank to the word after it: behind a prompt it would be a token never seen in training."""
    assert made(template="Q: {input}\nA: {target}\n").prompt("red").endswith("A:")
    assert made(template="{input}\n{target}\n\n").prompt("red").endswith("red")


def test_every_label_has_the_completion_of_an_example_with_that_answer() -> None:
    data = made(labels=["warm", "cold"])
    assert data.options == [data.completion(TaskRow("one", "red", (label,))) for label in ("warm", "cold")]
    assert not made().options


def test_braces_in_the_data_are_left_alone() -> None:
    example = TaskRow("one", "{target} {input} {}", ("{input}",))
    data = made()
    assert data.prompt(example.input) == "Name the feeling.\n\nQ: {target} {input} {}\nA:"
    assert data.completion(example) == " {input}"


def test_the_lesson_holds_no_test_row(folder: Path) -> None:
    loaded = task.load_task(folder)
    data = loaded.training_data(seed=0)
    seen = {row.id for row in (*data.train, *data.validation)}
    assert not seen & {row.id for row in loaded.splits["test"]}
    assert not [value for value in vars(data).values() if isinstance(value, Task | dict)]


@given(st.integers(0, 99), st.integers(1, 12))
def test_the_subset_depends_on_seed_and_size_alone(seed: int, examples: int) -> None:
    whole = made()
    loaded = Task(whole.card, Path(), "", {"train": whole.train, "validation": whole.validation, "test": ()})
    subset = loaded.training_data(seed, examples).train
    assert subset == loaded.training_data(seed, examples).train
    assert len(set(subset)) == len(subset) == min(examples, 9)
    assert set(subset) <= set(whole.train)


def test_other_seeds_draw_other_subsets() -> None:
    whole = made()
    loaded = Task(whole.card, Path(), "", {"train": whole.train, "validation": whole.validation, "test": ()})
    assert len({loaded.training_data(seed, 4).train for seed in range(10)}) > 5


def scoring(**changes: Any) -> Task:
    return Task(TaskCard(**(CARD | changes)), Path(), "", {})


@pytest.mark.parametrize(
    ("end", "raw", "trimmed"),
    [
        ("\n", " warm\nQ: blue\nA: cold\n", "warm"),
        ("\n", "\n\n warm\nQ:", "warm"),
        ("\n", "warm", "warm"),
        ("\n", "\n", ""),
        ("\n\n", "warm\nand dry\n\nQ:", "warm\nand dry"),
        ("<|end|>", "warm<|end|>junk", "warm"),
        ("", " warm\nall of it ", "warm\nall of it"),
    ],
)
def test_an_answer_is_cut_where_the_template_ends_it(end: str, raw: str, trimmed: str) -> None:
    assert scoring(template="Q: {input}\nA: {target}" + end).trim(raw) == trimmed


@given(TEXTS)
def test_trimming_twice_is_trimming_once(raw: str) -> None:
    once = scoring().trim(raw)
    assert scoring().trim(once) == once


def test_em_looks_at_the_parsed_part_and_f1_at_the_whole() -> None:
    scores = scoring(answer=r"^([^:]+)").score("warm: as fire", ["warm: as tea"])
    assert scores["em"] == 1.0
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["parsed"] == 1.0


def test_the_references_are_parsed_just_as_the_answer_is() -> None:
    assert scoring(answer=r"answer is (\w+)").score("so the answer is warm", ["the answer is warm"])["em"] == 1.0


def test_a_bare_reference_is_compared_as_it_is() -> None:
    assert scoring(answer=r"answer is (\w+)").score("so the answer is warm", ["warm"])["em"] == 1.0


def test_an_answer_that_does_not_parse_is_wrong_and_counted() -> None:
    scores = scoring(answer=r"answer is (\w+)").score("warm", ["warm"])
    assert (scores["em"], scores["f1"], scores["parsed"]) == (0.0, 1.0, 0.0)
    assert scoring(answer=r"answer is (\w+)").parse("warm") is None


def test_an_empty_answer_is_none() -> None:
    assert scoring().parse("") is None
    assert scoring().score("", ["warm"]) == {"em": 0.0, "f1": 0.0, "parsed": 0.0}


def test_a_group_that_took_no_part_or_matched_nothing_is_no_answer() -> None:
    assert scoring(answer=r"^(?:so (\w+)|no)").parse("no") is None
    assert scoring(answer=r"is(\s*)").parse("is  ") is None


def test_format_is_scored_only_where_one_is_set_and_on_the_whole_answer() -> None:
    assert "format" not in scoring().score("warm", ["warm"])
    card = scoring(format=r"\w+ because .+")
    assert card.score("warm because of fire", ["warm"])["format"] == 1.0
    assert card.score("well, warm because of fire", ["warm"])["format"] == 0.0


def test_any_reference_will_do() -> None:
    assert scoring().score("hot", ["warm", "hot"])["em"] == 1.0
    assert scoring().score("cold", ["warm", "hot"])["em"] == 0.0


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_every_score_lies_between_0_and_1(prediction: str, references: list[str]) -> None:
    scores = scoring(answer=r"(\w+)", format=".*").score(prediction, references)
    assert set(scores) == {"em", "f1", "parsed", "format"}
    assert all(0.0 <= score <= 1.0 for score in scores.values())
