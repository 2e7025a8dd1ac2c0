"""Loading and checking of tasks, prompts, and scoring of answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import CARD, MakeTask, examples
from hypothesis import given
from hypothesis import strategies as st

from bench import task
from bench.errors import UserError
from bench.metrics import CORPUS_METRICS
from bench.task import Task, TaskRow, TaskTrainingData
from bench.task_card import TaskCard

SCORER = "def score(prediction, references):\n    return {'em': float(len(prediction) / 100), 'mine': 1.0}\n"
TEXTS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def folder(make_task: MakeTask, tmp_path: Path) -> Path:
    return make_task(tmp_path / "feelings")


def load_error(folder: Path) -> UserError:
    """The error of a task that cannot be loaded."""
    with pytest.raises(UserError) as raised:
        task.load_task(folder)
    return raised.value


def replace_line(file: Path, number: int, line: str) -> None:
    lines = file.read_text("utf-8").split("\n")
    lines[number - 1] = line
    file.write_text("\n".join(lines), "utf-8")


def row_line(**changes: Any) -> str:
    return json.dumps({"id": "new", "input": "red", "target": "warm"} | changes)


@pytest.mark.parametrize("split", task.SPLITS)
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "new", ', "not valid JSON"),
        ("[1]", "one JSON object"),
        ("7", "one JSON object"),
        (row_line(target=""), "'target' must be a non-empty string"),
        (row_line(target="  "), "'target' must be a non-empty string"),
        (row_line(target=[]), "'target' must be a non-empty string"),
        (row_line(target=["warm", ""]), "'target' must be a non-empty string"),
        (row_line(target=None), "'target' must be a non-empty string"),
        (row_line(target=3), "'target' must be a non-empty string"),
        (row_line(input=""), "'input' must be a non-empty string"),
        (row_line(id=7), "'id' must be a non-empty string"),
        (row_line(id=" "), "'id' must be a non-empty string"),
        (row_line(target="warm\nand"), "contains '\\n'"),
        (row_line(target=["warm", "warm\nand"]), "contains '\\n'"),
        (row_line(rationale=3), "'rationale' must be a string"),
        (row_line(group=3), "'group' must be a non-empty string"),
        (row_line(group=" "), "'group' must be a non-empty string"),
    ],
)
def test_load_task_invalid_line_raises_with_file_and_number(folder: Path, split: str, line: str, problem: str) -> None:
    replace_line(folder / f"{split}.jsonl", 3, line)
    error = load_error(folder)
    assert problem in error.message
    assert error.location == f"{folder}/{split}.jsonl:3"


@pytest.mark.parametrize("split", task.SPLITS)
def test_load_task_group_of_some_rows_raises_with_the_first_without(
    make_task: MakeTask, tmp_path: Path, split: str
) -> None:
    rows = [row | {"group": f"passage {number % 2}"} for number, row in enumerate(examples(60, 5))]
    assert task.load_task(make_task(tmp_path / "grouped", test=rows)).splits["test"][1].group == "passage 1"
    del rows[3]["group"]
    error = load_error(make_task(tmp_path / "mixed", **{split: rows}))
    assert "no 'group'" in error.message
    assert error.location == f"{tmp_path}/mixed/{split}.jsonl:4"
    assert error.hint is not None


def test_load_task_one_test_group_raises(make_task: MakeTask, tmp_path: Path) -> None:
    rows = [row | {"group": "passage"} for row in examples(60, 5)]
    error = load_error(make_task(tmp_path / "one", test=rows))
    assert "all test questions are of the group 'passage'" in error.message
    assert error.location == f"{tmp_path}/one/test.jsonl"


@pytest.mark.parametrize("split", task.SPLITS)
def test_load_task_target_outside_labels_raises(make_task: MakeTask, tmp_path: Path, split: str) -> None:
    folder = make_task(tmp_path / "closed", labels=["warm", "cold", "mild"])
    task.load_task(folder)
    replace_line(folder / f"{split}.jsonl", 2, row_line(target="hot"))
    error = load_error(folder)
    assert "'hot' is not in 'labels'" in error.message
    assert error.location == f"{folder}/{split}.jsonl:2"
    assert error.hint == "use one of: warm, cold, mild"


def test_load_task_unknown_row_key_suggests_the_closest(folder: Path) -> None:
    replace_line(folder / "test.jsonl", 1, row_line(targett="warm"))
    error = load_error(folder)
    assert "'targett'" in error.message
    assert error.location == f"{folder}/test.jsonl:1"
    assert "did you mean 'target'" in (error.hint or "")


@pytest.mark.parametrize("split", task.SPLITS)
def test_load_task_duplicate_id_raises_with_both_locations(folder: Path, split: str) -> None:
    first = (folder / "train.jsonl").read_text("utf-8").split("\n")[0]
    replace_line(folder / f"{split}.jsonl", 4, first)
    error = load_error(folder)
    assert "'q0' is used twice" in error.message
    assert error.location == f"{folder}/{split}.jsonl:4"
    assert f"{folder}/train.jsonl:1" in (error.hint or "")


@pytest.mark.parametrize("split", task.SPLITS)
def test_load_task_missing_empty_or_undecodable_split_raises(folder: Path, split: str) -> None:
    file = folder / f"{split}.jsonl"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"red", "grün".encode("latin-1")) + b"\xff\n")
    assert "not UTF-8" in load_error(folder).message
    assert load_error(folder).location == str(file)
    file.write_text("\n\n", "utf-8")
    assert "empty" in load_error(folder).message
    assert load_error(folder).location == str(file)
    file.unlink()
    assert f"'{split}' is missing" in load_error(folder).message
    assert load_error(folder).location == str(file)
    assert load_error(folder).hint


def test_load_task_without_card_raises(folder: Path) -> None:
    (folder / "task.yaml").unlink()
    error = load_error(folder)
    assert "task.yaml" in error.message
    assert error.location == str(folder / "task.yaml")
    assert error.hint


@pytest.mark.parametrize(
    ("changes", "problem"),
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
def test_load_task_invalid_card_value_raises_with_key(
    make_task: MakeTask, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = make_task(tmp_path / "wrong", **changes)
    error = load_error(folder)
    assert problem in error.message
    assert error.location == str(folder / "task.yaml")


@pytest.mark.parametrize(
    ("target", "rule", "is_loaded"),
    [("A", "squad", False), (["alpha", "The."], "squad", False), ("...", "ko", False), ("A", "text", True)],
)
def test_load_task_target_emptied_by_the_normalizer_raises(
    make_task: MakeTask, tmp_path: Path, target: Any, rule: str, is_loaded: bool
) -> None:
    rows = [{"id": "new", "input": "red", "target": target}]
    folder = make_task(tmp_path / "letters", normalize=rule, test=rows)
    if is_loaded:
        assert task.load_task(folder).score("The.", ["A"])["em"] == 0
        return
    error = load_error(folder)
    assert f"'normalize: {rule}' leaves nothing" in error.message
    assert error.location == f"{folder}/test.jsonl:1"
    assert "normalize: text" in (error.hint or "")


def test_load_task_emptied_target_of_hub_data_is_accepted(make_task: MakeTask, tmp_path: Path) -> None:
    rows = [{"id": "new", "input": "red", "target": ["warm", "the"]}]
    folder = make_task(tmp_path / "official", test=rows)
    assert task.load_task(folder, folder).splits["test"][0].references == ("warm", "the")


def test_load_task_labels_merged_by_the_normalizer_raise(make_task: MakeTask, tmp_path: Path) -> None:
    labels = ["C", "C++", "C#"]
    rows = {
        split: [{"id": f"{split} {label}", "input": f"{split} {label}", "target": label} for label in labels]
        for split in task.SPLITS
    }
    error = load_error(make_task(tmp_path / "squad", labels=labels, **rows))
    assert "the labels 'C' and 'C++' are the same answer" in error.message
    assert "normalize: text" in (error.hint or "")
    loaded = task.load_task(make_task(tmp_path / "text", labels=labels, normalize="text", **rows))
    assert loaded.score("C++", ["C"]) == {"em": 0, "f1": 0, "parsed": 1}
    assert loaded.score("c++.", ["C++"]) == {"em": 1, "f1": 1, "parsed": 1}


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("labels: [yes, no]", "key 'labels.0': YAML reads yes as a truth value", 'put it in quotes: "yes"'),
        ("labels: [a, off]", "key 'labels.1': YAML reads off as a truth value", '"off"'),
        ("labels: [0, 1]", "key 'labels.0': YAML reads 0 as a value of type int", '"0"'),
        ("labels: [1:30, b]", "YAML reads 1:30 as a value of type int", '"1:30"'),
        ("labels: [2024-01-05, b]", "YAML reads 2024-01-05 as a value of type date", '"2024-01-05"'),
        ("labels: warm, cold", "key 'labels': a list is needed", "labels: [first, second]"),
        ("language: no", "key 'language': YAML reads no as a truth value", '"no"'),
        ("name: My Task", "'My Task' is not a valid task name", "my-task"),
    ],
)
def test_load_task_card_value_of_another_type_names_the_cause(folder: Path, line: str, problem: str, hint: str) -> None:
    lines = (folder / "task.yaml").read_text("utf-8").splitlines()
    kept = [text for text in lines if text.partition(":")[0] != line.partition(":")[0]]
    (folder / "task.yaml").write_text("\n".join([*kept, line]), "utf-8")
    error = load_error(folder)
    assert problem in error.message
    assert hint in (error.hint or "")


def test_load_task_unknown_card_key_suggests_the_closest(make_task: MakeTask, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "wrong", instrution="x")
    error = load_error(folder)
    assert "'instrution'" in error.message
    assert error.location == str(folder / "task.yaml")
    assert "did you mean 'instruction'" in (error.hint or "")


@pytest.mark.parametrize("content", [b"a: [", b"- a", b"", b"name: \xff"])
def test_load_task_card_that_is_no_utf8_mapping_raises(folder: Path, content: bytes) -> None:
    (folder / "task.yaml").write_bytes(content)
    assert load_error(folder).location == str(folder / "task.yaml")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("\n1 / 0", ":2"),
        ("x = 1", ""),
        ("def score(:", ":1"),
        ("import sys\nsys.exit(0)", ":2"),
        ("\n\nraise KeyboardInterrupt", ":3"),
        ("raise GeneratorExit('x')", ":1"),
        ("raise StopIteration", ":1"),
    ],
)
def test_load_task_scorer_that_cannot_be_imported_raises(folder: Path, code: str, line: str) -> None:
    (folder / "task.py").write_text(code, "utf-8")
    error = load_error(folder)
    assert error.location == f"{folder / 'task.py'}{line}"
    assert "score(prediction" in (error.hint or "")


def test_load_task_scorer_by_relative_path_names_the_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "task.py").write_text("import sys\ndef score(prediction, references):\n    sys.exit(0)\n", "utf-8")
    monkeypatch.chdir(folder.parent)
    error = load_error(Path(folder.name))
    assert error.location == f"{folder.name}/task.py:3"
    assert "SystemExit: 0" in error.message


def test_digest_task_runs_no_code_of_the_task(folder: Path) -> None:
    (folder / "task.py").write_text(SCORER, "utf-8")
    assert task.digest_task(folder) == task.load_task(folder).sha256
    (folder / "task.py").write_text("import sys\nsys.exit(0)\n", "utf-8")
    assert task.digest_task(folder)
    (folder / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"test\.jsonl cannot be read"):
        task.digest_task(folder)


def test_load_task_keeps_all_rows_in_file_order(folder: Path) -> None:
    loaded = task.load_task(folder)
    assert {split: [row.id for row in loaded.splits[split]] for split in task.SPLITS} == {
        "train": [row["id"] for row in examples(0, 9)],
        "validation": [row["id"] for row in examples(20, 4)],
        "test": [row["id"] for row in examples(40, 5)],
    }


def test_load_task_unicode_line_separator_does_not_end_a_line(make_task: MakeTask, tmp_path: Path) -> None:
    text = "a\u2028b\x0bc\x85d"
    folder = make_task(tmp_path / "odd", train=[{"id": "one", "input": text, "target": "warm"}])
    assert task.load_task(folder).splits["train"][0].input == text


def test_load_task_byte_order_mark_is_ignored(folder: Path) -> None:
    before = task.load_task(folder)
    for name in ("task.yaml", "train.jsonl"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    after = task.load_task(folder)
    assert (after.card, after.splits) == (before.card, before.splits)


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ("prediction.nope()", "AttributeError: 'str' object has no attribute 'nope'"),
        ("0.5", "score returned 0.5"),
        ("{}", "score returned {}"),
        ("{'em': 1.7}", "score returned {'em': 1.7}"),
        ("{'em': 'good'}", "score returned {'em': 'good'}"),
        ("{'cer': 1.0}", "there is no score 'em'"),
    ],
)
def test_load_task_scorer_with_invalid_scores_raises(folder: Path, result: str, problem: str) -> None:
    (folder / "task.py").write_text(f"def score(prediction, references):\n    return {result}\n", "utf-8")
    error = load_error(folder)
    assert problem in error.message
    assert error.location == str(
        folder / ("task.yaml" if "cer" in result else "task.py:2" if "nope" in result else "task.py")
    )


@pytest.mark.parametrize("file", ["task.yaml", "train.jsonl", "validation.jsonl", "test.jsonl", "task.py"])
def test_sha256_changes_with_each_file_of_the_task_only(folder: Path, file: str) -> None:
    (folder / "task.py").write_text(SCORER, "utf-8")
    before = task.load_task(folder).sha256
    (folder / "notes.txt").write_text("nothing", "utf-8")
    assert task.load_task(folder).sha256 == before
    with (folder / file).open("ab") as content:
        content.write(b"\n")
    assert task.load_task(folder).sha256 != before


@pytest.mark.parametrize(
    "other_result", ["{'em': 1.0}", "{'em': 1.0, 'mine': 7}", "{'em': 1.0, 'mine': 0, 'more': 0}", "None"]
)
def test_load_task_scorer_with_other_names_for_one_row_raises(folder: Path, other_result: str) -> None:
    last = task.load_task(folder).splits["test"][-1].target
    usual_result = "{'em': 1.0, 'mine': 1.0}"
    code = f"def score(answer, references):\n    return {other_result} if answer == {last!r} else {usual_result}\n"
    (folder / "task.py").write_text(code, "utf-8")
    with pytest.raises(UserError, match="for the target"):
        task.load_task(folder)


def test_score_rounding_errors_are_clipped(folder: Path) -> None:
    code = "def score(prediction, references):\n    return {'em': 1 + 2e-16 * len(prediction), 'mine': -1e-17}\n"
    (folder / "task.py").write_text(code, "utf-8")
    assert task.load_task(folder).score("warm", ["warm"]) == {"em": 1.0, "mine": 0.0}


@pytest.mark.parametrize(
    "other_result", ["{'em': 1.0}", "{'em': 1.0, 'mine': 7}", "{'em': 1.0, 'mine': 0, 'more': 0}", "None"]
)
def test_score_scorer_with_other_names_for_one_answer_raises(folder: Path, other_result: str) -> None:
    usual_result = "{'em': 1.0, 'mine': 1.0}"
    code = f"def score(answer, references):\n    return {other_result} if answer == 'odd' else {usual_result}\n"
    (folder / "task.py").write_text(code, "utf-8")
    loaded = task.load_task(folder)
    assert loaded.score("even", ["warm"]) == {"em": 1.0, "mine": 1.0}
    with pytest.raises(ValueError, match="for 'odd'; it must return a number from 0 to 1 for each of em, mine"):
        loaded.score("odd", ["warm"])


def test_sha256_changes_when_a_scorer_is_added(folder: Path) -> None:
    before = task.load_task(folder).sha256
    (folder / "task.py").write_text(SCORER, "utf-8")
    assert task.load_task(folder).sha256 != before


def test_score_uses_the_scorer_of_the_task(folder: Path) -> None:
    (folder / "task.py").write_text(SCORER, "utf-8")
    assert task.load_task(folder).score("four", ["warm"]) == {"em": 0.04, "mine": 1.0}


def training_data(**changes: Any) -> TaskTrainingData:
    train = tuple(TaskRow(f"q{index}", f"text {index}", ("warm",)) for index in range(9))
    return TaskTrainingData(TaskCard(**(CARD | changes)), train, train[:1], 0)


@given(TEXTS, TEXTS, st.tuples(TEXTS, TEXTS, TEXTS))
def test_prompt_and_completion_join_to_the_template(question: str, target: str, parts: tuple[str, str, str]) -> None:
    before, between, end = parts
    data = training_data(template=before + "{input}" + between + "{target}" + end)
    joined = data.prompt(question) + data.completion(TaskRow("one", question, (target,))) + data.card.end
    assert joined == "Name the feeling.\n\n" + before + question + between + target + end


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_prompt_shots_look_like_training_examples(shots: list[tuple[str, str]]) -> None:
    data = training_data()
    examples = [TaskRow(str(index), question, (target,)) for index, (question, target) in enumerate(shots)]
    solved = "".join(f"Q: {question}\nA: {target}\n" for question, target in shots)
    assert data.prompt("red", examples) == f"Name the feeling.\n\n{solved}Q: red\nA:"


def test_prompt_does_not_end_in_white_space() -> None:
    """Tokenizers join a space to the word after it; alone it would be a token that training never shows."""
    assert training_data(template="Q: {input}\nA: {target}\n").prompt("red").endswith("A:")
    assert training_data(template="{input}\n{target}\n\n").prompt("red").endswith("red")


def test_options_equal_the_completions_of_examples() -> None:
    data = training_data(labels=["warm", "cold"])
    assert data.options == [data.completion(TaskRow("one", "red", (label,))) for label in ("warm", "cold")]
    assert not training_data().options


def test_prompt_braces_in_the_data_are_kept() -> None:
    example = TaskRow("one", "{target} {input} {}", ("{input}",))
    data = training_data()
    assert data.prompt(example.input) == "Name the feeling.\n\nQ: {target} {input} {}\nA:"
    assert data.completion(example) == " {input}"


def test_training_data_contains_no_test_row(folder: Path) -> None:
    loaded = task.load_task(folder)
    data = loaded.training_data(seed=0)
    visible = {row.id for row in (*data.train, *data.validation)}
    assert not visible & {row.id for row in loaded.splits["test"]}
    assert not [value for value in vars(data).values() if isinstance(value, Task | dict)]


@given(st.integers(0, 99), st.integers(1, 12))
def test_training_data_subset_depends_on_seed_and_size_only(seed: int, examples: int) -> None:
    data = training_data()
    loaded = Task(data.card, Path(), "", {"train": data.train, "validation": data.validation, "test": ()})
    subset = loaded.training_data(seed, examples).train
    assert subset == loaded.training_data(seed, examples).train
    assert len(set(subset)) == len(subset) == min(examples, 9)
    assert set(subset) <= set(data.train)


def test_training_data_other_seeds_give_other_subsets() -> None:
    data = training_data()
    loaded = Task(data.card, Path(), "", {"train": data.train, "validation": data.validation, "test": ()})
    assert len({loaded.training_data(seed, 4).train for seed in range(10)}) > 5


def task_with(**changes: Any) -> Task:
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
def test_trim_cuts_where_the_template_ends_the_answer(end: str, raw: str, trimmed: str) -> None:
    assert task_with(template="Q: {input}\nA: {target}" + end).trim(raw) == trimmed


@given(TEXTS)
def test_trim_is_idempotent(raw: str) -> None:
    trimmed = task_with().trim(raw)
    assert task_with().trim(trimmed) == trimmed


def test_score_em_uses_the_parsed_part_f1_the_whole_answer() -> None:
    scores = task_with(answer=r"^([^:]+)").score("warm: as fire", ["warm: as tea"])
    assert scores["em"] == 1.0
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["parsed"] == 1.0


def test_score_references_are_parsed_like_the_answer() -> None:
    assert task_with(answer=r"answer is (\w+)").score("so the answer is warm", ["the answer is warm"])["em"] == 1.0


def test_score_reference_without_match_is_compared_as_it_is() -> None:
    assert task_with(answer=r"answer is (\w+)").score("so the answer is warm", ["warm"])["em"] == 1.0


def test_score_answer_without_match_has_em_and_parsed_0() -> None:
    scores = task_with(answer=r"answer is (\w+)").score("warm", ["warm"])
    assert (scores["em"], scores["f1"], scores["parsed"]) == (0.0, 1.0, 0.0)
    assert task_with(answer=r"answer is (\w+)").parse("warm") is None


def test_score_empty_answer_is_not_parsed() -> None:
    assert task_with().parse("") is None
    assert task_with().score("", ["warm"]) == {"em": 0.0, "f1": 0.0, "parsed": 0.0}


def test_parse_empty_or_unused_group_is_none() -> None:
    assert task_with(answer=r"^(?:so (\w+)|no)").parse("no") is None
    assert task_with(answer=r"is(\s*)").parse("is  ") is None


def test_score_format_matches_the_whole_answer_if_defined() -> None:
    assert "format" not in task_with().score("warm", ["warm"])
    card = task_with(format=r"\w+ because .+")
    assert card.score("warm because of fire", ["warm"])["format"] == 1.0
    assert card.score("well, warm because of fire", ["warm"])["format"] == 0.0


def test_score_any_reference_counts() -> None:
    assert task_with().score("hot", ["warm", "hot"])["em"] == 1.0
    assert task_with().score("cold", ["warm", "hot"])["em"] == 0.0


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_score_values_lie_between_0_and_1(prediction: str, references: list[str]) -> None:
    scores = task_with(answer=r"(\w+)", format=".*").score(prediction, references)
    assert set(scores) == {"em", "f1", "parsed", "format"}
    assert all(0.0 <= score <= 1.0 for score in scores.values())


@pytest.mark.parametrize("name", ["task.yaml", "train.jsonl", "task.py"])
def test_load_task_pipe_in_place_of_a_file_raises(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(UserError) as error:
        task.load_task(folder)
    assert error.value.location == str(folder / name)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_load_task_metric_of_all_answers_needs_labels(make_task: MakeTask, tmp_path: Path, metric: str) -> None:
    labeled = make_task(tmp_path / "labeled", labels=["warm", "cold", "mild"], metric=metric)
    assert task.load_task(labeled).card.metric == metric
    error = load_error(make_task(tmp_path / "open", metric=metric))
    assert f"'{metric}' needs a task with labels" in error.message
    assert error.hint == "add labels: [first, second], or write metric: em"


def test_load_task_unknown_metric_of_labels_hints_at_the_closest(make_task: MakeTask, tmp_path: Path) -> None:
    error = load_error(make_task(tmp_path / "task", labels=["warm", "cold", "mild"], metric="macro_f1"))
    assert "there is no score 'macro_f1'" in error.message
    assert error.hint is not None and "macro-f1" in error.hint


def test_load_task_score_with_the_name_of_a_metric_of_all_answers_raises(folder: Path) -> None:
    code = "def score(answer, references):\n    return {'em': 1.0, 'mcc': 0.5}\n"
    (folder / "task.py").write_text(code, "utf-8")
    assert "task.py returned 'mcc'" in load_error(folder).message


def test_training_data_score_with_a_metric_of_all_answers_is_em(make_task: MakeTask, tmp_path: Path) -> None:
    labeled = make_task(tmp_path / "task", labels=["warm", "cold", "mild"], metric="macro-f1")
    data = task.load_task(labeled).training_data(0)
    row = data.train[0]
    assert (data.score(f" {row.target}", row), data.score(" none", row)) == (1.0, 0.0)
