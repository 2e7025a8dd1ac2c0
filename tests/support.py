"""Helpers that several test files share: a byte tokenizer, a tiny encoder, and the command line in one process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from bench.execution.budget import BudgetTracker
    from bench.modeling.checkpoint import Checkpoint

# Runs every command line of argv[1] one after the other in one process and notes which learning libraries are loaded.
RUNNER = """
import contextlib, io, json, sys
from bench.cli import main
results = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["bench", *line]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    heavy = sorted({"torch", "transformers", "peft", "trl", "sklearn", "datasets", "ray"} & set(sys.modules))
    results.append([code, out.getvalue(), err.getvalue(), heavy])
print(json.dumps(results))
"""
ENGLISH_WORDS = [
    "the",
    "a",
    "red",
    "fox",
    "runs",
    "over",
    "river",
    "and",
    "sees",
    "3.5",
    "old",
    "houses",
    "near",
    "Seoul",
    "today",
]
KOREAN_WORDS = ["고양이가", "집에서", "책을", "읽고", "강아지는", "마당에서", "3.5", "시간", "동안", "잔다", "오늘"]
"""Words of random texts."""


@dataclass
class CommandResult:
    """Exit code and output of one command line."""

    code: int | None
    out: str
    err: str
    heavy: list[str]
    """Learning libraries that this command or an earlier one imported."""


def run_commands(
    command_lines: Mapping[str, Sequence[str]], folder: Path, environment: Mapping[str, str]
) -> dict[str, CommandResult]:
    """Run command lines of `bench` one after the other in one process; results by the names of the command lines."""
    process = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(list(command_lines.values()))],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    return {name: CommandResult(*result) for name, result in zip(command_lines, results, strict=True)}


def run_worker(job_file: Path, results: Path, progress_file: Path) -> None:
    """Run a job in this process, which afterwards has its folder for temporary files back."""
    from bench.execution import worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", tempfile.gettempdir())
        patch.setattr(tempfile, "tempdir", tempfile.gettempdir())
        worker.main(str(job_file), str(results), str(progress_file))


def byte_tokenizer(add_bos: bool = False, **special_tokens: Any) -> PreTrainedTokenizerFast:
    """One token per byte (ids 0 to 255), `<end>` (256) as end token and `<begin>` (257), which `add_bos` puts first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>", "<begin>"])
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", tokenizer.token_to_id("<begin>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", **special_tokens)


def tiny_encoder(folder: Path, **config_options: Any) -> Checkpoint:
    """A two-layer BERT with random weights and a byte tokenizer, saved to a new folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    from bench.modeling import checkpoint
    from bench.records import Decoding

    letters = ["[PAD]", "[CLS]", "[SEP]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    byte_level = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=128
    )
    config = BertConfig(
        vocab_size=len(letters),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.1,
        pad_token_id=0,
        **config_options,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checkpoint.check_model_folder(folder)
    return checkpoint.Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))


def fit_method(name: str, base: Checkpoint, *, steps: int, **params: Any) -> tuple[Any, BudgetTracker]:
    """Fit a method to the tiny training data with seed 0 and batches of 4; returns it and the budget that it used."""
    from bench import registry
    from bench.execution.budget import BudgetTracker
    from bench.measurement.determinism import seed_all
    from bench.records import BudgetLimits
    from bench.testing import tiny_training_data

    method: Any = registry.find_method(name)(**params)
    data = tiny_training_data()
    seed_all(0)
    budget = BudgetTracker(BudgetLimits(steps=steps, batch=4), len(data.train))
    return method.fit(method.load(base), data, budget), budget


def parameter_helps(command: Any, name: str = "bench") -> dict[str, str]:
    """The help of every option and argument of a command and its subcommands, by command and name."""
    texts = {f"{name} {parameter.name}": getattr(parameter, "help", None) or "" for parameter in command.params}
    for child, subcommand in getattr(command, "commands", {}).items():
        texts |= parameter_helps(subcommand, f"{name} {child}")
    return texts


def help_texts(command: Any, name: str = "bench") -> dict[str, str]:
    """The help of a command, its subcommands, and their options and arguments, by name."""
    texts = {name: command.help or ""} | parameter_helps(command, name)
    for child, subcommand in getattr(command, "commands", {}).items():
        texts |= help_texts(subcommand, f"{name} {child}")
    return texts
