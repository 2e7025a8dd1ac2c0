"""A task made of rows as people have them: every shape, no leaks, and a clear no to what cannot be a task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
from conftest import Bench

from bench import task
from bench.data import readers
from bench.data.task_builder import TaskDraft, build_task
from bench.data.text import match_key, plain
from bench.errors import UserError

QUESTIONS = [(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}") for n in range(200)]


def rows(file: Path, shape: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shape), "utf-8")
    return file


def made(pairs: list[tuple[str, str]], tmp_path: Path, **how: Any) -> TaskDraft:
    file = rows(tmp_path / "data.jsonl", [{"question": asked, "answer": wanted} for asked, wanted in pairs])
    return build_task(readers.read_source(str(file)), "mine", len, **how)


SHAPES: dict[str, list[dict[str, Any]]] = {
    "question → answer": [{"question": "Q", "answer": "A"}],
    "prompt → completion": [{"prompt": "Q", "completion": "A"}],
    "input → target": [{"input": "Q", "target": "A"}],
    "text → label": [{"text": "Q", "label": "A"}],
    "messages": [
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A"},
            ]
        }
    ],
    "contents (Gemini)": [
        {
            "systemInstruction": {"parts": [{"text": "S"}]},
            "contents": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}],
        }
    ],
    "instruction, input → output": [{"instruction": "S", "input": "Q", "output": "A"}],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_people_have_are_told_apart(shape: str, tmp_path: Path) -> None:
    found = readers.read_source(str(rows(tmp_path / "data.jsonl", SHAPES[shape])))
    assert found.shape == shape
    assert [(pair.input, pair.targets) for pair in found.rows] == [("Q", ("A",))]
    assert found.instruction == ("S" if "S" in json.dumps(SHAPES[shape]) else None)


def test_instructions_that_differ_are_part_of_the_question(tmp_path: Path) -> None:
    data = [{"instruction": f"S{n}", "input": "Q", "output": "A"} for n in range(2)]
    found = readers.read_source(str(rows(tmp_path / "data.jsonl", data)))
    assert [pair.input for pair in found.rows] == ["S0\nQ", "S1\nQ"]
    alone = [{"instruction": f"S{n}", "input": "", "output": "A"} for n in range(2)]
    assert [pair.input for pair in readers.read_source(str(rows(tmp_path / "data.jsonl", alone))).rows] == ["S0", "S1"]


def test_all_kinds_of_files_hold_the_same_rows(tmp_path: Path) -> None:
    table = pandas.DataFrame(QUESTIONS, columns=["asked", "wanted"])
    table.to_csv(tmp_path / "d.csv", index=False)
    table.to_csv(tmp_path / "d.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "d.parquet")
    table.to_json(tmp_path / "d.json", orient="records", force_ascii=False)
    table.to_json(tmp_path / "d.jsonl", orient="records", lines=True, force_ascii=False)
    for suffix in ("csv", "tsv", "parquet", "json", "jsonl"):
        found = readers.read_source(str(tmp_path / f"d.{suffix}"), "asked", "wanted")
        assert [(pair.input, *pair.targets) for pair in found.rows] == QUESTIONS


def test_korean_cells_with_commas_quotes_and_line_breaks_survive(tmp_path: Path) -> None:
    asked = '사서가 "책, 두 권"\n모두 어디?'
    with (tmp_path / "d.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["질문", "답"], [asked, "여기, 저기"]])
    (pair,) = readers.read_source(str(tmp_path / "d.csv"), "질문", "답").rows
    assert (pair.input, pair.targets) == (asked, ("여기, 저기",))


def test_splits_share_no_question_however_it_is_written(tmp_path: Path) -> None:
    twice = [*QUESTIONS, *((f"  {asked.upper()} ", wanted) for asked, wanted in QUESTIONS[:50])]
    new = made(twice, tmp_path)
    keys = {split: {match_key(row["input"]) for row in some} for split, some in new.splits.items()}
    assert sum(map(len, keys.values())) == len(QUESTIONS) == sum(map(len, new.splits.values()))
    assert "50 repeated questions joined, with all their answers accepted" in new.notes
    assert {split: len(some) for split, some in new.splits.items()} == {"train": 130, "validation": 20, "test": 50}


def test_the_seed_draws_the_test(tmp_path: Path) -> None:
    first, again, other = (made(QUESTIONS, tmp_path, seed=seed).splits for seed in (0, 0, 1))
    assert first == again != other


def test_the_card_is_guessed_from_the_data(tmp_path: Path) -> None:
    card = made([(f"이 책은 {n}번인가요?", "예" if n % 2 else "아니요") for n in range(100)], tmp_path).card
    assert (card["language"], card["normalize"], card["labels"]) == ("ko", "ko", ["아니요", "예"])
    card = made(QUESTIONS, tmp_path).card
    assert (card["language"], card["normalize"], "labels" in card) == ("en", "squad", False)
    assert card["new_tokens"] >= max(len(wanted) for _, wanted in QUESTIONS)
    assert (
        made([(asked, f"{wanted}\n\nso") for asked, wanted in QUESTIONS], tmp_path).card["template"].endswith("\n###\n")
    )


def test_a_draft_is_a_task(tmp_path: Path) -> None:
    made(QUESTIONS, tmp_path).write(tmp_path / "mine")
    assert task.load_task(tmp_path / "mine").card.name == "mine"
    with pytest.raises(UserError, match="is there already"):
        made(QUESTIONS, tmp_path).write(tmp_path / "mine")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (" a\tb ", "a b"),
        ("a\r\nb  \nc", "a\nb\nc"),
        ("\ufeffa\u200bb\xa0c", "ab c"),
        ("e\u0301", "é"),
        ("  x\n  y", "x\n  y"),
    ],
)
def test_hidden_characters_are_cleaned(text: str, clean: str) -> None:
    assert plain(text) == clean


def refused(tmp_path: Path, name: str, content: str | bytes, complaint: str, **columns: str) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=complaint) as refusal:
        build_task(readers.read_source(str(file), **columns), "mine", len)
    assert len(str(refusal.value).splitlines()) <= 6


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", "", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.txt", "x", "not a .jsonl"),
        ("a.jsonl", "{", "not valid JSON"),
        ("a.jsonl", "[1]", "a JSON object is wanted"),
        ("a.json", '{"a": 1}', "a JSON list of objects is wanted"),
        ("a.json", "[1]", "must be an object"),
        ("a.csv", "질문,답\n가,나\n".encode("cp949"), "not UTF-8"),
        ("a.csv", "\ufeff질문,답\n".encode("utf-16"), "not UTF-8(.|\\n)*iconv -f utf-16"),
        ("a.csv", "질문,답\n가,나\n".encode("cp949"), "a.csv:1, byte 0(.|\\n)*iconv -f cp949"),
        (
            "a.csv",
            "질문,답\n".encode() + "가,나\n".encode("cp949"),
            "a.csv:2, byte 11(.|\\n)*some of its lines",
        ),
        ("a.csv", b"question,answer\na,\xff\xfe\xfa\n", "save it as UTF-8"),
        ("a.jsonl", '{"question": "a", "question": "b", "answer": "c"}', "the key 'question' stands twice"),
        ("a.jsonl", '{"question": "a", "answer": ["b", NaN]}', "the target is nan, no text"),
        ("a.csv", "question,answer\na,b,c\n", "3 cells where the head has 2"),
        ("a.csv", 'question,answer\n"a,b\n', "no table"),
        ("a.csv", "question,question\na,b\n", "two columns have one name"),
        ("a.csv", "foo,bar\na,b\n", "which column is asked"),
        ("a.csv", "question,answer\na,\n", "the target is empty"),
        ("a.jsonl", '{"question": "a", "answer": null}', "the target is empty"),
        ("a.jsonl", '{"question": "a", "answer": NaN}', "the target is nan, no text"),
        ("a.jsonl", '{"question": 3, "answer": "b"}', "the input is 3, no text"),
        ("a.jsonl", '{"messages": []}', "the input is empty"),
        ("a.parquet", "no parquet", "no Parquet"),
        ("a.csv", "question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(5)), "5 different questions are too few"),
        ("a.csv", "question,answer\n" + "".join(f"q{n},yes\n" for n in range(50)), "every answer is 'yes'"),
    ],
)
def test_what_cannot_be_a_task_is_refused(tmp_path: Path, name: str, content: str | bytes, complaint: str) -> None:
    refused(tmp_path, name, content, complaint)


def test_cells_and_heads_of_parquet_are_checked_as_those_of_tables(tmp_path: Path) -> None:
    hole = pandas.DataFrame([("a", "b"), ("c", float("nan"))], columns=["question", "answer"])
    hole.to_parquet(tmp_path / "hole.parquet")
    with pytest.raises(UserError, match="the target is empty") as refused:
        readers.read_source(str(tmp_path / "hole.parquet"))
    assert refused.value.where == f"{tmp_path / 'hole.parquet'}, row 2"
    numbers = pandas.DataFrame([("a", 1.5), ("c", float("nan"))], columns=["question", "answer"])
    numbers.to_parquet(tmp_path / "numbers.parquet")
    with pytest.raises(UserError, match=r"the target is 1\.5, no text"):
        readers.read_source(str(tmp_path / "numbers.parquet"))
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["question", "question"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="two columns have one name: 'question'"):
        readers.read_source(str(tmp_path / "twice.parquet"))


def test_an_answer_longer_than_the_context_is_refused_before_anything_is_written(
    run_bench: Bench, tmp_path: Path
) -> None:
    long = " ".join(f"word{n}" for n in range(600))
    rows(tmp_path / "data.jsonl", [{"question": f"What is {n}?", "answer": f"{n} {long}"} for n in range(40)])
    done = run_bench("new", "task", "mine", "--from", "data.jsonl")
    assert (done.returncode, done.stdout, (tmp_path / "mine").exists()) == (2, "", False)
    assert "the model's whole context is 512" in done.stderr and "mend:" in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 200


def test_a_rare_label_is_shown_before_it_is_asked_for(tmp_path: Path) -> None:
    pairs = [(f"Is {n} even?", "never" if n < 5 else "no" if n % 2 else "yes") for n in range(200)]
    for seed in range(20):
        splits = made(pairs, tmp_path, seed=seed).splits
        shown = {split: {row["target"] for row in some} for split, some in splits.items()}
        assert shown["train"] == shown["test"] == {"never", "no", "yes"}


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    refused(
        tmp_path, "a.csv", "asked,wanted\na,b\n", "--input aksed: .* has no such column", input="aksed", target="wanted"
    )
    with pytest.raises(UserError, match="no such file"):
        readers.read_source(str(tmp_path / "nowhere.csv"))


def test_from_a_table_to_a_report_in_three_commands(run_bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("w", encoding="utf-8", newline="") as file:
        lines = [[f'"{n}"번 책은, 어느\n서가에 있나요?', f"{n % 7}번 서가"] for n in range(1000)]
        csv.writer(file).writerows([["질문", "답"], *lines])
    new = run_bench("new", "task", "mytask", "--from", "data.csv", "--input", "질문", "--target", "답")
    assert new.returncode == 0, new.stdout + new.stderr
    ran = run_bench("run", "--methods", "majority,nearest", "--task", "./mytask")
    assert ran.returncode == 0, ran.stderr
    assert run_bench("report").returncode == 0
    assert "mytask" in (tmp_path / "reports" / "latest" / "index.html").read_text("utf-8")
    again = run_bench("new", "task", "mytask", "--from", "data.csv", "--input", "질문", "--target", "답")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    wrong = run_bench("new", "task", "other", "--from", "data.csv")
    assert (wrong.returncode, (tmp_path / "other").exists()) == (2, False)
