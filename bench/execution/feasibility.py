"""What the harness would do with a model: its facts, and what each way of adapting would take; no weights are read."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig
from transformers import AutoTokenizer as Tokenizers

from bench import hub, registry
from bench.execution import budget
from bench.measurement import environment, memory_estimate
from bench.measurement.meter import MIB
from bench.modeling import adapter_checkpoint, checkpoint, model_config, weight_files
from bench.modeling.causal_lm import CausalLM
from bench.modeling.encoder import Encoder
from bench.modeling.loaded_model import ENCODING_BATCH_SIZE
from bench.records.record import Decoding


@dataclass(frozen=True)
class MemoryNeed:
    """The peak of each phase that a method would have on this machine, in MiB, libraries included."""

    method: str
    load_mib: float
    fit_mib: float
    answer_mib: float
    micro_batch: int | None
    """Examples that go through the model at once while training; None where nothing is trained."""
    fits: bool


@dataclass(frozen=True)
class Feasibility:
    """A model's facts in words and numbers, the machine, and what methods need."""

    facts: dict[str, Any]
    machine: dict[str, Any]
    memory_needs: tuple[MemoryNeed, ...]


def survey_model(model_ref: str, dtype: str, tokens: int) -> Feasibility:
    """Look at the model that `ref` names, for examples of so many tokens, answer included.

    The model is built without weights (on torch's meta device), so the formulas are those of a real run. Raises
    `UserError` for whatever a run would refuse.
    """
    folder = registry.find_model(model_ref)
    checkpoint.check_model_folder(folder)
    lm = _empty(folder, dtype)
    tokens = min(tokens, lm.context)
    cuda = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if cuda else environment.available_memory()
    held = 0 if cuda else psutil.Process().memory_info().rss
    machine = {
        "device": "cuda" if cuda else "cpu",
        "free_mib": round((free + held) / MIB),
        "libraries_mib": round(held / MIB),
        "dtype": dtype,
        "tokens": tokens,
    }
    needs = tuple(_needs(lm, tokens, free, held))
    return Feasibility(_facts(model_ref, folder, lm), machine, needs)


def _empty(folder: Path, dtype: str) -> Any:
    """The model as the harness would hold it, but for its weights."""
    root = checkpoint.base_model_folder(folder)
    writes = model_config.model_kind(model_config.read_config(root)) == "decoder"
    config = AutoConfig.from_pretrained(root, **checkpoint.LOCAL_FILES_ONLY)
    kind: Any = AutoModelForCausalLM if writes else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = kind.from_config(config, dtype=getattr(torch, dtype))
    if (root / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(root)
    tokenizer = Tokenizers.from_pretrained(checkpoint.tokenizer_folder(folder), **checkpoint.LOCAL_FILES_ONLY)
    return (CausalLM if writes else Encoder)(model, tokenizer, Decoding(max_new_tokens=1, stop=()))


def _needs(lm: Any, tokens: int, free: int, libraries: int) -> Iterator[MemoryNeed]:
    """What each method takes, at the micro-batch to which it would have to shrink."""
    for name, way in (WRITERS if lm.writes else READERS).items():
        for peaks in way(registry.find_method(name)(), lm, tokens):
            if fits := max(peaks.fit, peaks.answer) <= free:
                break
        load, fit, answer = (round((libraries + peak) / MIB) for peak in (peaks.load, peaks.fit, peaks.answer))
        yield MemoryNeed(name, load, fit, answer, peaks.micro_batch, fits)


@dataclass(frozen=True)
class Peaks:
    """The same in bytes and beside the libraries, for one micro-batch."""

    load: int
    fit: int
    answer: int
    micro_batch: int | None = None


def _prompted(method: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """Nothing is learnt, and prompts are as long as their shots make them."""
    load = memory_estimate.model_bytes(lm.model)
    yield Peaks(load, load, load + _answering(lm, min((method.k + 1) * tokens, lm.context)))


def _read(_: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """States of every layer are read off."""
    load = memory_estimate.model_bytes(lm.model)
    yield Peaks(
        load, load + memory_estimate.encoding_bytes(lm.model, ENCODING_BATCH_SIZE, tokens), load + _answering(lm, tokens)
    )


def _trained(method: Any, lm: Any, tokens: int, load: int | None = None) -> Iterator[Peaks]:
    """What `adapt` unfreezes, at every micro-batch, largest first."""
    model, load = _adapted(lm.model, method), memory_estimate.model_bytes(lm.model) if load is None else load
    full = budget.PRESETS["standard"].batch
    for size in (size for size in range(full, 0, -1) if full % size == 0):
        fit = load + memory_estimate.training_bytes(model, size * tokens) + _masters(model)
        yield Peaks(load, fit, load + _answering(lm, tokens), size)


def _quantized(_: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """LoRA's, beside weights of 4 bits: what is here of the model is not quantized, and QLoRA would not know it."""
    return _trained(registry.find_method("lora")(), lm, tokens, memory_estimate.quantized_bytes(lm.model))


READERS: dict[str, Callable[[Any, Any, int], Iterator[Peaks]]]
READERS = {"features": _read, "lora": _trained, "full": _trained}
WRITERS = {"few-shot": _prompted, "features": _read, "lora": _trained, "qlora": _quantized, "full": _trained}


def _answering(lm: Any, tokens: int) -> int:
    return memory_estimate.generation_bytes(lm.model, memory_estimate.max_batch_rows(lm.model, tokens), tokens)


def _adapted(model: Any, method: Any) -> Any:
    """A copy of the model with what the method trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT tells of what it sets right by itself
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # and this of kernels that nobody asks for here
        return method.adapt(copy.deepcopy(model))


def _masters(model: Any) -> int:
    """Bytes of what is trained in float32 and computed with in lower precision."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    # as float32 it grows by as much as its copy for computing takes
    return sum(2 * weight.numel() * weight.element_size() for weight in trained if weight.element_size() < 4)


def _facts(ref: str, folder: Path, lm: Any) -> dict[str, Any]:
    root = checkpoint.base_model_folder(folder)
    config, found = lm.model.config.get_text_config(), weight_files.find_weight_files(root)
    heads = getattr(config, "num_attention_heads", None)
    stored = {
        tensor.dtype
        for file in found
        if file.suffix == ".safetensors"
        for tensor in weight_files.read_tensor_headers(file).values()
    }
    return {
        "model": ref,
        "folder": str(folder),
        "adapter_on": str(root) if adapter_checkpoint.is_adapter(folder) else None,
        "revision": hub.commit_of(folder),
        "sha256": checkpoint.weights_digest(folder),
        "kind": "decoder" if lm.writes else "encoder",
        "architecture": type(lm.model).__name__,
        "parameters": lm.count()[0],
        "layers": getattr(config, "num_hidden_layers", None),
        "width": getattr(config, "hidden_size", None),
        "heads": heads,
        "key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
        "attention": getattr(config, "_attn_implementation", None),
        "vocabulary": config.vocab_size,
        "tied_embeddings": bool(getattr(config, "tie_word_embeddings", False)),
        "context": lm.context,
        "stored_in": sorted(stored) or ["pickle"],
        "files": len(found),
        "bytes": sum(file.stat().st_size for file in found),
        "chat_template": bool(lm.tokenizer.chat_template),
        **_tokens(root, lm),
    }


def _tokens(root: Path, lm: Any) -> dict[str, Any]:
    """The tokens that begin, end and fill, and where they come from."""
    tokenizer = lm.tokenizer
    named = Tokenizers.from_pretrained(root, **checkpoint.LOCAL_FILES_ONLY).pad_token
    ends = lm.model.generation_config.eos_token_id if lm.writes else []
    first = tokenizer.convert_ids_to_tokens(lm.tokens("a"))[0]
    return {
        "begins_with": first if first in tokenizer.all_special_tokens else None,
        "ends": tokenizer.convert_ids_to_tokens(ends),
        "fills_with": tokenizer.pad_token,
        "padding_named": named is not None,
    }
