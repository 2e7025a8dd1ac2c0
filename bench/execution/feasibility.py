"""Properties of a base model and the memory that each method needs with it.

The weights of the model are not loaded.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
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
from bench.i18n import Message
from bench.measurement import environment, memory_estimate
from bench.measurement.device import check_device
from bench.measurement.meter import MIB
from bench.modeling import adapter_checkpoint, checkpoint, compat, loaded_model, prompt_format, weight_files
from bench.modeling.causal_lm import CausalLM
from bench.modeling.chat_template import ChatTemplate
from bench.modeling.encoder import Encoder
from bench.modeling.loaded_model import ENCODING_BATCH_SIZE
from bench.records import BudgetLimits, Decoding, PromptSpec
from bench.records.budget_text import PRESETS
from bench.training import checkpointing, optimizer
from bench.training.micro_batch import RESERVE_BYTES

LOGIT_SHARE = 0.25
"""Share of the tokens of a training row for which logits are estimated: the answer, and prompts of other lengths."""


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
    fits_in_smaller_batches: bool
    """True if it fits, or would fit with a limit of memory, under which a run makes its batches smaller."""
    activation_checkpointing: bool = False
    """True if it fits only because layers are computed twice, as a run does where not even one row fits otherwise."""


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
    """True if prompts are turns of a chat by default."""
    chat_template_problem: str | None
    """Reason why the chat template cannot be used; None if it can, or if there is none."""
    generation_prompt: bool
    """True if the chat template writes the start of an answer when asked to (`add_generation_prompt`)."""
    instruction_role: str
    """Role of the instruction in a chat, `system` or `user`; `none` without chat template."""
    thinking: str
    """Thoughts before an answer: `off`, `on`, or `none` if the chat template has none."""
    ends_turn: str | None
    """Token or text that ends an answer in a chat; None if the chat template writes none."""
    begins_with: str | None
    """Special token at the start of every prompt; None without one."""
    ends: list[str]
    """Tokens that end an answer; empty for an encoder."""
    fills_with: str | None
    """Padding token."""
    quantization: str | None
    """How the weights are stored quantized, such as `gptq`; None if they are not."""
    padding_named: bool
    """False if the tokenizer names no padding token, so that another token takes its place."""


@dataclass(frozen=True)
class MachineFacts:
    """Device, memory and settings of an estimate."""

    device: Literal["cuda", "cpu", "mps"]
    free_mib: int
    """Memory of the device that a run may take, with its libraries; at most the memory of the budget."""
    libraries_mib: int
    """Memory that the libraries take of it; 0 on CUDA, whose memory they do not use."""
    dtype: str
    tokens: int
    shrinks_batches: bool
    """True if a run makes its batches smaller where memory runs out: on a GPU, or with a limit of memory."""


@dataclass(frozen=True)
class Feasibility:
    """A model, this machine and the memory that methods need."""

    facts: ModelFacts
    machine: MachineFacts
    memory_needs: tuple[MemoryNeed, ...]


def survey_model(
    model_ref: str, dtype: str, tokens: int, device: str = "auto", limits: BudgetLimits | None = None
) -> Feasibility:
    """Describe a model and estimate the memory of the methods.

    The model is built on torch's meta device, without weights, so that the formulas are those of a real run.

    Args:
        model_ref: Name, folder or hub name of the model.
        dtype: Data type of weights and computation.
        tokens: Tokens of the longest example, answer included.
        device: Device as in `--device`.
        limits: Budget of the runs; None for the standard budget.

    Raises:
        UserError: A run would reject the model or the device.
    """
    limits = limits or PRESETS["standard"]
    check_device(device)
    folder = registry.find_model(model_ref)
    checkpoint.check_model_folder(folder)
    lm = build_empty_model(folder, dtype)
    tokens = min(tokens, lm.context)
    kind, free_bytes, library_bytes = _free_memory(device)
    if limits.memory is not None:
        free_bytes = min(free_bytes, limits.memory - library_bytes)
    machine = MachineFacts(
        device=kind,
        free_mib=round((free_bytes + library_bytes) / MIB),
        libraries_mib=round(library_bytes / MIB),
        dtype=dtype,
        tokens=tokens,
        shrinks_batches=kind == "cuda" or limits.memory is not None,
    )
    try:
        needs = tuple(
            estimate_memory_needs(
                lm,
                tokens,
                free_bytes,
                library_bytes,
                batch=limits.batch,
                shrinks=machine.shrinks_batches,
                quantized_bytes=_stored_bytes(folder, lm),
            )
        )
    except (RuntimeError, NotImplementedError) as error:
        if lm.can_generate:
            raise
        raise UserError(
            Message(
                "the memory of a {kind} cannot be estimated without its weights: {problem}",
                kind=type(lm.model).__name__,
                problem=error,
            ),
            location=str(folder),
            hint=Message("bench run --model {model} needs no estimate and measures it", model=model_ref),
        ) from error
    return Feasibility(_model_facts(model_ref, folder, lm), machine, needs)


def _free_memory(device: str) -> tuple[Literal["cuda", "cpu", "mps"], int, int]:
    """Return the kind of a device, its free bytes, and the bytes that libraries hold there.

    Weights go straight to a GPU, so the memory of the host does not matter there.
    """
    if device not in ("cpu", "mps") and torch.cuda.is_available():
        return "cuda", torch.cuda.mem_get_info("cuda" if device == "auto" else device)[0], 0
    libraries = psutil.Process().memory_info().rss
    return "mps" if device == "mps" else "cpu", environment.available_memory(), libraries


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
    tokenizer = checkpoint.load_whole_tokenizer(folder)
    return (CausalLM if is_decoder else Encoder)(model, tokenizer, Decoding(max_new_tokens=1, stop=()))


def _stored_bytes(folder: Path, lm: Any) -> int | None:
    """Return the bytes of quantized weights, once loaded; None if they are not quantized."""
    if checkpoint.quantization(folder) is None:
        return None
    return weight_files.stored_bytes(
        weight_files.find_weight_files(folder), lm.model.state_dict().keys(), lm.model.dtype.itemsize
    )


def estimate_memory_needs(
    lm: Any,
    tokens: int,
    free_bytes: int,
    library_bytes: int,
    *,
    batch: int | None = None,
    shrinks: bool = True,
    quantized_bytes: int | None = None,
) -> Iterator[MemoryNeed]:
    """Yield the memory need of each method as a run would choose its batches.

    Methods that are unsupported on quantized weights are left out if the weights are stored so.

    A run that can recover from too little memory takes the largest micro-batch of training that fits, and halves a
    batch of answers until it fits. If not even one row fits, the need is that of one row.

    Args:
        lm: The model, on the meta device.
        tokens: Tokens of the longest example, answer included.
        free_bytes: Memory available besides the libraries.
        library_bytes: Memory of the libraries.
        batch: Examples per optimizer step; None for those of the standard budget.
        shrinks: True if the run can recover, which needs a GPU or a limit of memory; else its batches are full.
        quantized_bytes: Bytes of weights that are stored quantized; None if they are not quantized.
    """
    load = memory_estimate.model_bytes(lm.model) if quantized_bytes is None else quantized_bytes
    estimators = DECODER_ESTIMATORS if lm.can_generate else ENCODER_ESTIMATORS
    for name, estimate in estimators.items():
        method = registry.find_method(name)()
        if quantized_bytes is not None:
            if method.changes_base_weights:
                continue
            if estimate is _quantized_training_ladder:
                method, estimate = registry.find_method("lora")(), _training_ladder  # nothing is quantized again
        run = _PlannedRun(
            tokens=tokens,
            batch=batch or PRESETS["standard"].batch,
            load=load,
            on_host=library_bytes > 0,
        )
        ladder = estimate(method, lm, run)
        need = memory_need(name, ladder, free_bytes, library_bytes, shrinks=shrinks)
        if not need.fits and not shrinks:
            limit = suggested_limit(free_bytes + library_bytes) - library_bytes
            smaller = memory_need(name, ladder, limit, library_bytes, shrinks=True)
            need = dataclasses.replace(
                need,
                fits_in_smaller_batches=smaller.fits,
                activation_checkpointing=smaller.fits and smaller.activation_checkpointing,
            )
        yield need


def suggested_limit(free: int) -> int:
    """Return the limit of memory to suggest; the rest of what is free is for other programs."""
    return int(0.9 * free)


@dataclass(frozen=True)
class Ladder:
    """Estimated peaks of a method in bytes, in the order in which a run tries them.

    They leave out the libraries. The largest batch comes first, and batches with activation checkpointing come after
    all others.
    """

    load: int
    fit: Sequence[int]
    answer: Sequence[int]
    micro_batches: Sequence[int | None] = (None,)
    """Examples per forward pass in training, for each peak of `fit`; None if nothing is trained."""
    plain_rungs: int | None = None
    """Number of peaks of `fit` without activation checkpointing; None for all."""


def memory_need(name: str, ladder: Ladder, free_bytes: int, library_bytes: int, *, shrinks: bool) -> MemoryNeed:
    """Return the need at the largest batches that fit; of the full ones if nothing shrinks."""
    fit_peaks, answer_peaks = (peaks if shrinks else peaks[:1] for peaks in (ladder.fit, ladder.answer))
    # Training is tried out with some bytes in reserve before it begins, if the batch can be made smaller.
    reserve = RESERVE_BYTES if shrinks and ladder.micro_batches[0] is not None else 0
    fit_index = _first_at_most(fit_peaks, free_bytes - reserve)
    fit, answer = fit_peaks[fit_index], answer_peaks[_first_at_most(answer_peaks, free_bytes)]
    fits = max(ladder.load, fit + reserve, answer) <= free_bytes
    load_mib, fit_mib, answer_mib = (round((library_bytes + peak) / MIB) for peak in (ladder.load, fit, answer))
    checkpointing = ladder.plain_rungs is not None and fit_index >= ladder.plain_rungs
    return MemoryNeed(name, load_mib, fit_mib, answer_mib, ladder.micro_batches[fit_index], fits, fits, checkpointing)


def _first_at_most(peaks: Sequence[int], free_bytes: int) -> int:
    """Return the index of the first peak that fits, or of the last one."""
    return next((index for index, peak in enumerate(peaks) if peak <= free_bytes), len(peaks) - 1)


@dataclass(frozen=True)
class _PlannedRun:
    """Properties of a run that decide its peaks, beside method and model."""

    tokens: int
    """Tokens of the longest example, answer included."""
    batch: int
    """Examples per optimizer step."""
    load: int
    """Bytes of the loaded model."""
    on_host: bool
    """True if the memory is that of the process."""


def _prompting_ladder(method: Any, lm: Any, run: _PlannedRun) -> Ladder:
    """Return the peaks of few-shot prompting for open answers, with `k` examples per prompt."""
    load = run.load
    shots = method.k if isinstance(method.k, int) else method.open_shots
    prompt_tokens = min((shots + 1) * run.tokens, lm.context)
    return Ladder(load, [load], _answer_peaks(load, lm, prompt_tokens))


def _feature_ladder(_: Any, lm: Any, run: _PlannedRun) -> Ladder:
    """Return the peaks of a method that reads the hidden states of all layers."""
    tokens, load = run.tokens, run.load
    fit = [load + memory_estimate.encoding_bytes(lm.model, rows, tokens) for rows in _halved(ENCODING_BATCH_SIZE)]
    return Ladder(load, fit, _answer_peaks(load, lm, tokens), [None] * len(fit))


def _training_ladder(method: Any, lm: Any, run: _PlannedRun) -> Ladder:
    """Return the peaks of training for every micro-batch, then with activation checkpointing."""
    model = _adapt_copy(lm.model, method)
    tokens, batch = run.tokens, run.batch
    fixed = run.load + _master_weight_bytes(model)
    micro_batches = [size for size in range(batch, 0, -1) if batch % size == 0]
    if lm.padding_side is None:
        micro_batches = [1]  # rows of different lengths cannot be read together

    def peaks() -> list[int]:
        estimate = memory_estimate.training_estimator(
            model, optimizer.state_bytes(model, method.optimizer_name()), on_host=run.on_host
        )
        logit_tokens = math.ceil(LOGIT_SHARE * tokens)
        return [fixed + estimate(size * tokens, size, size * logit_tokens) for size in micro_batches]

    fit = peaks()
    if model.supports_gradient_checkpointing:
        checkpointing.enable_unchecked(model)
        fit += peaks()
    answer = _answer_peaks(run.load, lm, tokens)
    return Ladder(run.load, fit, answer, 2 * micro_batches, plain_rungs=len(micro_batches))


def _quantized_training_ladder(_: Any, lm: Any, run: _PlannedRun) -> Ladder:
    """Return the peaks of QLoRA as those of LoRA beside 4-bit weights.

    QLoRA itself would not recognize the model on the meta device, which is not quantized.
    """
    run = dataclasses.replace(run, load=memory_estimate.quantized_bytes(lm.model))
    return _training_ladder(registry.find_method("lora")(), lm, run)


LadderEstimator = Callable[[Any, Any, _PlannedRun], Ladder]
"""Returns the peaks of a method, from the method, the model and the planned run."""

ENCODER_ESTIMATORS: dict[str, LadderEstimator] = {
    "features": _feature_ladder,
    "lora": _training_ladder,
    "full": _training_ladder,
}
DECODER_ESTIMATORS: dict[str, LadderEstimator] = {
    "few-shot": _prompting_ladder,
    "features": _feature_ladder,
    "lora": _training_ladder,
    "qlora": _quantized_training_ladder,
    "full": _training_ladder,
}


def _answer_peaks(load: int, lm: Any, tokens: int) -> list[int]:
    """Return the peaks of answering with a full batch and with each half of it."""
    rows = memory_estimate.max_batch_rows(lm.model, tokens)
    return [load + memory_estimate.generation_bytes(lm.model, size, tokens) for size in _halved(rows)]


def _halved(rows: int) -> Iterator[int]:
    """Yield a batch size and its halves, down to 1."""
    while rows:
        yield rows
        rows //= 2


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


def _choose_chat_template(folder: Path) -> tuple[ChatTemplate | None, str | None]:
    """Return the chat template of `--prompt-format auto`, or the reason against it."""
    try:
        return prompt_format.choose_chat_template("auto", folder), None
    except UserError as error:
        return None, error.message


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
    chat, chat_template_problem = _choose_chat_template(folder)
    prompt = chat.spec if chat else PromptSpec()
    ends_turn = None
    if chat is not None and chat.end_token_id is not None:
        ends_turn = str(tokenizer.convert_ids_to_tokens(chat.end_token_id))
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
        chat_template=chat is not None,
        chat_template_problem=chat_template_problem,
        generation_prompt=chat is not None and chat.has_generation_prompt,
        instruction_role=prompt.instruction_role,
        thinking=prompt.thinking,
        ends_turn=ends_turn or (chat.end_text or None if chat else None),
        begins_with=first_token if first_token in tokenizer.all_special_tokens else None,
        ends=tokenizer.convert_ids_to_tokens(end_ids),
        fills_with=tokenizer.pad_token,
        quantization=checkpoint.quantization(folder),
        padding_named=named_padding is not None,
    )
