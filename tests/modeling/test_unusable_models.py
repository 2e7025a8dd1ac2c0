"""A model that cannot be used is refused at once, with what is wrong, where, and how to mend it; nothing is written."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from test_bad_input import RUNNER, Result

from bench.modeling.checkpoint import Checkpoint

MODEL, ADAPTER = "model.safetensors", "adapter_model.safetensors"
LINES = 8  # of a refusal, at most


class Command:
    """What a pickle may hold: an order to run."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo taken over",)


def change(file: Path, **said: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | said), "utf-8")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def shard(folder: Path) -> None:
    """Name two files of weights of which there is one."""
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / MODEL).rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def pickled(folder: Path, content: bytes) -> None:
    (folder / MODEL).unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("model/data.pkl", content)


def unfinished(folder: Path) -> None:
    pickled(folder, pickle.dumps({}))
    cut(folder / "pytorch_model.bin")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def garbled(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[9:40] = b"?" * 31
    (folder / MODEL).write_bytes(content)


def own_code(folder: Path) -> None:
    change(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})


# How a sound model is spoilt, what the refusal must name, and what its mend must say.
SPOILT: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "empty folder": (empty, ("the model folder is empty", "save_pretrained")),
    "no configuration": (lambda f: (f / "config.json").unlink(), ("no config.json", "save_pretrained")),
    "configuration broken": (
        lambda f: (f / "config.json").write_text("{", "utf-8"),
        ("config.json is not valid JSON", "config.json", "copy or save it again"),
    ),
    "unknown architecture": (
        lambda f: change(f / "config.json", model_type="lama"),
        ("no model of the type 'lama' that writes", "pip install -U transformers", "did you mean 'llama'?"),
    ),
    "code of its own": (own_code, ("brings code of its own", "'mine'", "trust_remote_code is off")),
    "tokenizer with code of its own": (
        lambda f: [
            (f / "tokenizer.json").rename(f / "vocab.json"),
            change(f / "tokenizer_config.json", auto_map={"AutoTokenizer": "mine.Mine"}),
        ],
        ("the tokenizer brings code of its own", "tokenizer.json"),
    ),
    "quantized already": (
        lambda f: change(f / "config.json", quantization_config={"quant_method": "gptq"}),
        ("quantized already (gptq)", "qlora quantizes by itself"),
    ),
    "weights cut off": (lambda f: cut(f / MODEL), ("cut off or broken", "bytes, the file has", MODEL, "download")),
    "weights of nothing": (lambda f: (f / MODEL).write_bytes(b""), ("cut off or broken", "0 bytes", MODEL)),
    "weights garbled": (garbled, ("cut off or broken", "no list of tensors", MODEL)),
    "a shard missing": (shard, ("1 of 2 weight files are missing", "00002-of-00002", "download them again")),
    "no weights": (lambda f: (f / MODEL).unlink(), ("no weights", "it needs model.safetensors")),
    "pickle that runs code": (
        lambda f: pickled(f, pickle.dumps({"a": Command()}, protocol=2)),
        ("more than tensors", "posix system", "weights_only", "safetensors"),
    ),
    "newer pickle that runs code": (
        lambda f: pickled(f, pickle.dumps({"a": Command()})),
        ("more than tensors", "weights_only"),
    ),
    "pickle cut off": (unfinished, ("cut off or broken", "torch 1.6", "pytorch_model.bin")),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("no tokenizer", "save it beside the model")),
}
# The same for an adapter on a sound base, which lies beside it.
MISFITS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "for another base": (
        lambda f: change(f / "adapter_config.json", base_model_name_or_path="bookworm"),
        ("does not fit its base", "256", "base_model_name_or_path"),
    ),
    "on a base of fewer layers": (
        lambda f: [shutil.copytree(f.parent / "base", f / "short"), shallow(f)],
        ("does not fit its base", "the base has no layers.1.", "base_model_name_or_path"),
    ),
    "base missing": (
        lambda f: change(f / "adapter_config.json", base_model_name_or_path="../gone"),
        ("the adapter's base '../gone' is not here", "adapter_config.json", "base_model_name_or_path"),
    ),
    "base of the hub that is not here": (
        lambda f: change(f / "adapter_config.json", base_model_name_or_path="org/gone", revision="abc"),
        ("the adapter's base 'org/gone' is not here", "cannot be reached", "base_model_name_or_path"),
    ),
    "no base named": (
        lambda f: change(f / "adapter_config.json", base_model_name_or_path=None),
        ("does not name its base", "base_model_name_or_path"),
    ),
    "prompt learning": (
        lambda f: change(f / "adapter_config.json", peft_type="PROMPT_TUNING"),
        ("PROMPT_TUNING cannot be merged", "stands before the prompt", "give its base"),
    ),
    "unknown type": (
        lambda f: change(f / "adapter_config.json", peft_type="LORRA"),
        ("no type of adapter 'LORRA'", "pip install -U peft"),
    ),
    "adapter cut off": (lambda f: cut(f / ADAPTER), ("cut off or broken", ADAPTER)),
    "adapter without weights": (lambda f: (f / ADAPTER).unlink(), ("no weights", f"it needs {ADAPTER}")),
    "whole model beside it": (
        lambda f: shutil.copy(f.parent / "base" / MODEL, f),
        ("an adapter and a whole model", "give each a folder"),
    ),
}
ASKED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown dtype": (("--dtype", "fp16"), ("--dtype fp16", "did you mean 'float16'?")),
    "unknown device": (("--device", "tpu"), ("--device tpu", "Valid: auto, cpu, cuda")),
    "device not there": (("--device", "cuda:99"), ("--device cuda:99", "--device auto")),
    "hub not reached": (("--model", "org/gone@abc"), ("no model 'org/gone@abc'", "cache", "HF_HUB_OFFLINE")),
    "revision of a folder": (("--model", "./sound@main"), ("a folder has no revisions", "--model ./sound")),
    "revision of a shipped model": (("--model", "bookworm@main"), ("a folder has no revisions", "--model bookworm")),
    "revision left out": (("--model", "org/name@"), ("no model 'org/name@'", "org/model@commit")),
    "a file": (("--model", "./sound/config.json"), ("is a file, and a model is a folder", "give the folder")),
}


def shallow(folder: Path) -> None:
    """Leave a base with the first layer alone, and call it the adapter's."""
    from safetensors.numpy import load_file, save_file

    file = folder / "short" / MODEL
    kept = {name: tensor for name, tensor in load_file(file).items() if ".layers.1." not in name}
    save_file(kept, file, metadata={"format": "pt"})
    change(folder / "adapter_config.json", base_model_name_or_path="short")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_task: MakeTask, tiny: Checkpoint) -> Path:
    """A task, a sound model, and all that are spoilt."""
    from peft import LoraConfig, get_peft_model

    place = tmp_path_factory.mktemp("models")
    make_task(place / "task")
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)
    get_peft_model(tiny.load().model, lora).save_pretrained(place / "lora")
    change(place / "lora" / "adapter_config.json", base_model_name_or_path="../base")
    for name in ("sound", "base"):
        shutil.copytree(tiny.folder, place / name)
    for cases, sound in ((SPOILT, "sound"), (MISFITS, "lora")):
        for name, (spoil, _) in cases.items():
            shutil.copytree(place / sound, place / name)
            spoil(place / name)
    return place


def said(name: str) -> tuple[str, ...]:
    return (SPOILT | MISFITS).get(name, ((), ()))[1] or ASKED[name][1]


@pytest.fixture(scope="module")
def results(folder: Path, environment: dict[str, str]) -> dict[str, Result]:
    run = ("run", "--task", "task", "--methods", "lora")
    asked: dict[str, tuple[str, ...]] = {name: (*run, "--model", f"./{name}") for name in SPOILT | MISFITS}
    asked |= {name: (*run, "--model", "./sound", *more) for name, (more, _) in ASKED.items()}
    asked["adapter that fits"] = (*run, "--model", "./lora", "--dry-run")
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(list(asked.values()))],
        cwd=folder,
        env=environment | {"HF_HOME": str(folder.parent / "hub")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*")) == before, "something was written"
    return {name: Result(*result) for name, result in zip(asked, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("name", [*SPOILT, *MISFITS, *ASKED])
def test_a_model_that_cannot_be_used_is_refused_on_one_screen(results: dict[str, Result], name: str) -> None:
    result = results[name]
    assert (result.code, result.out, result.heavy) == (2, "", []), result.err
    assert result.err.startswith("bench: ") and "mend:" in result.err, result.err
    assert len(result.err.splitlines()) <= LINES
    assert not [words for words in said(name) if words not in result.err], result.err


def test_an_adapter_that_fits_its_base_is_planned_without_a_learning_library(results: dict[str, Result]) -> None:
    result = results["adapter that fits"]
    assert (result.code, result.heavy) == (None, []) or (result.code, result.heavy) == (0, []), result.err
    assert '"ref": "./lora"' in result.out
