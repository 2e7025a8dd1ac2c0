"""Settings of an exported script: template, prompt, generation, classifier, packages."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.export.provenance import Provenance
from bench.modeling import checkpoint
from bench.modeling.chat_template import THOUGHTS
from bench.source import parse_source
from bench.task import Task, TaskRow

# Every option that decides which tokens are generated, so that none is taken from the checkpoint.
GENERATION_OPTIONS = (
    "do_sample", "num_beams", "repetition_penalty", "max_new_tokens", "stop_strings",
    "eos_token_id", "pad_token_id", "bos_token_id", "use_cache",
)  # fmt: skip


NEAREST_SHOTS_FILE = "nearest_shots.json"
"""File that a method saves if it puts other solved examples before each question: `count`, and `examples` with
`input`, `target` and perhaps `rationale`."""
SHOTS_FILE = "shots.json"


def choose_template(provenance: Provenance, artifacts: Path) -> str | None:
    """Return the name of the script template, or None if no script can be written.

    A method names its template; for some the choice also depends on the task (labels or open answers), on the base
    model (decoder or encoder) and on the saved files.
    """
    template = provenance.export_template
    record = provenance.record
    if record.spec.decoding.constraint is not None and record.cost is not None and record.cost.parameters:
        return None  # a script would answer freely, and so otherwise than the run
    if template == "prompted":
        return "choose_label" if provenance.task.card.labels is not None else "generate"
    if template == "generate" and (artifacts / "labels.json").is_file():
        return "linear_probe"
    if template in ("generate", "bottleneck") and not checkpoint.is_decoder(provenance.base):
        return "labels" if template == "generate" else None
    return template


def prompt_settings(lm: Any, artifacts: Path, task: Task, seed: int) -> dict[str, Any]:
    """Return the settings with which a script builds prompts and answers as the run did.

    Args:
        lm: The loaded model of the run.
        artifacts: Folder saved by the method. It holds `prompt.json`, and `prior.json` if the method calibrated its
            label scores.
        task: Task of the run.
        seed: Seed of the run.
    """
    data = task.training_data(seed, chat=lm.chat)
    settings: dict[str, Any] = {"prompt": json.loads((artifacts / "prompt.json").read_text("utf-8"))["prompt"]}
    if not lm.can_generate:
        return settings | {"max_prompt_tokens": lm.context, "options": list(data.options)}
    # The prompt may write them itself; the script puts them first once.
    token_ids, options = lm.tokens(settings["prompt"]), list(data.options)
    special_token_ids = token_ids[: lm.count_leading(token_ids)]
    answer_tokens = max([lm.max_new_tokens, *(len(lm.tokens(option)) for option in options)])
    generation_config = lm.model.generation_config.to_dict() | {"stop_strings": _stop_strings(lm, lm.decoding.stop)}
    settings |= {
        "prefix_token_ids": special_token_ids,
        "max_prompt_tokens": max(lm.context - answer_tokens - len(special_token_ids), 1),
        "generation_config": {name: generation_config.get(name) for name in GENERATION_OPTIONS},
    }
    if lm.chat is not None:
        settings["generation_config"]["stop_strings"] = None  # the script itself stops, and not within thoughts
        settings["chat"] = chat_settings(lm)
    if options:
        priors = artifacts / "prior.json"
        settings |= {"labels": list(data.labels or ()), "options": options}
        settings["option_priors"] = json.loads(priors.read_text("utf-8")) if priors.is_file() else [0.0] * len(options)
    return settings


def shot_settings(lm: Any, folder: Path, task: Task, seed: int) -> dict[str, Any]:
    """Return the settings with which a script puts the nearest examples before a question.

    The examples that the method saved are replaced by their texts in a prompt, in the file `shots.json`.

    Args:
        lm: The loaded model of the run.
        folder: The exported folder with the files of the method.
        task: Task of the run.
        seed: Seed of the run.
    """
    saved = json.loads((folder / NEAREST_SHOTS_FILE).read_text("utf-8"))
    (folder / NEAREST_SHOTS_FILE).unlink()
    data = task.training_data(seed, chat=lm.chat)
    shots = []
    for example in saved["examples"]:
        row = TaskRow("", example["input"], (example["target"],), example.get("rationale"))
        with_rationale = row.rationale is not None
        if lm.chat is None:
            texts = {"text": data.solved(row, with_rationale)}
        else:
            texts = {"user": data.user_turn(row.input), "assistant": data.answer_text(row, with_rationale)}
        shots.append({"input": row.input} | texts)
    (folder / SHOTS_FILE).write_text(json.dumps(shots, ensure_ascii=False, indent=1), "utf-8")
    settings = {"count": saved["count"], "max_prompt_tokens": lm.context - lm.max_new_tokens}
    if lm.chat is None:
        return settings | {"head": data.head}
    return settings | {
        "instruction": task.card.instruction,
        "instruction_role": lm.chat.instruction_role,
        "user_turn": data.user_turn("{input}"),
        "chat_template": lm.chat.source,
        "variables": lm.chat.variables,
        "header": lm.chat.header,
    }


def chat_settings(lm: Any) -> dict[str, Any]:
    """Return the settings with which a script finds the answer in a turn of a chat."""
    return {
        "thoughts": list(THOUGHTS),
        "starts_thinking": lm.chat.starts_thinking,
        "mark_ids": lm.chat.mark_ids,
        "stop_texts": lm.stop_texts,
        "end_text": lm.chat.end_text,
    }


def _stop_strings(lm: Any, stop_texts: Sequence[str]) -> list[str] | None:
    """Return the texts that end an answer, for `generate`; None if no token can end it.

    `generate` fails if a vocabulary cannot spell a stop text. Such a text never stops an answer anyway.
    """
    spelled = [lm.tokenizer.decode(lm.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in stop_texts]
    return [text for text, decoded in zip(stop_texts, spelled, strict=True) if text in decoded] or None


def probe_settings(artifacts: Path, folder: Path) -> dict[str, Any]:
    """Return the settings of a classifier on hidden states, with its weights' file name.

    The method `features` saves such a classifier. A trained classification layer is written as one: mean 0, scale 1,
    on the last layer.
    """
    classifier = folder / "classifier.safetensors"
    if (artifacts / "reader.json").is_file():
        saved = json.loads((artifacts / "reader.json").read_text("utf-8"))
        (folder / "reader.safetensors").rename(classifier)
        (folder / "reader.json").unlink()  # its content is part of the settings
        return {
            "layer": saved["layer"],
            "pooling": saved["pool"],
            "neighbors": saved["voters"],
            "answers": saved["answers"],
        }
    from safetensors.torch import load_file, save_file

    layer = load_file(artifacts / "trained.safetensors")
    weights, bias = layer["labels.weight"], layer["labels.bias"]
    mean = weights.new_zeros(weights.shape[1])
    save_file({"mean": mean, "scale": mean + 1, "weights": weights, "bias": bias}, classifier)
    (folder / "trained.safetensors").unlink()
    labels = json.loads((artifacts / "labels.json").read_text("utf-8"))
    if isinstance(labels, list):  # artifacts of earlier versions, which read the last token of every model
        labels = {"answers": labels, "pool": "last"}
    return {"layer": 1.0, "pooling": labels["pool"], "neighbors": 1, "answers": labels["answers"]}


def required_packages(script: Path) -> str:
    """Return the packages to install for a script, by their names on PyPI."""
    nodes = ast.walk(parse_source(script.read_text("utf-8")))
    imported = {name for node in nodes for name in _imported_modules(node)}
    modules = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    packages = metadata.packages_distributions()
    return ", ".join(sorted(packages.get(module, [module])[0] for module in modules)) or "nothing but Python"


def _imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return []
