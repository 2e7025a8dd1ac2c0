"""Properties of a base model and the memory that each method needs with it.

The weights of the model are not loaded.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from bench import hub, registry
from bench.errors import UserError
from bench.execution import budget
from bench.measurement import environment, memory_estimate
from bench.measurement.meter import MIB
from bench.modeling import adapter_checkpoint, checkpoint, compat, loaded_model, weight_files
from bench.modeling.causal_lm import CausalLM
from bench.modeling.encoder import Encoder
from bench.modeling.loaded_model import ENCODING_BATCH_SIZE
from bench.records import Decoding


@dataclass(frozen=True)
class MemoryNeed:
    """Estimated peak memory of each phase of a method, in MiB, libraries included."""

    method: str
    load_mib: float
    fit_mib: float
    answer_mib: float
    micro_batch: int | None
    """Examples per forward pass in training; None if nothing is trained."""
    fits: bool


@dataclass(frozen=True)
class ModelFacts:
    """Properties of a base model."""

    model: str
    folder: str
    adapter_on: str | None
    """Folder of the base if the model is an adapter; None for a whole model."""
    revision: str | None
    """Commit on the hub; None for other models."""
    sha256: str
    kind: Literal["decoder", "encoder"]
    architecture: str
    parameters: int
    layers: int | None
    width: int | None
    heads: int | None
    key_value_heads: int | None
    attention: str | None
    vocabulary: int
    tied_embeddings: bool
    context: int | None
    """Maximum tokens of a prompt and its answer together; None without limit."""
    stored_in: list[str]
    """Data types of the weight files; `pickle` if there are only pickled ones."""
    files: int
    bytes: int
    chat_template: bool
    begins_with: str | None
    """Special token at the start of every prompt; None without one."""
    ends: list[str]
    """Tokens that end an answer; empty for an encoder."""
    fills_with: str | None
    """Padding token."""
    padding_named: bool
    """False if the tokenizer names no padding token, so that another token takes its place."""


@dataclass(frozen=True)
class MachineFacts:
    """Device, memory and settings of an estimate."""

    device: Literal["cuda", "cpu"]
    free_mib: int
    """Memory that a run may take, with its libraries."""
    libraries_mib: int
    """Memory that the libraries take of it; 0 on CUDA, whose memory they do not use."""
    dtype: str
    tokens: int


@dataclass(frozen=True)
class Feasibility:
    """A model, this machine and the memory that methods need."""

    facts: ModelFacts
    machine: MachineFacts
    memory_needs: tuple[MemoryNeed, ...]


def survey_model(model_ref: str, dtype: str, tokens: int) -> Feasibility:
    """Describe a model and estimate the memory of the methods.

    The model is built on torch's meta device, without weights, so that the formulas are those of a real run.

    Args:
        model_ref: Name, folder or hub name of the model.
        dtype: Data type of weights and computation.
        tokens: Tokens of the longest example, answer included.

    Raises:
        UserError: A run would reject the model.
    """
    folder = registry.find_model(model_ref)
    checkpoint.check_model_folder(folder)
    lm = build_empty_model(folder, dtype)
    tokens = min(tokens, lm.context)
    has_cuda = torch.cuda.is_available()
    free_bytes = torch.cuda.mem_get_info()[0] if has_cuda else environment.available_memory()
    library_bytes = 0 if has_cuda else psutil.Process().memory_info().rss
    machine = MachineFacts(
        device="cuda" if has_cuda else "cpu",
        free_mib=round((free_bytes + library_bytes) / MIB),
        libraries_mib=round(library_bytes / MIB),
        dtype=dtype,
        tokens=tokens,
    )
    try:
        needs = tuple(estimate_memory_needs(lm, tokens, free_bytes, library_bytes))
    except (RuntimeError, NotImplementedError) as error:
        if lm.can_generate:
            raise
        raise UserError(
            f"the memory of a {type(lm.model).__name__} cannot be estimated without its weights: {error}",
            location=str(folder),
            hint=f"bench run --model {model_ref} needs no estimate and measures it",
        ) from error
    return Feasibility(_model_facts(model_ref, folder, lm), machine, needs)


def build_empty_model(folder: Path, dtype: str) -> Any:
    """Return the model as a run would load it, on the meta device without weights."""
    root = checkpoint.base_model_folder(folder)
    is_decoder = checkpoint.is_decoder(folder)
    checkpoint.prepare_config(folder)
    config = AutoConfig.from_pretrained(root, **checkpoint.LOCAL_FILES_ONLY)
    auto_model: Any = AutoModelForCausalLM if is_decoder else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = auto_model.from_config(config, dtype=getattr(torch, dtype))
    if (root / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(root)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.tokenizer_folder(folder), **checkpoint.LOCAL_FILES_ONLY)
    return (CausalLM if is_decoder else Encoder)(model, tokenizer, Decoding(max_new_tokens=1, stop=()))


def estimate_memory_needs(lm: Any, tokens: int, free_bytes: int, library_bytes: int) -> Iterator[MemoryNeed]:
    """Yield the memory need of each method, at the largest micro-batch that fits.

    If none fits, it is the need at the smallest one.

    Args:
        lm: The model, on the meta device.
        tokens: Tokens of the longest example, answer included.
        free_bytes: Memory available besides the libraries.
        library_bytes: Memory of the libraries.
    """
    estimators = DECODER_ESTIMATORS if lm.can_generate else ENCODER_ESTIMATORS
    for name, estimate in estimators.items():
        for peaks in estimate(registry.find_method(name)(), lm, tokens):
            if fits := max(peaks.fit, peaks.answer) <= free_bytes:
                break
        load, fit, answer = (round((library_bytes + peak) / MIB) for peak in (peaks.load, peaks.fit, peaks.answer))
        yield MemoryNeed(name, load, fit, answer, peaks.micro_batch, fits)


@dataclass(frozen=True)
class Peaks:
    """Estimated peak of each phase in bytes, without the libraries, for one micro-batch."""

    load: int
    fit: int
    answer: int
    micro_batch: int | None = None


def _prompting_peaks(method: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """Yield the peaks of few-shot prompting: no training, `k` examples per prompt."""
    load = memory_estimate.model_bytes(lm.model)
    prompt_tokens = min((method.k + 1) * tokens, lm.context)
    yield Peaks(load, load, load + _answer_bytes(lm, prompt_tokens))


def _feature_peaks(_: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """Yield the peaks of a method that reads the hidden states of all layers."""
    load = memory_estimate.model_bytes(lm.model)
    encoding_bytes = memory_estimate.encoding_bytes(lm.model, ENCODING_BATCH_SIZE, tokens)
    yield Peaks(load, load + encoding_bytes, load + _answer_bytes(lm, tokens))


def _training_peaks(method: Any, lm: Any, tokens: int, load: int | None = None) -> Iterator[Peaks]:
    """Yield the peaks of a gradient-trained method for every micro-batch, largest first."""
    model = _adapt_copy(lm.model, method)
    if load is None:
        load = memory_estimate.model_bytes(lm.model)
    batch = budget.PRESETS["standard"].batch
    for micro_batch in range(batch, 0, -1):
        if batch % micro_batch == 0:
            training_bytes = memory_estimate.training_bytes(model, micro_batch * tokens)
            fit = load + training_bytes + _master_weight_bytes(model)
            yield Peaks(load, fit, load + _answer_bytes(lm, tokens), micro_batch)


def _quantized_training_peaks(_: Any, lm: Any, tokens: int) -> Iterator[Peaks]:
    """Yield the peaks of QLoRA as those of LoRA beside 4-bit weights.

    QLoRA itself would not recognize the model on the meta device, which is not quantized.
    """
    return _training_peaks(registry.find_method("lora")(), lm, tokens, memory_estimate.quantized_bytes(lm.model))


PeakEstimator = Callable[[Any, Any, int], Iterator[Peaks]]
"""Yields the peaks of a method, from the method, the model and the tokens of an example."""

ENCODER_ESTIMATORS: dict[str, PeakEstimator] = {
    "features": _feature_peaks,
    "lora": _training_peaks,
    "full": _training_peaks,
}
DECODER_ESTIMATORS: dict[str, PeakEstimator] = {
    "few-shot": _prompting_peaks,
    "features": _feature_peaks,
    "lora": _training_peaks,
    "qlora": _quantized_training_peaks,
    "full": _training_peaks,
}


def _answer_bytes(lm: Any, tokens: int) -> int:
    rows = memory_estimate.max_batch_rows(lm.model, tokens)
    return memory_estimate.generation_bytes(lm.model, rows, tokens)


def _adapt_copy(model: Any, method: Any) -> Any:
    """Return a copy of the model with the parameters that the method trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns about settings that it corrects itself
        # bitsandbytes reports missing kernels, which are not used here.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        return method.adapt(copy.deepcopy(model))


def _master_weight_bytes(model: Any) -> int:
    """Return the bytes that float32 master copies of 16-bit trained weights add.

    A 16-bit weight grows by its own size as float32, and its copy for computing takes the same again.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return sum(2 * weight.numel() * weight.element_size() for weight in trained if weight.element_size() < 4)


def _model_facts(ref: str, folder: Path, lm: Any) -> ModelFacts:
    root = checkpoint.base_model_folder(folder)
    config = lm.model.config.get_text_config()
    weight_paths = weight_files.find_weight_files(root)
    dtypes = set()
    for file in weight_paths:
        if file.suffix == ".safetensors":
            dtypes |= {header.dtype for header in weight_files.read_tensor_headers(file).values()}
    heads = getattr(config, "num_attention_heads", None)
    tokenizer = lm.tokenizer
    first_token = tokenizer.convert_ids_to_tokens(lm.tokens("a"))[0]
    end_ids = lm.model.generation_config.eos_token_id if lm.can_generate else []
    named_padding = AutoTokenizer.from_pretrained(root, **checkpoint.LOCAL_FILES_ONLY).pad_token
    return ModelFacts(
        model=ref,
        folder=str(folder),
        adapter_on=str(root) if adapter_checkpoint.is_adapter(folder) else None,
        revision=hub.commit_of(folder),
        sha256=checkpoint.weights_digest(folder),
        kind="decoder" if lm.can_generate else "encoder",
        architecture=type(lm.model).__name__,
        parameters=lm.count_parameters()[0],
        layers=getattr(config, "num_hidden_layers", None),
        width=getattr(config, "hidden_size", None),
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        attention=compat.attention_implementation(lm.model),
        vocabulary=getattr(config, "vocab_size", 0),
        tied_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
        context=loaded_model.context_limit(lm),
        stored_in=sorted(dtypes) or ["pickle"],
        files=len(weight_paths),
        bytes=sum(file.stat().st_size for file in weight_paths),
        chat_template=bool(tokenizer.chat_template),
        begins_with=first_token if first_token in tokenizer.all_special_tokens else None,
        ends=tokenizer.convert_ids_to_tokens(end_ids),
        fills_with=tokenizer.pad_token,
        padding_named=named_padding is not None,
    )
