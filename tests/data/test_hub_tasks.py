"""Tasks with rows on the hub: downloaded once, split without leaks, cached; tested with a small local hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from conftest import CARD, Bench
from datasets import ClassLabel, Dataset, Features, Value

from bench import registry, task
from bench.data import hub_tasks, readers, task_checks
from bench.data.text import match_key
from bench.errors import UserError
from bench.modeling.checkpoint import Checkpoint, context_length, load_tokenizer
from bench.task import SPLITS, Task

REAL = datasets.load_dataset
TEXT = Value("string")
Hub = Callable[..., None]
"""Puts a data set on the hub: its name, and a table for each split."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A hub in a local folder, read by the real `datasets`; other data sets are not found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "hub"

    def load(name: str, config: str | None = None, *, split: str, revision: str | None) -> Any:
        if not (root / name).is_dir():
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub (offline)")
        return REAL(str(root / name / (config or "")), split=split, cache_dir=str(tmp_path / "hf"))

    monkeypatch.setattr(datasets, "load_dataset", load)

    def put(name: str, config: str = "", **splits: Dataset) -> None:
        shutil.rmtree(root / name, ignore_errors=True)
        for split, table in splits.items():
            (root / name / config).mkdir(parents=True, exist_ok=True)
            table.to_parquet(root / name / config / f"{split}.parquet")

    return put


def table(features: dict[str, Any], *rows: tuple[Any, ...]) -> Dataset:
    names = list(features)
    return Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows], features=Features(features))


def questions(first: int, count: int) -> Dataset:
    return table({"q": TEXT, "a": TEXT}, *((f"What is {n}?", f"It is {n}") for n in range(first, first + count)))


def folder(tmp_path: Path, **data: Any) -> Path:
    """A task that names the hub data set; keywords replace keys of `data`, None removes one."""
    section: dict[str, Any] = {
        "hub": "org/set",
        "revision": "v1",
        "splits": {"train": "train", "validation": "train", "test": "test"},
        "input": "q",
        "target": "a",
        "sizes": {"validation": 5},
    }
    card = {name: value for name, value in CARD.items()} | {"data": {k: v for k, v in (section | data).items() if v}}
    task_folder = tmp_path / "mine"
    task_folder.mkdir(exist_ok=True)
    (task_folder / "task.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), "utf-8")
    return task_folder


def inputs(loaded: Task, split: str) -> set[str]:
    return {match_key(row.input) for row in loaded.splits[split]}


def test_load_task_downloads_once_then_needs_no_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub("org/set", train=questions(0, 30), test=questions(30, 10))
    first = hub_tasks.load_task(folder(tmp_path))
    assert {split: len(first.splits[split]) for split in SPLITS} == {"train": 25, "validation": 5, "test": 10}

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked again")

    monkeypatch.setattr(datasets, "load_dataset", never)
    again = hub_tasks.load_task(tmp_path / "mine", fetch=False)
    assert (again.sha256, again.splits) == (first.sha256, first.splits)


def test_load_task_digest_covers_card_and_rows(hub: Hub, tmp_path: Path) -> None:
    hub("org/set", train=questions(0, 30), test=questions(30, 10))
    first = hub_tasks.load_task(folder(tmp_path)).sha256
    other_seed = hub_tasks.load_task(folder(tmp_path, seed=3)).sha256
    assert first != other_seed
    assert hub_tasks.load_task(folder(tmp_path)).sha256 == first
    shutil.rmtree(tmp_path / "cache")
    hub("org/set", train=questions(1, 30), test=questions(31, 10))
    shutil.rmtree(tmp_path / "hf")
    assert hub_tasks.load_task(tmp_path / "mine").sha256 != first


@pytest.mark.parametrize(
    ("validation", "sizes"), [("train", {"validation": 5}), ("train[-8:]", {}), ("train", {"validation": 5, "test": 4})]
)
def test_load_task_no_question_in_two_splits_or_twice(
    hub: Hub, tmp_path: Path, validation: str, sizes: dict[str, int]
) -> None:
    again = table(
        {"q": TEXT, "a": TEXT}, ("  WHAT is 35?", "other"), ("What is 3", "It is three"), ("What is 35?", "x")
    )
    hub("org/set", train=datasets.concatenate_datasets([questions(0, 30), again]), test=questions(30, 10))
    splits = {"train": "train", "validation": validation, "test": "test"}
    loaded = hub_tasks.load_task(folder(tmp_path, splits=splits, sizes=sizes))
    keys = [inputs(loaded, split) for split in SPLITS]
    assert sum(map(len, keys)) == len(set.union(*keys)) == sum(len(loaded.splits[split]) for split in SPLITS)
    assert "what is 35" not in {text.lower().strip(" ?") for text in keys[0]} or "test" in sizes
    joined = [row for split in SPLITS for row in loaded.splits[split] if row.input.rstrip("?") == "What is 3"]
    # Answers are joined within a split; what an earlier one asks is left out of a later one with its answers.
    assert [row.references for row in joined] in ([("It is 3", "It is three")], [("It is three",)])


def test_load_task_counts_left_out_rows(hub: Hub, tmp_path: Path) -> None:
    mixed = table(
        {"q": TEXT, "a": TEXT, "kind": ClassLabel(names=["good", "bad"])},
        *((f"What is {n}?", f"It is {n}", 0) for n in range(20)),
        ("What else?", "nothing", 1),
        (None, "It is 50", 0),
        ("What is empty?", " ", 0),
        ("What is long?" * 20, "It is 60", 0),
    )
    hub("org/set", train=mixed, test=mixed.select(range(3)))
    task_folder = folder(tmp_path, keep_values={"kind": ["good"]}, drop_empty=True, max_input_chars=100)
    loaded = hub_tasks.load_task(task_folder)
    assert len(loaded.splits["test"]) == 3
    assert len(loaded.splits["train"]) + len(loaded.splits["validation"]) == 17
    assert loaded.card.data is not None
    origin = hub_tasks.read_origin(loaded.card.data)
    assert origin["left_out"]["value not in 'keep_values'"] == 2  # train is read twice: for validation, for train
    assert origin["left_out"]["without a text"] == 4
    assert origin["left_out"]["longer than 100 characters"] == 2
    assert (origin["hub"], origin["revision"], origin["rows"]["test"]) == ("org/set", "v1", 3)


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "column": ({"input": "qq"}, "no column 'qq'", "did you mean 'q'?"),
    "column in a text": ({"input": "{q} {b}"}, "no column 'b'", "Valid: a, q"),
    "target column": ({"target": "answer"}, "key 'data.target': no column 'answer'", "Valid: a, q"),
    "filter column": ({"keep_values": {"c": ["x"]}}, "key 'data.keep_values': no column 'c'", "Valid: a, q"),
    "path into a text": ({"target": "a.text"}, "no 'text' in 'a'", "Valid: none"),
    "split": ({"splits": {"train": "train", "validation": "train", "test": "dev"}}, "dev", "use a split"),
    "data set": ({"hub": "org/other"}, "Couldn't reach 'org/other'", "connection (ConnectionError)"),
    "no revision": ({"revision": None}, "key 'data.revision': Field required", ""),
    "revision that moves": ({"revision": "main"}, "key 'data.revision'", "a branch changes"),
    "unknown key": ({"colum": "x"}, "unknown key 'data.colum'", "Valid: config"),
    "unknown split key": ({"splits": {"train": "a", "dev": "b"}}, "unknown key 'data.splits.dev'", "Valid: test"),
    "pattern without a group": ({"target": {"column": "a", "pattern": "x"}}, "key 'data.target'", "exactly one group"),
    "pattern that is none": ({"target": {"column": "a", "pattern": "("}}, "invalid regular expression", ""),
    "label without a name": ({"labels": {"It is 1": "one"}}, "key 'data.labels': 'It is", "Valid: It is 1"),
    "nothing left": ({"keep_values": {"q": ["none"]}}, "no row is left for test", "relax 'keep_values'"),
    "nothing left for train": ({"sizes": None}, "no row is left for train", "set 'sizes'"),
    "empty cell": (
        {"splits": {"train": "train", "validation": "train", "test": "validation"}},
        "row 2: no text in q",
        "drop",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_load_task_invalid_data_set_is_refused_and_not_cached(hub: Hub, tmp_path: Path, wrong: str) -> None:
    holes = table({"q": TEXT, "a": TEXT}, ("What is it?", "It"), ("", "It is"))
    hub("org/set", train=questions(0, 30), test=questions(30, 10), validation=holes)
    changes, message, hint = WRONG[wrong]
    with pytest.raises(UserError) as error_info:
        hub_tasks.load_task(folder(tmp_path, **changes))
    text = str(error_info.value)
    assert message in text and hint in text
    assert len(text.splitlines()) <= 4 and max(map(len, text.splitlines())) < 300
    kept = tmp_path / "cache" / "adaptbench" / "tasks"
    assert not kept.exists() or not any(kept.iterdir())


@pytest.mark.parametrize(
    "written", ["data:\n  revision: v1\n  hub: org/set\n", "data: {revision: v1, hub: 'org/set'}\n"]
)
def test_list_entries_names_the_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    task_folder = tmp_path / "tasks" / "mine"
    task_folder.mkdir(parents=True)
    (task_folder / "task.yaml").write_text("name: mine\nsummary: The hub of all\n" + written, "utf-8")
    monkeypatch.setattr(registry.bench, "__path__", [str(tmp_path)])
    claim = registry.list_entries("tasks")["mine"]
    assert (claim.hub, claim.summary) == ("org/set", "The hub of all")


def test_load_task_reads_answers_in_a_list_of_structs(hub: Hub, tmp_path: Path) -> None:
    features = {"q": TEXT, "answers": [{"text": TEXT}]}
    rows = [(f"What is {n}?", [{"text": f"It is {n}"}, {"text": str(n)}]) for n in range(20)]
    hub("org/set", train=table(features, *rows[:15]), test=table(features, *rows[15:]))
    loaded = hub_tasks.load_task(folder(tmp_path, target="answers.text"))
    assert {row.references for row in loaded.splits["test"]} == {(f"It is {n}", str(n)) for n in range(15, 20)}


def test_load_task_unknown_label_is_refused_without_hub(tmp_path: Path) -> None:
    task_folder = folder(tmp_path, labels={0: "god"})
    text = (task_folder / "task.yaml").read_text("utf-8")
    (task_folder / "task.yaml").write_text(text + "labels: [good, bad]\n", "utf-8")
    with pytest.raises(UserError, match=r"'data\.labels' contains 'god', which is not in 'labels'"):
        hub_tasks.load_task(task_folder)


def test_load_task_unwritable_cache_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub("org/set", train=questions(0, 30), test=questions(30, 10))
    (tmp_path / "taken").write_text("a file is here", "utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    with pytest.raises(UserError, match="the rows cannot be written") as error_info:
        hub_tasks.load_task(folder(tmp_path))
    assert "XDG_CACHE_HOME" in str(error_info.value.hint)


def test_read_source_reads_a_hub_data_set(hub: Hub) -> None:
    hub("org/set", train=questions(0, 30))
    source = readers.read_source("hf:org/set@v1", "q", "a")
    assert (len(source.rows), source.rows[2].location) == (30, "hf:org/set@v1, row 3")
    for name, message in (("hf:org/other", "Couldn't reach 'org/other'"), ("hf:org/set@v1", "has no such column")):
        with pytest.raises(UserError, match=message):
            readers.read_source(name, "question", "a")


def test_load_task_class_without_name_is_refused(hub: Hub, tmp_path: Path) -> None:
    features = {"q": TEXT, "a": ClassLabel(names=["good", "bad"])}
    hidden = table(features, *((f"q {n}", -1) for n in range(3)))
    hub("org/set", train=table(features, *((f"q {n}", n % 2) for n in range(9))), test=hidden)
    with pytest.raises(UserError, match="class -1 has no name"):
        hub_tasks.load_task(folder(tmp_path))


def test_load_task_rows_beside_hub_card_are_refused(hub: Hub, tmp_path: Path) -> None:
    task_folder = folder(tmp_path)
    (task_folder / "test.jsonl").write_text("", "utf-8")
    with pytest.raises(UserError, match="the folder contains rows too"):
        hub_tasks.load_task(task_folder)


def test_run_unreachable_hub_exits_2_and_writes_nothing(run_bench: Bench, tmp_path: Path) -> None:
    ready = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
    folder(tmp_path)
    for words in (["run", "--methods", "majority", "--task", "./mine"], ["validate", "./mine"]):
        done = run_bench(*words, **ready)
        assert (done.returncode, done.stdout) == (2, "")
        assert "data set org/set cannot be loaded" in done.stderr and "hint:" in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 4
    assert not (tmp_path / "results").exists() and not (tmp_path / "cache").exists()
    done = run_bench("run", "--methods", "lroa", "--task", "./mine", **ready)
    assert "did you mean 'lora'" in done.stderr  # cheap checks come before the hub is asked


def test_run_cached_data_set_needs_no_hub(hub: Hub, run_bench: Bench, tmp_path: Path) -> None:
    hub("org/set", train=questions(0, 30), test=questions(30, 10))
    hub_tasks.load_task(folder(tmp_path))
    done = run_bench("run", "--methods", "majority", "--task", "./mine", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "results").glob("*.json")
    assert (
        json.loads(record.read_text("utf-8"))["spec"]["task"]["sha256"] == hub_tasks.load_task(tmp_path / "mine").sha256
    )
    checked = run_bench("validate", "./mine", "--format", "json", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert json.loads(checked.stdout)["rows"] == {"train": 25, "validation": 5, "test": 10}


ANSWERS = {"text": [TEXT], "answer_start": [Value("int32")]}
SQUAD = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
SECTIONS = ["IT과학", "경제", "사회", "생활문화", "세계", "스포츠", "정치"]


def squad(word: str, first: int) -> Dataset:
    return table(SQUAD, *(
        (f"{n}", "T", f"{word} {n} stands here, and Paris.", f"Where is {word} {n}?",
         {"text": [f"{word} {n}", f"{word} {n}", "here"], "answer_start": [0, 0, 9]})
        for n in range(first, first + 12)
    ))  # fmt: skip


def labeled(features: dict[str, Any], place: int, classes: int, first: int, more: tuple[Any, ...] = ()) -> Dataset:
    """Rows whose label is the column at index `place`, every class in turn."""
    rows: list[tuple[Any, ...]] = []
    for n in range(first, first + 4 * classes):
        row: list[Any] = [f"text {n} of it" if feature is TEXT else 0 for feature in features.values()]
        row[place] = n % classes
        rows.append(tuple(row))
    return table(features, *rows, *([more] if more else []))


def sums(first: int) -> Dataset:
    said = "He buys {n}+1=<<{n}+1={m}>>{m} pears.\nSo he has {m}.\n#### {m}"
    return table(
        {"question": TEXT, "answer": TEXT},
        *((f"Tom has {n} pears and buys one.", said.format(n=n, m=n + 1)) for n in range(first, first + 12)),
    )


NSMC = {"id": TEXT, "document": TEXT, "label": ClassLabel(names=["negative", "positive"])}
YNAT = {"guid": TEXT, "title": TEXT, "label": ClassLabel(names=SECTIONS), "url": TEXT, "date": TEXT}
SST2 = {"idx": Value("int32"), "sentence": TEXT, "label": ClassLabel(names=["negative", "positive"])}
NEWS = {"text": TEXT, "label": ClassLabel(names=["World", "Sports", "Business", "Sci/Tech"])}
TREC = {
    "text": TEXT,
    "coarse_label": ClassLabel(names=["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]),
    "fine_label": ClassLabel(names=["ABBR:abb", "ABBR:exp"]),
}
# Name, configuration, the split that test is drawn from, and rows with the hub's columns.
LAYOUTS: dict[str, tuple[str, str, str, Callable[[int], Dataset]]] = {
    "squad": ("rajpurkar/squad", "plain_text", "validation", lambda first: squad("cat", first)),
    "korquad": ("KorQuAD/squad_kor_v1", "", "validation", lambda first: squad("고양이", first)),
    "gsm8k": ("openai/gsm8k", "main", "test", sums),
    "nsmc": ("e9t/nsmc", "", "test", lambda first: labeled(NSMC, 2, 2, first, ("9", None, 1))),
    "ynat": ("klue/klue", "ynat", "validation", lambda first: labeled(YNAT, 2, 7, first)),
    "sst2": ("stanfordnlp/sst2", "", "validation", lambda first: labeled(SST2, 2, 2, first)),
    "ag-news": ("fancyzhx/ag_news", "", "test", lambda first: labeled(NEWS, 1, 4, first)),
    "trec": ("CogComp/trec", "", "test", lambda first: labeled(TREC, 1, 6, first)),
}


def test_shipped_recipes_all_have_a_layout_here() -> None:
    recipes = {name: claim.hub for name, claim in registry.list_entries("tasks").items() if claim.hub}
    assert recipes == {name: hub for name, (hub, _, _, _) in LAYOUTS.items()}
    shipped = [file.parent.name for name in recipes for file in registry.find_task(name).glob("*.jsonl")]
    assert shipped == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_recipe_makes_a_valid_task_from_hub_columns(hub: Hub, tmp_path: Path, tiny: Checkpoint, name: str) -> None:
    loaded = recipe_of(name, hub, tmp_path)
    assert all(loaded.splits.values())
    if loaded.card.labels:
        assert {row.target for row in loaded.splits["test"]} == set(loaded.card.labels)
    findings = task_checks.check_task(loaded, load_tokenizer(tiny.folder), context_length(tiny.folder))
    errors = {finding.check for finding in findings if finding.is_error}
    assert errors <= {"too-long", "label"}  # four rows of validation cannot show all labels
    card = (tmp_path / name / "README.md").read_text("utf-8")
    assert all(text in card for text in (LAYOUTS[name][0], "```bibtex", "downloads it once"))


def recipe_of(name: str, hub: Hub, tmp_path: Path) -> Task:
    hub_name, config, test_split, make_rows = LAYOUTS[name]
    hub(hub_name, config, train=make_rows(0), **{test_split: make_rows(50)})
    copied = tmp_path / name
    shutil.copytree(registry.find_task(name), copied)
    text = (copied / "task.yaml").read_text("utf-8")
    (copied / "task.yaml").write_text(text.replace("validation: 200, test", "validation: 4, test"), "utf-8")
    return hub_tasks.load_task(copied)


def test_gsm8k_recipe_splits_steps_and_number(hub: Hub, tmp_path: Path) -> None:
    loaded = recipe_of("gsm8k", hub, tmp_path)
    row = next(row for row in loaded.splits["test"] if row.input.startswith("Tom has 50 "))
    assert (row.target, row.rationale) == ("51", "He buys 50+1=51 pears.\nSo he has 51.")
    said = ("51", "$51", "51.00 pears", "5.1", "He has it", "151")
    scores = [loaded.score(text, row.references)["em"] for text in said]
    assert scores == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_squad_recipe_accepts_each_answer_once(hub: Hub, tmp_path: Path) -> None:
    loaded = recipe_of("squad", hub, tmp_path)
    assert all(len(row.references) == 2 and row.references[1] == "here" for row in loaded.splits["test"])
    assert all("\nQuestion: Where is cat" in row.input for row in loaded.splits["train"])


def test_nsmc_recipe_uses_label_names_of_the_card(hub: Hub, tmp_path: Path) -> None:
    loaded = recipe_of("nsmc", hub, tmp_path)
    assert {row.input: row.target for row in loaded.splits["test"]}["text 50 of it"] == "부정"
    assert loaded.card.data is not None
    assert hub_tasks.read_origin(loaded.card.data)["left_out"]["without a text"] == 3


def test_load_task_equals_loading_the_cached_rows(hub: Hub, tmp_path: Path) -> None:
    hub("org/set", train=questions(0, 30), test=questions(30, 10))
    loaded = hub_tasks.load_task(folder(tmp_path))
    assert loaded.card.data is not None
    assert task.load_task(tmp_path / "mine", hub_tasks.cache_folder(loaded.card.data)).sha256 == loaded.sha256
