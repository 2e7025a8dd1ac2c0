"""Tasks made from rows: every format of rows, splits without leaks, and clear errors for unusable data."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
from conftest import Bench
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from bench import hub, task
from bench.data import readers
from bench.data.task_builder import TaskDraft, build_task, check_new_folder
from bench.data.text import clean_text, find_white_space_fault, match_key
from bench.errors import UserError

QUESTIONS = [(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}") for n in range(200)]


def write_rows(file: Path, shape: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shape), "utf-8")
    return file


def build(pairs: list[tuple[str, str]], tmp_path: Path, **options: Any) -> TaskDraft:
    file = write_rows(tmp_path / "data.jsonl", [{"question": asked, "answer": wanted} for asked, wanted in pairs])
    return build_task(readers.read_source(str(file)), "mine", len, **options)


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
    "conversations (ShareGPT)": [
        {"system": "S", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}
    ],
    "prompt, chosen, rejected": [{"prompt": "Q", "chosen": "A", "rejected": "B"}],
    "chosen, rejected": [
        {
            key: [{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}]
            for key, text in (("chosen", "A"), ("rejected", "B"))
        }
    ],
}


PARTS = [{"type": "text", "text": "Q"}, {"type": "text", "text": "?"}]
QUESTION = {"role": "user", "content": "Q?"}
ANSWER = {"role": "assistant", "content": "A"}
# Rows that are read as the input "Q?" with the answer "A".
READ: dict[str, dict[str, Any]] = {
    "parts": {
        "messages": [QUESTION | {"content": PARTS}, ANSWER | {"content": [{"type": "output_text", "text": "A"}]}]
    },
    "JSON text": {"messages": json.dumps([QUESTION, ANSWER])},
    "Python text": {"messages": str([QUESTION, ANSWER])},
    "messages of TRL": {"prompt": [QUESTION], "completion": [ANSWER]},
    "preference of TRL": {"prompt": [QUESTION], "chosen": [ANSWER], "rejected": [ANSWER | {"content": "B"}]},
    "ShareGPT with role names": {"conversations": [QUESTION, ANSWER]},
    "Gemini parts as text": {"contents": [{"role": "user", "parts": "Q?"}, {"role": "model", "parts": ["A"]}]},
    "empty system message": {"messages": [{"role": "system", "content": ""}, QUESTION, ANSWER]},
}


@pytest.mark.parametrize("name", READ)
def test_read_source_conversation_variant_is_read(name: str, tmp_path: Path) -> None:
    source = readers.read_source(str(write_rows(tmp_path / "data.jsonl", [READ[name]])))
    assert [(row.input, row.targets) for row in source.rows] == [("Q?", ("A",))]
    assert source.instruction is None


def test_read_source_conversation_in_a_csv_cell_is_read(tmp_path: Path) -> None:
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "messages"], [0, json.dumps([QUESTION, ANSWER])]])
    (row,) = readers.read_source(str(tmp_path / "d.csv")).rows
    assert (row.input, row.targets) == ("Q?", ("A",))


def test_read_source_all_system_messages_become_the_instruction(tmp_path: Path) -> None:
    messages = [{"role": role, "content": text} for role, text in (("system", "S"), ("developer", "T"))]
    data = [{"messages": [*messages, QUESTION, ANSWER]}]
    assert readers.read_source(str(write_rows(tmp_path / "data.jsonl", data))).instruction == "S\nT"


def test_read_source_numbers_and_truth_values_become_text(tmp_path: Path) -> None:
    data = [{"text": f"Q{n}", "label": label} for n, label in enumerate([0, -5, 1.5, True, False, "a"])]
    source = readers.read_source(str(write_rows(tmp_path / "data.jsonl", data)))
    assert [row.targets[0] for row in source.rows] == ["0", "-5", "1.5", "true", "false", "a"]
    assert source.num_converted == 5
    rows = [{"text": f"Q{n}", "label": n % 2} for n in range(50)]
    draft = build_task(readers.read_source(str(write_rows(tmp_path / "data.jsonl", rows))), "mine", len)
    assert draft.card["labels"] == ["0", "1"]
    assert "50 numbers or true/false values read as text" in draft.notes


def test_read_source_hub_classes_become_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["Q0", "Q1"], "label": [0, 1]}, features=features)
    monkeypatch.setattr(hub, "fetch_dataset", lambda *arguments: [rows])
    assert [row.targets for row in readers.read_source("hf:org/name").rows] == [("bad",), ("good",)]


def test_read_source_dot_leads_into_nested_values(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "data.jsonl", [{"q": {"text": "Q"}, "a": {"b": ["A", "B"]}}])
    (row,) = readers.read_source(str(file), "q.text", "a.b").rows
    assert (row.input, row.targets) == ("Q", ("A", "B"))


def test_deduplicate_drops_a_rejected_answer_that_another_row_accepts() -> None:
    rows = [
        readers.SourceRow("rows.jsonl:1", "Q", ("A",), rejected="B"),
        readers.SourceRow("rows.jsonl:1", "Q", ("B",), rejected="A"),
        readers.SourceRow("rows.jsonl:1", "R", ("A",), rejected="B"),
    ]
    assert [row.rejected for row in readers.deduplicate(rows)[0]] == [None, "B"]


def test_build_task_keeps_the_rejected_answer(tmp_path: Path) -> None:
    data = [{"prompt": f"Q{n}", "chosen": f"A{n}", "rejected": f"B\u200b{n}"} for n in range(50)]
    draft = build_task(readers.read_source(str(write_rows(tmp_path / "data.jsonl", data))), "mine", len)
    assert all(row["rejected"] == f"B{row['input'][1:]}" for row in draft.splits["train"])


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl"])
def test_read_source_unicode_line_separator_ends_no_row(name: str, separator: str, tmp_path: Path) -> None:
    asked, answer = f"a{separator}b", f"c{separator}"
    delimiter = "\t" if name.endswith("tsv") else ","
    content = f"question{delimiter}answer\r\n{asked}{delimiter}{answer}\r\n"
    if name.endswith("jsonl"):
        content = json.dumps({"question": asked, "answer": answer}, ensure_ascii=False) + "\r\n"
    (tmp_path / name).write_bytes(content.encode())
    (row,) = readers.read_source(str(tmp_path / name)).rows
    assert (row.input, row.targets) == (asked, (answer,))


@pytest.mark.parametrize(
    "content",
    [
        'question;answer\n"a;b";c, d\n',
        'sep=;\r\nquestion;answer\r\n"a;b";c, d\r\n',
        "question\tanswer\na;b\tc, d\n",
        "question|answer\na;b|c, d\n",
        'question,answer,,\na;b,"c, d",,\n,,,\n',
        '\ufeff question ,answer\ra;b,"c, d",\r',
        '\n,question,answer\n0,a;b,"c, d"\n',
    ],
)
def test_read_source_table_of_a_spreadsheet_is_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(content.encode())
    (row,) = readers.read_source(str(tmp_path / "d.csv")).rows
    assert (row.input, row.targets) == ("a;b", ("c, d",))


@pytest.mark.parametrize("shape", SHAPES)
def test_read_source_recognizes_the_format(shape: str, tmp_path: Path) -> None:
    source = readers.read_source(str(write_rows(tmp_path / "data.jsonl", SHAPES[shape])))
    assert source.shape == shape
    assert [(pair.input, pair.targets) for pair in source.rows] == [("Q", ("A",))]
    assert source.instruction == ("S" if "S" in json.dumps(SHAPES[shape]) else None)


def test_read_source_differing_instructions_join_the_input(tmp_path: Path) -> None:
    data = [{"instruction": f"S{n}", "input": "Q", "output": "A"} for n in range(2)]
    source = readers.read_source(str(write_rows(tmp_path / "data.jsonl", data)))
    assert [pair.input for pair in source.rows] == ["S0\nQ", "S1\nQ"]
    alone = [{"instruction": f"S{n}", "input": "", "output": "A"} for n in range(2)]
    assert [pair.input for pair in readers.read_source(str(write_rows(tmp_path / "data.jsonl", alone))).rows] == [
        "S0",
        "S1",
    ]


def test_read_source_file_types_give_the_same_rows(tmp_path: Path) -> None:
    table = pandas.DataFrame(QUESTIONS, columns=["asked", "wanted"])
    table.to_csv(tmp_path / "d.csv", index=False)
    table.to_csv(tmp_path / "d.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "d.parquet")
    table.to_json(tmp_path / "d.json", orient="records", force_ascii=False)
    table.to_json(tmp_path / "d.jsonl", orient="records", lines=True, force_ascii=False)
    for suffix in ("csv", "tsv", "parquet", "json", "jsonl"):
        source = readers.read_source(str(tmp_path / f"d.{suffix}"), "asked", "wanted")
        assert [(pair.input, *pair.targets) for pair in source.rows] == QUESTIONS


def test_read_source_csv_keeps_commas_quotes_line_breaks(tmp_path: Path) -> None:
    asked = '사서가 "책, 두 권"\n모두 어디?'
    with (tmp_path / "d.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["질문", "답"], [asked, "여기, 저기"]])
    (pair,) = readers.read_source(str(tmp_path / "d.csv"), "질문", "답").rows
    assert (pair.input, pair.targets) == (asked, ("여기, 저기",))


def test_build_task_splits_share_no_question(tmp_path: Path) -> None:
    twice = [*QUESTIONS, *((f"  {asked.upper()} ", wanted) for asked, wanted in QUESTIONS[:50])]
    new = build(twice, tmp_path)
    keys = {split: {match_key(row["input"]) for row in some} for split, some in new.splits.items()}
    assert sum(map(len, keys.values())) == len(QUESTIONS) == sum(map(len, new.splits.values()))
    assert "50 repeated questions joined; all their answers are accepted" in new.notes
    assert {split: len(some) for split, some in new.splits.items()} == {"train": 130, "validation": 20, "test": 50}


def test_build_task_seed_decides_the_splits(tmp_path: Path) -> None:
    first, again, other = (build(QUESTIONS, tmp_path, seed=seed).splits for seed in (0, 0, 1))
    assert first == again != other


def test_build_task_guesses_the_card(tmp_path: Path) -> None:
    card = build([(f"이 책은 {n}번인가요?", "예" if n % 2 else "아니요") for n in range(100)], tmp_path).card
    assert (card["language"], card["normalize"], card["labels"]) == ("ko", "text", ["아니요", "예"])
    card = build(QUESTIONS, tmp_path).card
    assert (card["language"], card["normalize"], "labels" in card) == ("en", "text", False)
    assert card["new_tokens"] >= max(len(wanted) for _, wanted in QUESTIONS)
    assert (
        build([(asked, f"{wanted}\n\nso") for asked, wanted in QUESTIONS], tmp_path)
        .card["template"]
        .endswith("\n###\n")
    )


def test_task_draft_write_gives_a_loadable_task(tmp_path: Path) -> None:
    build(QUESTIONS, tmp_path).write(tmp_path / "mine")
    assert task.load_task(tmp_path / "mine").card.name == "mine"
    with pytest.raises(UserError, match="exists already"):
        build(QUESTIONS, tmp_path).write(tmp_path / "mine")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (" a\tb ", "a b"),
        ("a\r\nb  \nc", "a\nb\nc"),
        ("\ufeffa\u200bb\xa0c", "ab c"),
        ("e\u0301", "é"),
        ("  x\n  y", "x\n  y"),
        ("a\x0bb\x0cc\x85d\u2028e", "a b c d e"),
        ("می\u200cشود PDF\u200cها", "می\u200cشود PDF\u200cها"),
        ("👩\u200d👧 🏳\ufe0f\u200d🌈", "👩\u200d👧 🏳\ufe0f\u200d🌈"),
        ("🏴\U000e0067\U000e0062\U000e007f \U000e0067x", "🏴\U000e0067\U000e0062\U000e007f x"),
        ("क्\u200dष", "क्\u200dष"),
        ("a\u200db 가\u200c나 می\u200c \u200c", "ab 가나 می"),
        ("می\u200b\u200cشود", "می\u200cشود"),
    ],
)
def test_clean_text_removes_invisible_characters(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@given(st.text(st.characters() | st.sampled_from("a가می👩 \n\u200b\u200c\u200d\u0301\u1112\u1161\u3164")))
def test_clean_text_has_no_white_space_fault(text: str) -> None:
    clean = clean_text(text)
    assert not clean or find_white_space_fault(clean) is None
    assert clean_text(clean) == clean


def assert_refused(tmp_path: Path, name: str, content: str | bytes, message: str, **columns: str) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error_info:
        build_task(readers.read_source(str(file), **columns), "mine", len)
    assert len(str(error_info.value).splitlines()) <= 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.txt", "x", "not a .jsonl"),
        ("a.jsonl", "{", "invalid JSON"),
        ("a.jsonl", "[1]", "expected a JSON object"),
        ("a.json", '{"a": 1}', "expected a JSON list of objects"),
        ("a.json", "[1]", "must be an object"),
        (
            "a.csv",
            "질문,답\n".encode() + "가,나\n".encode("cp949"),
            "a.csv:2, byte 11(.|\\n)*some lines are UTF-8",
        ),
        ("a.csv", b"question,answer\na,\xff\xfe\xfa\n", "save it as UTF-8"),
        ("a.jsonl", '{"question": "a", "question": "b", "answer": "c"}', "the key 'question' occurs twice"),
        ("a.jsonl", '{"question": "a", "answer": ["b", NaN]}', "the target is empty"),
        ("a.jsonl", '{"question": "a", "answer": Infinity}', "of type float, not a text"),
        ("a.jsonl", '{"question": "a", "answer": "\u200b"}', "the target is empty"),
        ("a.jsonl", '[{"question": "a", "answer": "b"}]', "expected a JSON object(.|\\n)*named NAME.json$"),
        ("a.jsonl", '[\n{"question": "a", "answer": "b"}\n]', "invalid JSON(.|\\n)*named NAME.json$"),
        ("a.json", '{"question": "a"}\n{"question": "b"}\n', "invalid JSON(.|\\n)*named NAME.jsonl"),
        ("a.csv", "question,answer\na,b\n\0\0\0", "3 zero bytes at its end"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n\0\0', "2 zero bytes at its end"),
        ("a.csv", "question,answer\na\0,b\n", "1 zero bytes in it"),
        ("a.jsonl", '{"prompt": "a", "completion": "b", "label": true}', "rates the completions"),
        ("a.csv", "prompt,completion,label\na,b,False\n", "rates the completions"),
        ("a.jsonl", "[" * 200_000, "nested too deeply"),
        ("a.csv", b"PK\x03\x04\x14\0\x06\0", "the file is an Excel workbook(.|\\n)*NAME.xlsx"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "the file is an old or encrypted Excel workbook"),
        ("a.csv", "\n<!DOCTYPE html>\n<html>", "the file is HTML or XML"),
        ("a.jsonl", b"\x1f\x8b\x08\0", "compressed with gzip"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.csv", '{"question": "a", "answer": "b"}\n', "the file contains JSON"),
        ("a.xls", b"\xd0\xcf\x11\xe0", "not a .jsonl(.|\\n)*CSV UTF-8"),
        ("a.csv", "question,answer\n", "no rows"),
        ("a.csv", "question,answer,,\na,b, c,\n", "3 cells, but the head has 2"),
        ("a.csv", ",question,,answer\na,b,c,d\n", "two columns have no name"),
        ("a.jsonl", '{"question": "a", "answer": {"b": 1}}', "the target is a value of type dict, not a text"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n{"question": "c"}', "has no 'answer'; it has question"),
        ("a.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction": "c"}', "a.jsonl:2"),
        ("a.jsonl", '{"instruction": ["a"], "input": "c", "output": "b"}', "the instruction is"),
        ("a.jsonl", '{"chosen": "a", "rejected": "b"}', "no 'prompt'"),
        ("a.json", '{"data": [{"question": "a", "answer": "b"}]}', "write one list of objects"),
        ("a.jsonl", "{}", "its columns are none"),
        ("a.jsonl", json.dumps({"conversations": [{"from": "function_call", "value": "{}"}]}), "calls a tool"),
        ("a.jsonl", '{"messages": null}', "the conversation is empty"),
        ("a.jsonl", '{"messages": {"role": "user"}}', "not a list of turns"),
        ("a.jsonl", '{"messages": "hello"}', "a text that is not JSON"),
        ("a.jsonl", '{"messages": ["hello"]}', "turn 1 of the conversation is str"),
        ("a.jsonl", '{"messages": [null]}', "turn 1 of the conversation is NoneType"),
        ("a.jsonl", '{"messages": [{"content": "a"}]}', "turn 1 has no role"),
        ("a.jsonl", '{"messages": [{"role": "narrator", "content": "a"}]}', "the role 'narrator'"),
        ("a.jsonl", '{"messages": [{"role": "system", "content": "a"}]}', "only a system message"),
        ("a.jsonl", json.dumps({"messages": [ANSWER]}), "no turn before the answer"),
        ("a.jsonl", json.dumps({"messages": [QUESTION, ANSWER, QUESTION]}), "is not the assistant's"),
        (
            "a.jsonl",
            json.dumps({"messages": [QUESTION, ANSWER | {"content": None}]}),
            r"turn 2 \(assistant\) has no text",
        ),
        ("a.jsonl", json.dumps({"messages": [QUESTION, ANSWER | {"content": " "}]}), r"turn 2 \(assistant\) is empty"),
        ("a.jsonl", json.dumps({"messages": [QUESTION, ANSWER | {"tool_calls": [{"id": "c"}]}]}), "calls a tool"),
        (
            "a.jsonl",
            json.dumps({"messages": [QUESTION | {"content": [{"type": "image_url", "image_url": "x"}]}, ANSWER]}),
            "a part that is not text: image_url",
        ),
        (
            "a.jsonl",
            json.dumps({"contents": [QUESTION, {"role": "model", "parts": [{"functionCall": {}}]}]}),
            "a part that is not text: functionCall",
        ),
        ("a.csv", "question,answer\na,b,c\n", "3 cells, but the head has 2"),
        (
            "a.csv",
            'question,answer\n"a\nb",c\nd,e,f\ng,h,i\n',
            "3 cells.*; 2 rows differ(.|\\n)*a.csv:4(.|\\n)*in quotes",
        ),
        ("a.csv", "question,answer,note\na,b\n", "2 cells, but the head has 3(.|\\n)*a.csv:2(.|\\n)*missing cells"),
        ("a.csv", "title,content,label\na,b,c\n", "several columns may be(.|\\n)*--input content --target label"),
        ("a.csv", 'question,answer\n\n"a,b\nc,d\n', "in this row is never closed(.|\\n)*a.csv:3"),
        ("a.csv", "question,question\na,b\n", "two columns are named"),
        ("a.csv", "foo,bar\na,b\n", "input and target columns are not known"),
        ("a.csv", "question,answer\na,\n", "the target is empty"),
        ("a.jsonl", '{"question": "a", "answer": null}', "the target is empty"),
        ("a.jsonl", '{"question": "a", "answer": NaN}', "the target is empty"),
        ("a.jsonl", '{"messages": []}', "the conversation is empty"),
        ("a.parquet", "no parquet", "invalid Parquet file"),
        ("a.csv", "question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(5)), "5 different questions are too few"),
        ("a.csv", "question,answer\n" + "".join(f"q{n},yes\n" for n in range(50)), "every answer is 'yes'"),
    ],
)
def test_build_task_unusable_data_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert_refused(tmp_path, name, content, message)


def test_read_source_parquet_is_checked_like_csv(tmp_path: Path) -> None:
    hole = pandas.DataFrame([("a", "b"), ("c", float("nan"))], columns=["question", "answer"])
    hole.to_parquet(tmp_path / "hole.parquet")
    source = readers.read_source(str(tmp_path / "hole.parquet"))
    assert source.notes == ("1 row left out because the target is empty: hole.parquet, row 2",)
    days = pandas.DataFrame([("a", datetime.date(2026, 1, 5))], columns=["question", "answer"])
    days.to_parquet(tmp_path / "days.parquet")
    with pytest.raises(UserError, match=r"the target is a value of type date, not a text"):
        readers.read_source(str(tmp_path / "days.parquet"))
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["question", "question"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="two columns are named 'question'"):
        readers.read_source(str(tmp_path / "twice.parquet"))


def test_new_task_answer_beyond_context_writes_nothing(run_bench: Bench, tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(600))
    write_rows(tmp_path / "data.jsonl", [{"question": f"What is {n}?", "answer": f"{n} {long}"} for n in range(40)])
    done = run_bench("new", "task", "mine", "--from", "data.jsonl")
    assert (done.returncode, done.stdout, (tmp_path / "mine").exists()) == (2, "", False)
    assert "the model's context is 512" in done.stderr and "hint:" in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 200


def test_build_task_rare_label_is_in_train_and_test(tmp_path: Path) -> None:
    pairs = [(f"Is {n} even?", "never" if n < 5 else "no" if n % 2 else "yes") for n in range(200)]
    for seed in range(20):
        splits = build(pairs, tmp_path, seed=seed).splits
        shown = {split: {row["target"] for row in some} for split, some in splits.items()}
        assert shown["train"] == shown["test"] == {"never", "no", "yes"}


def test_read_source_missing_column_is_refused(tmp_path: Path) -> None:
    assert_refused(
        tmp_path, "a.csv", "asked,wanted\na,b\n", "--input aksed: .* has no such column", input="aksed", target="wanted"
    )
    with pytest.raises(UserError, match="file not found"):
        readers.read_source(str(tmp_path / "nowhere.csv"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MyTask", "mytask, "),
        ("내과제", "my-task, "),
        ("my task", "my-task, "),
        ("-x", "x, "),
        ("..", ""),
        ("a.py", ".py: a"),
    ],
)
def test_check_new_folder_invalid_task_name_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UserError, match="not a valid task name") as error_info:
        check_new_folder(tmp_path / name)
    assert hint in (error_info.value.hint or "")


def test_new_task_invalid_name_writes_nothing(run_bench: Bench, tmp_path: Path) -> None:
    new = run_bench("new", "task", "MyTask", "--from", "nowhere.csv")
    assert (new.returncode, new.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert "'MyTask' is not a valid task name" in new.stderr and "mytask" in new.stderr


def test_new_task_run_and_report_from_a_csv(run_bench: Bench, tmp_path: Path) -> None:
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
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    wrong = run_bench("new", "task", "other", "--from", "data.csv", "--input", "문항", "--target", "답")
    assert (wrong.returncode, (tmp_path / "other").exists()) == (2, False)


def grouped_rows(n_groups: int, size: int, answers: tuple[str, ...] = ("yes", "no")) -> list[dict[str, Any]]:
    return [
        {"question": f"Passage {group}, question {number}?", "answer": answers[number % len(answers)], "passage": group}
        for group in range(n_groups)
        for number in range(size)
    ]


def build_grouped(rows: list[dict[str, Any]], tmp_path: Path, **options: Any) -> TaskDraft:
    file = write_rows(tmp_path / "grouped.jsonl", rows)
    return build_task(readers.read_source(str(file), group="passage"), "mine", len, **options)


@pytest.mark.parametrize("seed", [0, 1])
def test_build_task_with_groups_keeps_each_in_one_split(tmp_path: Path, seed: int) -> None:
    draft = build_grouped(grouped_rows(40, 5), tmp_path, seed=seed)
    groups = {split: {row["group"] for row in rows} for split, rows in draft.splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 40
    assert {split: len(rows) for split, rows in draft.splits.items()} == {"train": 130, "validation": 20, "test": 50}
    assert "split by whole groups: 26 for train, 4 for validation, 10 for test" in draft.notes
    draft.write(tmp_path / "mine")
    assert {row.group for row in task.load_task(tmp_path / "mine").splits["test"]} == groups["test"]


def test_build_task_few_groups_or_lost_label_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="9 groups are too few"):
        build_grouped(grouped_rows(9, 20), tmp_path)
    # Each group has a label of its own, so the labels of the test have no training rows.
    rows = [row | {"answer": f"label {row['passage']}"} for row in grouped_rows(10, 20)]
    with pytest.raises(UserError, match="are in the groups of the test"):
        build_grouped(rows, tmp_path)


def test_read_source_group_column_missing_or_empty_raises(tmp_path: Path) -> None:
    rows = grouped_rows(10, 5)
    with pytest.raises(UserError, match="has no such column"):
        readers.read_source(str(write_rows(tmp_path / "d.jsonl", rows)), group="customer")
    rows[2]["passage"] = ""
    with pytest.raises(UserError, match="the row has no group") as raised:
        readers.read_source(str(write_rows(tmp_path / "d.jsonl", rows)), group="passage")
    assert str(raised.value.location).endswith("d.jsonl:3")


def test_new_task_with_group_makes_a_valid_task(run_bench: Bench, tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", grouped_rows(20, 5))
    done = run_bench("new", "task", "mine", "--from", "data.jsonl", "--group", "passage")
    assert done.returncode == 0, done.stderr
    assert "split by whole groups" in done.stdout
    assert "columns not used" not in done.stdout
    assert "group-leak" not in done.stdout
    test_row = json.loads((tmp_path / "mine" / "test.jsonl").read_text("utf-8").split("\n")[0])
    train = (tmp_path / "mine" / "train.jsonl").read_text("utf-8")
    assert f'"group": "{test_row["group"]}"' not in train
    with (tmp_path / "mine" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(test_row | {"id": "leak", "input": "Another question?"}) + "\n")
    checked = run_bench("validate", "./mine")
    assert "group-leak" in checked.stdout
