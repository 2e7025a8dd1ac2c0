"""Checks of task data: every planted error is found and counted, and clean data pass."""

from __future__ import annotations

import io
import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CARD, Bench, MakeTask
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench import task
from bench.cli import options, validate
from bench.data.task_builder import copy_without_leaks
from bench.data.task_checks import ERROR_CHECKS, WARNING_CHECKS, TaskFinding, check_task
from bench.data.text import (
    NEAR_DUPLICATE_COSINE,
    excerpt,
    find_answer,
    find_white_space_fault,
    match_key,
    near_duplicates,
    spelling_key,
)
from bench.errors import UserError
from bench.modeling.checkpoint import Checkpoint, context_length, load_tokenizer
from bench.task import SPLITS, Task, TaskRow
from bench.task_card import TaskCard

ROOT = Path(__file__).parents[2]
ASKED = {
    "train": (
        "맑은 하늘",
        "잘 익은 토마토",
        "a ripe plum",
        "fresh snow",
        "갓 구운 빵",
        "old brass",
        "deep water",
        "연필심",
    ),
    "validation": ("mossy stone", "봄 햇살", "a candle flame", "겨울 바다"),
    "test": ("wet asphalt", "묵은 책장", "a robin's egg", "늦가을 논", "polished oak", "새벽 안개"),
}
FEELINGS = ("warm", "cold")
Splits = dict[str, list[dict[str, Any]]]
Plant = Callable[[Splits, dict[str, Any]], object]


def clean_task(*, closed: bool = False) -> tuple[Splits, dict[str, Any]]:
    """Rows and card of a task without errors: answers in sentences, or two labels."""
    splits: Splits = {
        split: [
            {
                "id": f"{split}-{number}",
                "input": f"{thing}?",
                "target": FEELINGS[number % 2] if closed else f"It feels {FEELINGS[number % 2]} {split} {number}.",
            }
            for number, thing in enumerate(things)
        ]
        for split, things in ASKED.items()
    }
    if closed:
        return splits, {"labels": list(FEELINGS)}
    return splits, {"answer": r"feels (.+)\.?$", "new_tokens": 40}


def check_with_model(loaded: Task, base: Path) -> list[TaskFinding]:
    return check_task(loaded, load_tokenizer(base), context_length(base))


def check_planted(
    folder: Path, make_task: MakeTask, base: Path, plant: Plant, *, closed: bool = False
) -> list[TaskFinding]:
    splits, card = clean_task(closed=closed)
    plant(splits, card)
    return check_with_model(task.load_task(make_task(folder / "planted", **splits, **card)), base)


def count_errors(findings: list[TaskFinding]) -> dict[str, int]:
    """The number of cases of each error; those of the three kinds of leaks are added."""
    counts = Counter[str]()
    for finding in findings:
        if finding.is_error:
            counts[finding.check] += finding.count
    return dict(counts)


def change(split: str, number: int, **row: Any) -> Plant:
    return lambda splits, card: splits[split][number].update(row)


def add(split: str, input: str, target: str | list[str]) -> Plant:
    return lambda splits, card: splits[split].append({"id": "new", "input": input, "target": target})


def both(*plants: Plant) -> Plant:
    return lambda splits, card: [plant(splits, card) for plant in plants]


def keys(**changes: Any) -> Plant:
    return lambda splits, card: card.update(changes)


def nothing(splits: Splits, card: dict[str, Any]) -> None:
    pass


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


SAME = "It feels warm train 0."
# Changes of the task with open answers, and exactly the errors that must be found.
PLANTED: dict[str, tuple[Plant, dict[str, int]]] = {
    "nothing": (nothing, {}),
    "leak": (add("test", "맑은하늘", "It feels gray."), {"leak": 1, "contradiction": 1}),
    "leak with the same answer": (add("test", "맑은 하늘!", SAME), {"leak": 1}),
    "leak in other case": (add("validation", "FRESH  snow.", "It feels cold train 3."), {"leak": 1, "white-space": 1}),
    "leak in another Unicode form": (add("test", decomposed("맑은 하늘?"), SAME), {"leak": 1, "white-space": 1}),
    "leak in full width": (add("test", "ｏｌｄ ｂｒａｓｓ", "It feels cold train 5."), {"leak": 1}),
    "leak of validation into test": (add("test", "봄햇살", "It feels cold validation 1."), {"leak": 1}),
    "duplicate": (add("train", "맑은, 하늘", SAME), {"duplicate": 1}),
    "contradiction": (add("train", "맑은 하늘", "It feels gray."), {"duplicate": 1, "contradiction": 1}),
    "same answer among several": (add("train", "맑은 하늘", ["It feels gray.", SAME]), {"duplicate": 1}),
    "space at the end": (change("test", 1, input="묵은 책장 "), {"white-space": 1}),
    "space before": (change("train", 1, input=" 잘 익은 토마토"), {"white-space": 1}),
    "line end at the end": (change("train", 1, target="It feels cold train 1.\t"), {"white-space": 1}),
    "two spaces": (change("train", 2, input="a ripe  plum"), {"white-space": 1}),
    "tab": (change("train", 2, input="a\tripe plum"), {"white-space": 1}),
    "carriage return": (change("train", 2, input="a ripe\r\nplum"), {"white-space": 1}),
    "zero width": (change("train", 2, input="a ripe\u200b plum"), {"white-space": 1}),
    "joiner between Korean letters": (change("test", 1, input="묵은\u200d책장"), {"white-space": 1}),
    "byte order mark": (change("train", 2, input="\ufeffa ripe plum"), {"white-space": 1}),
    "answer in parts": (change("test", 0, target=decomposed("It feels warm 하늘.")), {"white-space": 1}),
    "no-break space": (change("train", 2, input="a ripe\xa0plum"), {"white-space": 1}),
    "rationale with a tab": (change("train", 2, rationale="so\tit is"), {"white-space": 1}),
    "rationale in parts": (change("train", 2, rationale=decomposed("따뜻하다")), {"white-space": 1}),
    "both fields of one row": (change("train", 2, input="a  plum", rationale="a\tb"), {"white-space": 1}),
    "lines and indentation": (change("train", 2, input="def plum():\n    return\n\nplum()"), {}),
    "emoji in parts": (change("train", 2, input="👩\u200d👧 a plum"), {}),
    "case": (change("test", 0, target="It feels Warm train 0."), {"case": 1}),
    "spaces": (change("test", 0, target="It feels warm train0."), {"case": 1}),
    "case of the parsed part": (change("test", 0, target="For me it feels WARM train 0."), {"case": 1}),
    "cut": (change("test", 0, target="It feels wa"), {"cut": 1}),
    "cut after a comma": (change("test", 0, target="It feels warm,"), {"cut": 1}),
    "closed by a quote": (change("test", 0, target='It feels "warm."'), {}),
    "closed by an emoji": (change("test", 0, target="It feels warm 🙂"), {}),
    "format": (both(keys(format=r"It feels .+\."), change("test", 0, target="It is warm as feels go.")), {"format": 1}),
    "answer": (change("test", 0, target="It is warm."), {"format": 1}),
    "answer of a second reference": (change("test", 0, target=["It feels warm.", "It is warm."]), {"format": 1}),
    "prompt too long": (change("test", 0, input="long " * 60 + "road"), {"too-long": 1}),
    "long prompt that fits": (change("test", 0, input="long " * 20 + "road"), {}),
    "target too long": (change("test", 0, target=f"It feels {'very ' * 8}warm."), {"too-long": 1}),
    "no room for any prompt": (keys(new_tokens=240), {"too-long": 18}),
}
CLOSED: dict[str, tuple[Plant, dict[str, int]]] = {
    "nothing": (nothing, {}),
    "label never shown": (keys(labels=["warm", "cold", "mild"]), {"label": 3}),
    "label missing in one split": (
        lambda splits, card: [row.update(target="cold") for row in splits["validation"]],
        {"label": 1},
    ),
    "labels that differ in case": (
        both(keys(labels=["warm", "cold", "Warm"]), *(change(split, 0, target="Warm") for split in SPLITS)),
        {"case": 4},
    ),
    "labels need no full stop": (keys(labels=["warm", "cold"]), {}),
    "contradiction": (add("train", "맑은 하늘", "cold"), {"duplicate": 1, "contradiction": 1}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_check_task_planted_error_is_the_only_one_found(
    name: str, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    plant, expected = PLANTED[name]
    findings = check_planted(tmp_path, make_task, tiny.folder, plant)
    assert count_errors(findings) == expected
    assert all(1 <= len(finding.examples) <= 3 for finding in findings if finding.is_error)


@pytest.mark.parametrize("name", CLOSED)
def test_check_task_closed_labels_planted_error_is_found(
    name: str, make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    plant, expected = CLOSED[name]
    findings = check_planted(tmp_path, make_task, tiny.folder, plant, closed=True)
    assert count_errors(findings) == expected


def test_error_checks_each_has_a_planted_case() -> None:
    names = {name for name, _ in ERROR_CHECKS}
    assert names == {check for _, expected in [*PLANTED.values(), *CLOSED.values()] for check in expected}


def test_tasks_page_names_every_check() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    names = [name for name, _ in (*ERROR_CHECKS, *WARNING_CHECKS)]
    assert not [name for name in names if f"`{name}`" not in text]


def test_finding_example_names_row_and_escapes_character(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    findings = check_planted(tmp_path, make_task, tiny.folder, change("train", 2, input="a ripe\u200b plum"))
    assert findings[0].examples == (r'train-2 (train), input, invisible character: "a ripe\u200b plum"',)


def test_check_task_half_surrogate_is_an_error(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    splits, card = clean_task()
    folder = make_task(tmp_path / "half", **splits, **card)
    with (folder / "test.jsonl").open("a") as file:
        file.write(json.dumps({"id": "half", "input": "an apple \ud83d?", "target": "It feels sweet."}))
    findings = check_with_model(task.load_task(folder), tiny.folder)
    assert [finding.check for finding in findings if finding.is_error] == ["white-space"]
    assert findings[0].examples == (r'half (test), input, invisible character: "an apple \ud83d?"',)


def test_finding_frequent_error_shows_three_examples(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    plant = both(*(change("train", number, input=f"  {number} plums") for number in range(5)))
    finding = check_planted(tmp_path, make_task, tiny.folder, plant)[0]
    assert (finding.check, finding.count, len(finding.examples)) == ("white-space", 5, 3)
    assert len(finding.cases) == 5 and finding.cases[:3] == finding.examples


def warning(findings: list[TaskFinding], check: str) -> TaskFinding | None:
    finding = next((finding for finding in findings if finding.check == check), None)
    assert finding is None or not finding.is_error
    return finding


def test_check_task_clean_data_has_only_warnings(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    findings = check_planted(tmp_path, make_task, tiny.folder, nothing)
    assert [finding.check for finding in findings] == ["lengths", "small-test"]
    small = warning(findings, "small-test")
    assert small is not None and small.count == 6
    lengths = warning(findings, "lengths")
    # A token is a byte: "Name the feeling.\n\nQ: a robin's egg?\nA:" has 39, " It feels warm test 2." has 22.
    assert lengths is not None and lengths.count == 18
    assert lengths.examples[2].startswith("test: prompt 39, ") and lengths.examples[2].endswith("target 22, 22, 22")


def test_check_task_near_duplicate_in_other_split_is_a_warning(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    text = "어제 도서관에서 빌려 온 두꺼운 소설책을 밤새 다 읽고 나서 느낀 기분은 어떤가요"
    plant = both(change("train", 0, input=text), change("test", 0, input=f"{text} 네"))
    near = warning(check_planted(tmp_path, make_task, tiny.folder, plant), "near-duplicate")
    assert near is not None and near.count == 1 and near.examples[0].startswith("test-0 (test) ~ train-0 (train), 0.9")


def test_balance_warning_has_shares_majority_and_distance(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    plant = both(change("test", 1, target="warm"), change("test", 3, target="warm"))
    balance = warning(check_planted(tmp_path, make_task, tiny.folder, plant, closed=True), "balance")
    assert balance is not None and balance.count == 2
    assert "83.3 %" in balance.message and "33.3 %" in balance.message
    assert balance.examples[0] == '"warm": train 50.0 %, validation 50.0 %, test 83.3 %'


def test_balance_warning_shows_every_label(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    labels = ["warm", "cold", "mild", "cool", "hot"]
    plants = [change(split, index, target=label) for split in SPLITS for index, label in enumerate(labels[:4])]
    plant = both(keys(labels=labels), *plants, *(change(split, 4, target="hot") for split in ("train", "test")))
    balance = warning(check_planted(tmp_path, make_task, tiny.folder, plant, closed=True), "balance")
    assert balance is not None and balance.count == len(balance.examples) == 5


def test_answer_in_input_warning_counts_whole_words(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    plant = both(change("test", 0, input="Is ice warm or not?"), change("test", 2, input="Lukewarm water?"))
    copied = warning(check_planted(tmp_path, make_task, tiny.folder, plant, closed=True), "answer-in-input")
    assert copied is not None and copied.count == 1 and "5.6 %" in copied.message


def test_small_test_warning_absent_from_500_rows(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    def fill(splits: Splits, card: dict[str, Any]) -> None:
        splits["test"] = [{"id": f"{n}", "input": f"{n} plums", "target": f"It feels {n}."} for n in range(500)]

    assert warning(check_planted(tmp_path, make_task, tiny.folder, fill), "small-test") is None


@settings(max_examples=30)
@given(st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_check_task_finds_as_many_leaks_as_planted(
    tiny: Checkpoint, tested: set[int], validated: set[int], form: str
) -> None:
    splits, card = clean_task()
    for split, numbers in (("validation", validated), ("test", tested)):
        for number in numbers:
            row = splits["train"][number]
            text = f" {unicodedata.normalize(form, row['input']).upper()}!"  # type: ignore[arg-type]
            splits[split].append(row | {"id": f"{split} {number}", "input": text})
    rows = {
        split: tuple(TaskRow(row["id"], row["input"], (row["target"],)) for row in some)
        for split, some in splits.items()
    }
    findings = check_with_model(Task(TaskCard.model_validate(CARD | card), ROOT, "", rows), tiny.folder)
    counts = count_errors(findings)
    leaks = {finding.splits: finding.count for finding in findings if finding.check == "leak"}
    paths = {("train", "validation"): validated, ("train", "test"): tested, ("validation", "test"): validated & tested}
    assert leaks == {path: len(numbers) for path, numbers in paths.items() if numbers}
    assert not {"duplicate", "contradiction"} & set(counts)


def run_validate(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        validate.command(*arguments)
    return end.value.code, capsys.readouterr().out


def test_validate_exit_code_and_json_agree(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, card = clean_task()
    good = str(make_task(tmp_path / "good", **splits, **card))
    splits["test"].append(splits["train"][0] | {"id": "again"})
    bad = str(make_task(tmp_path / "bad", **splits, **card))
    broken = make_task(tmp_path / "broken")
    (broken / "test.jsonl").write_text("[1]\n", "utf-8")
    for folder, code, checks in ((good, 0, []), (bad, 1, ["leak"]), (str(broken), 1, ["schema"])):
        ended, out = run_validate(capsys, folder, str(tiny.folder), options.Format.json)
        content = json.loads(out.splitlines()[-1])
        assert (ended, content["valid"]) == (code, not code)
        assert [finding["check"] for finding in content["findings"] if finding["is_error"]] == checks
        ended, out = run_validate(capsys, folder, str(tiny.folder), options.Format.table)
        assert ended == code
        assert ("leak" in out, out.endswith(": valid\n")) == ("leak" in checks, not code)
        assert all(len(line) <= 80 or str(tmp_path) in line for line in out.splitlines())
    assert f"{broken}/test.jsonl:1" in out


def test_validate_lists_all_leaks_by_split(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits, card = clean_task()
    train, validation = splits["train"], list(splits["validation"])
    splits["validation"] += [row | {"id": f"copy {n}"} for n, row in enumerate(train[:4])]
    splits["test"] += [row | {"id": f"test copy {n}"} for n, row in enumerate([*train[3:], *validation[:3]])]
    folder = str(make_task(tmp_path / "leaky", **splits, **card))
    _, out = run_validate(capsys, folder, str(tiny.folder), options.Format.json)
    leaks = {
        tuple(finding["splits"]): finding
        for finding in json.loads(out.splitlines()[-1])["findings"]
        if finding["check"] == "leak"
    }
    assert {path: (leak["count"], len(leak["cases"])) for path, leak in leaks.items()} == {
        ("train", "validation"): (4, 4), ("train", "test"): (5, 5), ("validation", "test"): (4, 4)
    }  # fmt: skip
    assert all("--drop-leaks" in leak["message"] and len(leak["examples"]) == 3 for leak in leaks.values())
    _, short = run_validate(capsys, folder, str(tiny.folder), options.Format.table)
    _, long = run_validate(capsys, folder, str(tiny.folder), options.Format.table, True)
    assert "From train to test" in " ".join(short.split())
    assert ("test copy 4" in short, "test copy 4" in long) == (False, True)


def test_copy_without_leaks_keeps_test_card_and_scorer(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    splits, card = clean_task()
    splits["validation"] += [row | {"id": f"copy {n}"} for n, row in enumerate(splits["train"][:2])]
    splits["test"] += [row | {"id": "copy of validation"} for row in splits["validation"][:1]]
    folder = make_task(tmp_path / "leaky", **splits, **card)
    (folder / "task.py").write_text("def score(prediction, references):\n    return {'em': 1.0}\n", "utf-8")
    (folder / "schema.json").write_text('{"type": "string"}', "utf-8")
    draft = copy_without_leaks(folder, "clean")
    draft.write(tmp_path / "clean")
    copied = task.load_task(tmp_path / "clean")
    assert {split: len(rows) for split, rows in copied.splits.items()} == {"train": 6, "validation": 5, "test": 7}
    assert copied.card == task.load_task(folder).card.model_copy(update={"name": "clean"})
    assert copied.scorer is not None
    assert (tmp_path / "clean" / "schema.json").read_text("utf-8") == '{"type": "string"}'
    assert not [finding for finding in check_with_model(copied, tiny.folder) if finding.check == "leak"]
    assert len(draft.notes) == 2


def test_copy_without_leaks_of_nothing_but_leaks_is_refused(make_task: MakeTask, tmp_path: Path) -> None:
    splits, card = clean_task()
    splits["train"] = [row | {"id": f"train {n}"} for n, row in enumerate(splits["test"])]
    with pytest.raises(UserError, match="every question of train is in a later split"):
        copy_without_leaks(make_task(tmp_path / "leaky", **splits, **card), "clean")


def test_check_task_numbers_merged_by_the_normalizer_are_a_warning(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    plant = both(
        lambda splits, card: card.pop("answer"), change("train", 0, target="-5"), change("test", 0, target=["5", "5.0"])
    )
    numbers = warning(check_planted(tmp_path, make_task, tiny.folder, plant), "normalize")
    assert numbers is not None and numbers.examples == ('"-5" of train-0 (train) = "5" of test-0 (test)',)
    plant = both(plant, keys(normalize="text"))
    assert warning(check_planted(tmp_path, make_task, tiny.folder, plant), "normalize") is None


def test_validate_method_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "poor.py"
    file.write_text(
        "from bench.method import Method\n\nclass Poor(Method):\n    def __init__(self, must): ...\n"
        "    def fit(self, lm, data, budget): ...\n    def predict(self, inputs): ...\n"
        "    def save(self, folder): ...\n",
        "utf-8",
    )
    ended, out = run_validate(capsys, str(file), "bookworm", options.Format.json)
    content = json.loads(out.splitlines()[-1])
    assert ended == 1 and not content["valid"] and content["findings"][0]["check"] == "contract"


def test_validate_unknown_task_or_model_exits_2(run_bench: Bench, make_task: MakeTask, tmp_path: Path) -> None:
    make_task(tmp_path / "good")
    for arguments in (["bokrec"], ["./none"], ["./good", "--model", "./none"], ["./good", "--format", "xml"]):
        done = run_bench("validate", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "Traceback" not in done.stderr


def test_validate_shipped_task_is_valid(run_bench: Bench) -> None:
    done = run_bench("validate", "bookrec")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lengths" in done.stdout and "Errors" not in done.stdout


def test_check_task_reads_a_slow_tokenizer(make_task: MakeTask, tmp_path: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path / "base"
    folder.mkdir()
    letters = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    for name, content in (
        ("vocab.json", {letter: number for number, letter in enumerate(letters)}),
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}),
        ("config.json", {"model_type": "gpt2", "n_positions": 90}),
    ):
        (folder / name).write_text(json.dumps(content), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    findings = check_planted(tmp_path, make_task, folder, keys(new_tokens=52))
    assert [finding.check for finding in findings] == ["too-long", "lengths", "small-test"]
    assert "A prompt may have 38 tokens" in findings[0].message
    assert findings[1].examples[2].startswith("test: prompt 39, ")


def test_check_task_uses_default_context_length(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.folder, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    findings = check_planted(tmp_path, make_task, folder, keys(new_tokens=2040))
    assert findings[0].check == "too-long" and "A prompt may have 8 tokens" in findings[0].message


def test_check_task_broken_tokenizer_is_refused(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.folder, folder)
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="the tokenizer cannot be loaded"):
        check_planted(tmp_path, make_task, folder, nothing)


def test_prompt_length_includes_beginning_of_sequence_token(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.folder, folder)
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    begin = {"SpecialToken": {"id": "<end>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<end>": {"id": "<end>", "ids": [256], "tokens": ["<end>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    lengths = warning(check_planted(tmp_path, make_task, folder, nothing), "lengths")
    assert lengths is not None and lengths.examples[2].startswith("test: prompt 40, ")


def test_findings_table_shows_markup_literally(make_task: MakeTask, tiny: Checkpoint, tmp_path: Path) -> None:
    findings = check_planted(tmp_path, make_task, tiny.folder, change("train", 2, input="[bold] plum "))
    screen = io.StringIO()
    Console(width=120, file=screen).print(validate.findings_table(findings))
    assert '"[bold] plum "' in screen.getvalue()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Café au lait", "cafe\u0301 AU  lait!"),
        ("하늘은?", decomposed("하늘 은")),
        ("Straße", "STRASSE"),
        ("ＡＢ", "ab"),
    ],
)
def test_match_key_equal_for_two_spellings(left: str, right: str) -> None:
    assert match_key(left) == match_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("3 + 4", "34"), ("3 - 4", "3 + 4"), ("1 2", "12"), ("1.5", "15"), ("= -5", "= 5"), ("10²", "102"),
        ("C++", "C"), ("x*y", "xy"), ("!!", "??"), ("가", "각"), ("का", "की"),
    ],
)  # fmt: skip
def test_match_key_differs_for_different_meanings(left: str, right: str) -> None:
    assert match_key(left) != match_key(right)


@given(st.text(min_size=1))
def test_match_key_ignores_case_and_unicode_form(text: str) -> None:
    assert (
        match_key(text)
        == match_key(unicodedata.normalize("NFD", text))
        == match_key(unicodedata.normalize("NFC", text))
    )
    assert match_key(f" {text} ") == match_key(text)


@given(st.text(st.sampled_from("ab 가나\n."), min_size=1))
def test_find_white_space_fault_clean_text_has_none(text: str) -> None:
    clean = "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()
    assert not clean or find_white_space_fault(clean) is None


@pytest.mark.parametrize(("left", "right", "same"), [("어린 왕자", "어린왕자", True), ("1 12", "11 2", False)])
def test_spelling_key_keeps_spaces_between_numbers(left: str, right: str, same: bool) -> None:
    assert (spelling_key(left) == spelling_key(right)) is same


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("Seoul", "서울은 영어로 seoul이다", True), ("cat", "concatenate", False), ("no", "I know", False),
        ("왕자", "어린 왕자를 읽었다", True), ("왕자", "거지왕자", False), ("5", "15개", False), ("5", "5개", True),
        ("東京", "私は東京に住む", True), ("어린 왕자", decomposed("어린왕자와"), True), ("(a)", "is it (a)?", True),
    ],
)  # fmt: skip
def test_find_answer_matches_whole_words(answer: str, text: str, found: bool) -> None:
    assert (find_answer(answer, text) is not None) is found


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.text("ab", min_size=4, max_size=24)), min_size=2, max_size=12))
def test_near_duplicates_equal_scikit_learn(texts: list[tuple[str, str]]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(len(text) >= 5 for _, text in texts):
        return
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(5, 5)).fit_transform([text for _, text in texts])
    cosines = (vectors @ vectors.T).toarray()
    wanted = {}
    for here, (group, text) in enumerate(texts):
        others = [there for there in range(here) if texts[there][0] != group and texts[there][1] != text]
        best = max((float(cosines[here, there]) for there in others), default=0.0)
        if best >= NEAR_DUPLICATE_COSINE:
            wanted[here] = best
    assert {here: cosine for here, (_, cosine) in near_duplicates(texts).items()} == pytest.approx(wanted)


@given(st.text(), st.integers(0, 50))
def test_excerpt_is_short_and_printable(text: str, at: int) -> None:
    shown = excerpt(text, 20, min(at, len(text)))
    assert shown.isprintable() and len(excerpt("가" * 99, 20)) <= 13 and excerpt("short", 20) == '"short"'
