"""Invalid input is reported with location and hint before any learning library is imported."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from support import CommandResult, run_commands

from bench import registry
from bench.errors import UserError
from bench.execution import plan
from bench.modeling.checkpoint import Checkpoint

RUN = ("run", "--task", "good", "--model", "model")
LORA = (*RUN, "--methods", "lora")
PLAN = (*LORA, "--dry-run")


# Command line, and the texts that its error message must contain.
INVALID_COMMANDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "misspelled method": ((*RUN, "--methods", "lroa"), ("'lroa'", "did you mean 'lora'?")),
    "one misspelled method of two": ((*RUN, "--methods", "lora,few_shot"), ("'few_shot'", "did you mean 'few-shot'?")),
    "no method": ((*RUN, "--methods", " , "), ("--methods", "few-shot, full")),
    "no such method file": ((*RUN, "--methods", "./none.py"), ("none.py", "use an existing .py file")),
    "unknown task": (("run", "--methods", "lora", "--task", "godo"), ("task 'godo' not found", "./mytask")),
    "no such task folder": (
        ("run", "--methods", "lora", "--task", "./godo"),
        ("task folder './godo' not found", "existing"),
    ),
    "method name with a path separator": (
        (*RUN, "--methods", "./a\\b.py"),
        ("a path separator", "rename"),
    ),
    "misspelled parameter": ((*PLAN, "--set", "lora.rnak=8"), ("lora.rnak=8", "did you mean 'rank'?")),
    "parameter not a number": ((*PLAN, "--set", "lora.rank=abc"), ("lora.rank=abc", "integer", "default is 16")),
    "parameter out of range": ((*PLAN, "--set", "lora.rank=-1"), ("lora.rank=-1", "greater than 0", "default is 16")),
    "learning rate nan": ((*PLAN, "--set", "lora.lr=nan"), ("lora.lr=nan", "default is 0.006")),
    "infinite learning rate": ((*PLAN, "--set", "lora.lr=inf"), ("lora.lr=inf", "default is 0.006")),
    "dropout above one": ((*PLAN, "--set", "lora.dropout=1.5"), ("lora.dropout=1.5", "default is 0.0")),
    "warmup above one": ((*PLAN, "--set", "lora.warmup=2"), ("lora.warmup=2", "default is 0.06")),
    "parameter of another method": ((*PLAN, "--set", "qlora.rank=8"), ("qlora.rank=8", "did you mean 'lora'?")),
    "setting without a value": ((*PLAN, "--set", "rank"), ("--set rank", "--set lora.rank=8")),
    "budget below zero": ((*PLAN, "--budget", "epochs=-1"), ("epochs=-1", "positive number")),
    "misspelled budget": ((*PLAN, "--budget", "epocs=2"), ("'epocs'", "did you mean 'epochs'?")),
    "budget without end": ((*PLAN, "--budget", "seconds=5"), ("seconds=5", "epochs=3 or steps=200")),
    "no such model folder": (
        ("run", "--methods", "lora", "--task", "good", "--model", "./nowhere"),
        ("model folder './nowhere' not found", "existing folder"),
    ),
    "model without configuration": (
        ("run", "--methods", "lora", "--task", "good", "--model", "./no_config"),
        ("no_config", "config.json", "save_pretrained"),
    ),
    "model without weights": (
        ("run", "--methods", "lora", "--task", "good", "--model", "./no_weights"),
        ("no_weights", "no weights", "safetensors"),
    ),
    "model without tokenizer": (
        ("run", "--methods", "lora", "--task", "good", "--model", "./no_tokenizer"),
        ("no_tokenizer", "no tokenizer", "beside the model"),
    ),
    "not a language model": (
        ("run", "--methods", "lora", "--task", "good", "--model", "./no_lm"),
        ("no_lm", "config.json", "ViTForImageClassification"),
    ),
    "invalid JSON line": (
        ("run", "--methods", "lora", "--task", "broken"),
        ("broken/train.jsonl:3", "one JSON object"),
    ),
    "duplicate id": (("run", "--methods", "lora", "--task", "twice"), ("twice/test.jsonl:2", "test.jsonl:1")),
    "empty target": (("run", "--methods", "lora", "--task", "empty"), ("empty/validation.jsonl:1", "'target'")),
    "missing split": (("run", "--methods", "lora", "--task", "missing"), ("missing/test.jsonl", "add the file")),
    "misspelled card key": (
        ("run", "--methods", "lora", "--task", "unknown_key"),
        ("unknown_key/task.yaml", "'metrik'", "did you mean 'metric'?"),
    ),
    "single label": (
        ("run", "--methods", "lora", "--task", "one_class"),
        ("one_class/task.yaml", "'labels'", "at least two different labels"),
    ),
    "label without training examples": (
        ("run", "--methods", "lora", "--task", "unseen"),
        ("unseen/train.jsonl", "asks for 'cold'", "add examples"),
    ),
    "answers longer than the context": (
        ("run", "--methods", "lora", "--task", "endless", "--model", "model"),
        ("10000 tokens", "context of 256 tokens", "new_tokens="),
    ),
    "answers longer than the context, from the budget": (
        (*PLAN, "--budget", "standard,new_tokens=10000"),
        ("10000 tokens", "context of 256 tokens", "a longer context"),
    ),
    "rows in files and on the hub": (
        ("run", "--methods", "lora", "--task", "both", "--model", "model"),
        ("both/train.jsonl", "contains rows too", "remove the section 'data'"),
    ),
    "hub data without a revision": (
        ("run", "--methods", "lora", "--task", "unpinned"),
        ("unpinned/task.yaml", "'data.revision'", "a branch changes"),
    ),
    "misspelled key of hub data": (
        ("run", "--methods", "lora", "--task", "misspelt"),
        ("misspelt/task.yaml", "'data.colums'", "Valid: config"),
    ),
    "metric that ends the program": (
        ("run", "--methods", "lora", "--task", "./exits", "--model", "model"),
        ("exits/task.py:2", "SystemExit: 0", "define score"),
    ),
    "validated metric that ends the program": (("validate", "./exits", "--model", "model"), ("exits/task.py:2",)),
    "method that ends the program": ((*RUN, "--methods", "./exits.py"), ("exits.py:2", "SystemExit: 0")),
    "validated method that interrupts": (("validate", "./interrupts.py"), ("interrupts.py:1", "KeyboardInterrupt")),
    "misspelled tracker": ((*LORA, "--tracker", "tensorbord"), ("--tracker tensorbord", "'tensorboard'")),
    "output folder is a file": ((*LORA, "--out", "taken"), ("--out taken", "cannot be written", "/taken")),
    "output folder below a file": ((*LORA, "--out", "taken/deeper"), ("--out taken/deeper", "cannot be written")),
}
VALID_COMMANDS: dict[str, tuple[Sequence[str], str]] = {
    "list": (("list",), "lora"),
    "list in JSON": (("list", "--format", "json"), '"lora"'),
    "help": (("--help",), "validate"),
    "help of run": (("run", "--help"), "--budget"),
    "help of validate": (("validate", "--help"), "contract"),
    "dry run": (PLAN, '"rank": 16'),
}


def make_workspace(folder: Path, make_task: MakeTask, base: Path) -> None:
    """Fill a folder with a valid task and model, and with many invalid ones."""
    row: dict[str, Any] = {"id": "one", "input": "red", "target": "warm"}
    make_task(folder / "good")
    make_task(folder / "twice", test=[row, row])
    make_task(folder / "empty", validation=[row | {"target": ""}])
    make_task(folder / "unknown_key", metrik="em")
    make_task(folder / "one_class", labels=["warm"])
    seen: dict[str, Any] = {"labels": ["warm", "cold"], "train": [row], "validation": [row | {"id": "two"}]}
    make_task(folder / "unseen", **seen, test=[row | {"id": "three", "target": "cold"}])
    make_task(folder / "endless", new_tokens=10_000)
    hub: dict[str, Any] = {"hub": "org/set", "revision": "v1", "input": "q", "target": "a"}
    hub |= {"splits": dict.fromkeys(("train", "validation", "test"), "train")}
    make_task(folder / "both", data=hub)
    make_task(folder / "unpinned", data=hub | {"revision": "main"})
    make_task(folder / "misspelt", data=hub | {"colums": "q"})
    (make_task(folder / "missing") / "test.jsonl").unlink()
    for file in (make_task(folder / "exits") / "task.py", folder / "exits.py"):
        file.write_text("import sys\nsys.exit(0)\n", "utf-8")
    (folder / "interrupts.py").write_text("raise KeyboardInterrupt\n", "utf-8")
    lines = (make_task(folder / "broken") / "train.jsonl").read_text("utf-8").split("\n")
    (folder / "broken" / "train.jsonl").write_text("\n".join([*lines[:2], '{"id": "x", ', *lines[3:]]), "utf-8")
    for name, removed in (
        ("model", ()),
        ("no_config", ("config.json",)),
        ("no_weights", ("*.safetensors",)),
        ("no_tokenizer", ("tokenizer.json",)),
        ("no_lm", ()),
    ):
        shutil.copytree(base, folder / name)
        for file in [file for pattern in removed for file in (folder / name).glob(pattern)]:
            file.unlink()
    (folder / "no_lm" / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}', "utf-8")
    (folder / "taken").write_text("a file, not a folder", "utf-8")
    method = "from bench.method import Method\n\n\nclass Mine(Method):\n    pass\n"
    (folder / "a\\b.py").write_text(method, "utf-8")


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, make_task: MakeTask, tiny: Checkpoint, environment: dict[str, str]
) -> dict[str, CommandResult]:
    folder = tmp_path_factory.mktemp("workspace")
    make_workspace(folder, make_task, tiny.folder)
    commands = {name: line for cases in (INVALID_COMMANDS, VALID_COMMANDS) for name, (line, _) in cases.items()}
    return run_commands(commands, folder, environment)


@pytest.mark.parametrize("name", INVALID_COMMANDS)
def test_command_with_invalid_input_exits_2_with_location_and_hint(
    results: dict[str, CommandResult], name: str
) -> None:
    result = results[name]
    assert (result.code, result.out) == (2, "")
    assert result.err.removeprefix("Planning the runs …\n").startswith("error: "), result.err
    assert not [text for text in INVALID_COMMANDS[name][1] if text not in result.err], result.err
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) <= 4


@pytest.mark.parametrize("name", VALID_COMMANDS)
def test_command_without_model_answers(results: dict[str, CommandResult], name: str) -> None:
    result = results[name]
    assert result.code in (0, None), result.err
    assert VALID_COMMANDS[name][1] in result.out


@pytest.mark.parametrize("name", [*INVALID_COMMANDS, *VALID_COMMANDS])
def test_command_without_run_imports_no_learning_library(results: dict[str, CommandResult], name: str) -> None:
    assert results[name].heavy == []


def test_resolve_params_literal_accepts_only_its_values() -> None:
    cls = registry.find_method("features")
    assert plan.resolve_params(cls, {"pool": "mean"}, "features")["pool"] == "mean"
    with pytest.raises(UserError, match=r"features\.pool=most"):
        plan.resolve_params(cls, {"pool": "most"}, "features")
