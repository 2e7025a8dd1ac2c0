"""A model that cannot be used ends in an error with location and hint; nothing is imported or written before that."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeTask
from support import CommandResult, run_commands

from bench.modeling.checkpoint import Checkpoint

MODEL, ADAPTER = "model.safetensors", "adapter_model.safetensors"
MAX_MESSAGE_LINES = 8


class ShellCommand:
    """Unpickling it runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo the pickle ran a command",)


def update_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def remove_shard(folder: Path) -> None:
    """Write an index of two shards of which only one exists."""
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / MODEL).rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def replace_by_pickle(folder: Path, content: bytes) -> None:
    (folder / MODEL).unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("model/data.pkl", content)


def replace_by_truncated_pickle(folder: Path) -> None:
    replace_by_pickle(folder, pickle.dumps({}))
    truncate(folder / "pytorch_model.bin")


def clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def overwrite_header(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[9:40] = b"?" * 31
    (folder / MODEL).write_bytes(content)


def add_model_code(folder: Path) -> None:
    update_json(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})


def add_tokenizer_code(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    update_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": "mine.Mine"})


def use_shallow_base(folder: Path) -> None:
    """Let the adapter name a base that has only the first layer."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder.parent / "base", folder / "shallow")
    file = folder / "shallow" / MODEL
    tensors = {name: tensor for name, tensor in load_file(file).items() if ".layers.1." not in name}
    save_file(tensors, file, metadata={"format": "pt"})
    update_json(folder / "adapter_config.json", base_model_name_or_path="shallow")


Damage = Callable[[Path], Any]

# For each case the damage to a valid model, and texts that the message must contain.
DAMAGED_MODELS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "empty folder": (clear, ("the model folder is empty", "save_pretrained")),
    "no config": (lambda f: (f / "config.json").unlink(), ("no config.json", "save_pretrained")),
    "invalid config": (
        lambda f: (f / "config.json").write_text("{", "utf-8"),
        ("config.json is not valid JSON", "config.json", "copy or save the file again"),
    ),
    "unknown model type": (
        lambda f: update_json(f / "config.json", model_type="lama"),
        ("no model of type 'lama' that generates text", "pip install -U transformers", "did you mean 'llama'?"),
    ),
    "model code": (add_model_code, ("needs code of its own", "'mine'", "trust_remote_code is always off")),
    "tokenizer code": (add_tokenizer_code, ("the tokenizer needs code of its own", "tokenizer.json")),
    "quantized": (
        lambda f: update_json(f / "config.json", quantization_config={"quant_method": "gptq"}),
        ("are quantized (gptq)", "optimum, gptqmodel", "pip install optimum gptqmodel", "qlora quantizes by itself"),
    ),
    "quantized in another way": (
        lambda f: update_json(f / "config.json", quantization_config={"quant_method": "aqlm"}),
        ("already quantized (aqlm)", "bitsandbytes, gptq, awq are supported", "qlora quantizes by itself"),
    ),
    "truncated weights": (
        lambda f: truncate(f / MODEL),
        ("truncated or damaged", "bytes, the file has", MODEL, "download"),
    ),
    "empty weights": (lambda f: (f / MODEL).write_bytes(b""), ("truncated or damaged", "0 bytes", MODEL)),
    "invalid header": (overwrite_header, ("truncated or damaged", "not a list of tensors", MODEL)),
    "missing shard": (remove_shard, ("1 of 2 weight files are missing", "00002-of-00002", "download them again")),
    "no weights": (lambda f: (f / MODEL).unlink(), ("no weights", "it needs model.safetensors")),
    "pickle with code": (
        lambda f: replace_by_pickle(f, pickle.dumps({"a": ShellCommand()}, protocol=2)),
        ("more than tensors", "posix system", "weights_only", "safetensors"),
    ),
    "pickle with code, protocol 4": (
        lambda f: replace_by_pickle(f, pickle.dumps({"a": ShellCommand()})),
        ("more than tensors", "weights_only"),
    ),
    "truncated pickle": (
        replace_by_truncated_pickle,
        ("truncated or damaged", "torch 1.6", "pytorch_model.bin"),
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("no tokenizer", "save the tokenizer beside")),
}
# The same for an adapter whose valid base model lies beside it.
DAMAGED_ADAPTERS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "another base": (
        lambda f: update_json(f / "adapter_config.json", base_model_name_or_path="bookworm"),
        ("does not fit its base", "256", "base_model_name_or_path"),
    ),
    "base with fewer layers": (
        use_shallow_base,
        ("does not fit its base", "the base has no layers.1.", "base_model_name_or_path"),
    ),
    "missing base folder": (
        lambda f: update_json(f / "adapter_config.json", base_model_name_or_path="../gone"),
        ("the base model '../gone' of the adapter is not found", "adapter_config.json", "base_model_name_or_path"),
    ),
    "base not in the cache": (
        lambda f: update_json(f / "adapter_config.json", base_model_name_or_path="org/gone", revision="abc"),
        ("the base model 'org/gone' of the adapter is not found", "cannot be reached", "base_model_name_or_path"),
    ),
    "no base named": (
        lambda f: update_json(f / "adapter_config.json", base_model_name_or_path=None),
        ("does not name its base", "base_model_name_or_path"),
    ),
    "prompt learning": (
        lambda f: update_json(f / "adapter_config.json", peft_type="PROMPT_TUNING"),
        ("PROMPT_TUNING cannot be merged", "virtual tokens before the prompt", "use its base model"),
    ),
    "unknown adapter type": (
        lambda f: update_json(f / "adapter_config.json", peft_type="LORRA"),
        ("no adapter type 'LORRA'", "pip install -U peft"),
    ),
    "truncated adapter": (lambda f: truncate(f / ADAPTER), ("truncated or damaged", ADAPTER)),
    "adapter without weights": (lambda f: (f / ADAPTER).unlink(), ("no weights", f"it needs {ADAPTER}")),
    "model in adapter folder": (
        lambda f: shutil.copy(f.parent / "base" / MODEL, f),
        ("both an adapter and a whole model", "a folder of its own"),
    ),
}
# For each case further options of `bench run`, and texts that the message must contain.
INVALID_OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown dtype": (("--dtype", "fp16"), ("--dtype fp16", "did you mean 'float16'?")),
    "unknown device": (("--device", "tpu"), ("--device tpu", "valid: auto, cpu, cuda")),
    "missing device": (("--device", "cuda:99"), ("--device cuda:99", "--device auto")),
    "not in the cache": (("--model", "org/gone@abc"), ("model 'org/gone@abc' not found", "cache", "HF_HUB_OFFLINE")),
    "revision of a folder": (("--model", "./valid@main"), ("a folder has no revisions", "--model ./valid")),
    "revision of a shipped model": (("--model", "bookworm@main"), ("a folder has no revisions", "--model bookworm")),
    "empty revision": (("--model", "org/name@"), ("model 'org/name@' not found", "org/model@commit")),
    "file": (("--model", "./valid/config.json"), ("is a file, but a model is a folder", "use the folder")),
}
EXPECTED_TEXTS = {
    name: texts for cases in (DAMAGED_MODELS, DAMAGED_ADAPTERS, INVALID_OPTIONS) for name, (_, texts) in cases.items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_task: MakeTask, tiny: Checkpoint) -> Path:
    """A folder with a task, a valid model and adapter, and all damaged ones."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("models")
    make_task(folder / "task")
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)
    get_peft_model(tiny.load().model, lora).save_pretrained(folder / "lora")
    update_json(folder / "lora" / "adapter_config.json", base_model_name_or_path="../base")
    for name in ("valid", "base"):
        shutil.copytree(tiny.folder, folder / name)
    for cases, original in ((DAMAGED_MODELS, "valid"), (DAMAGED_ADAPTERS, "lora")):
        for name, (damage, _) in cases.items():
            shutil.copytree(folder / original, folder / name)
            damage(folder / name)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path, environment: dict[str, str]) -> dict[str, CommandResult]:
    run = ("run", "--task", "task", "--methods", "lora")
    command_lines: dict[str, tuple[str, ...]] = {
        name: (*run, "--model", f"./{name}") for name in [*DAMAGED_MODELS, *DAMAGED_ADAPTERS]
    }
    command_lines |= {name: (*run, "--model", "./valid", *options) for name, (options, _) in INVALID_OPTIONS.items()}
    command_lines["valid adapter"] = (*run, "--model", "./lora", "--dry-run")
    files_before = sorted(folder.rglob("*"))
    results = run_commands(command_lines, folder, environment | {"HF_HOME": str(folder.parent / "hub")})
    assert sorted(folder.rglob("*")) == files_before, "a command wrote files"
    return results


@pytest.mark.parametrize("name", EXPECTED_TEXTS)
def test_run_unusable_model_prints_short_error_with_hint(results: dict[str, CommandResult], name: str) -> None:
    result = results[name]
    assert (result.code, result.out, result.heavy) == (2, "", []), result.err
    assert result.err.removeprefix("Planning the runs …\n").startswith("error: ") and "hint:" in result.err, result.err
    assert len(result.err.splitlines()) <= MAX_MESSAGE_LINES
    assert not [text for text in EXPECTED_TEXTS[name] if text not in result.err], result.err


def test_run_valid_adapter_is_planned_without_learning_library(results: dict[str, CommandResult]) -> None:
    result = results["valid adapter"]
    assert result.code in (None, 0) and result.heavy == [], result.err
    assert '"ref": "./lora"' in result.out
