"""A base model on disk: checks, digest, loading.

torch is imported only to load a model, to find the context of an encoder, and to check a decoder whose type
transformers also has as an encoder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.i18n import Message
from bench.modeling import adapter_checkpoint, compat, file_digest, model_config, weight_files
from bench.modeling.chat_template import ChatTemplate
from bench.records import Decoding, PromptSpec
from bench.user_code import describe_exception

if TYPE_CHECKING:
    from bench.modeling.causal_lm import CausalLM
    from bench.modeling.encoder import Encoder

MODEL_FILE_PATTERNS = ("*.safetensors", "*.bin", "*.json", "*.model", "vocab.txt", "merges.txt", "*.jinja")
TOKENIZER_FILE_PATTERNS = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "*.jinja",
)
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
# Arguments of every `from_pretrained`: nothing is downloaded and no code of a model is run.
LOCAL_FILES_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def check_model_folder(folder: Path) -> None:
    """Check that a folder holds a usable base: a whole model, or an adapter and its base.

    Only configuration and headers are read, so the check takes well under a second. A decoder of a type that is also
    used as an encoder is loaded, because only its predictions show whether it reads from left to right.

    Raises:
        UserError: The model cannot be used.
    """
    if not adapter_checkpoint.is_adapter(folder):
        kind = model_config.check_config(folder)
        weight_files.check_weight_files(weight_files.find_weight_files(folder))
        _check_tokenizer(folder)
        if kind == "decoder" and model_config.may_read_ahead(model_config.read_config(folder)):
            _check_reading(folder)
        return
    base_folder = adapter_checkpoint.find_adapter_base(folder)
    check_model_folder(base_folder)
    if method := quantization(base_folder):
        raise UserError(
            Message(
                "the adapter is for a quantized model ({method}); merging would round its updates away", method=method
            ),
            location=str(folder),
            hint=Message(
                "name the folder of a model that is not quantized as base_model_name_or_path in adapter_config.json"
            ),
        )
    adapter_checkpoint.check_adapter(folder, base_folder)


def base_model_folder(folder: Path) -> Path:
    """Return the folder of the whole model: `folder`, or the base of the adapter in it."""
    return adapter_checkpoint.find_adapter_base(folder) if adapter_checkpoint.is_adapter(folder) else folder


def tokenizer_folder(folder: Path) -> Path:
    """Return the folder of the tokenizer: an adapter's own if it has one, else its base's."""
    return folder if any((folder / name).is_file() for name in TOKENIZER_NAMES) else base_model_folder(folder)


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the files that decide answers: weights, config, tokenizer.

    The digest of an adapter also covers its base model.
    """
    if not adapter_checkpoint.is_adapter(folder):
        return _digest(folder)
    base_folder = base_model_folder(folder)
    digest = _digest(base_folder)
    if tokenizer_folder(folder) != base_folder:
        digest += _digest(folder, TOKENIZER_FILE_PATTERNS)
    return adapter_checkpoint.adapter_digest(folder, digest)


def list_model_files(folder: Path, patterns: Sequence[str] = MODEL_FILE_PATTERNS) -> list[Path]:
    """List the files of a model folder that decide its answers, sorted by path."""
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def load_tokenizer(folder: Path) -> Callable[[str, bool], list[int]]:
    """Load the tokenizer of a model folder as a function from text to token ids.

    transformers is imported only if the folder has no `tokenizer.json`.

    Returns:
        A function of a text and a flag that adds special tokens.

    Raises:
        UserError: `tokenizer.json` cannot be loaded.
    """
    folder = tokenizer_folder(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        slow = load_whole_tokenizer(folder)
        return lambda text, add_special_tokens: list(slow(text, add_special_tokens=add_special_tokens)["input_ids"])
    from tokenizers import Tokenizer

    try:
        fast = Tokenizer.from_file(str(file))
    except Exception as error:
        raise UserError(
            Message("the tokenizer cannot be loaded: {problem}", problem=error),
            location=str(file),
            hint=Message("copy or save the file again"),
        ) from None
    fast.no_truncation()
    fast.no_padding()
    return lambda text, add_special_tokens: list(fast.encode(text, add_special_tokens=add_special_tokens).ids)


def load_whole_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a model folder as transformers has it, with its chat template.

    Raises:
        UserError: Tokenizer or chat template cannot be loaded.
    """
    from transformers import AutoTokenizer

    prepare_config(folder)
    try:
        return AutoTokenizer.from_pretrained(tokenizer_folder(folder), **LOCAL_FILES_ONLY)
    except Exception as error:  # tokenizers raises plain exceptions
        raise UserError(
            Message("tokenizer or chat template cannot be loaded: {problem}", problem=describe_exception(error)),
            location=str(tokenizer_folder(folder)),
            hint=Message("copy or save the files again"),
        ) from error


def context_length(folder: Path) -> int:
    """Return the context length of a model in tokens; `sys.maxsize` if it has no limit."""
    folder = base_model_folder(folder)
    if not is_decoder(folder):
        return _encoder_context_length(folder)
    config = model_config.read_config(folder)
    if context := model_config.max_positions(config.get("text_config") or config):
        return context
    from transformers import AutoConfig

    prepare_config(folder)
    # Other architectures have another name for it, which their configuration class translates.
    text_config = AutoConfig.from_pretrained(folder, **LOCAL_FILES_ONLY).get_text_config()
    return model_config.max_positions(text_config) or sys.maxsize


def prepare_config(folder: Path) -> None:
    """Let transformers load the configuration of a folder that it would refuse in vain."""
    compat.accept_explicit_head_dim(model_config.read_config(base_model_folder(folder)))


def _encoder_context_length(folder: Path) -> int:
    """Return the longest row that an encoder reads."""
    from bench.modeling import encoder_inputs

    return encoder_inputs.max_positions(_empty_encoder(folder))


def _head_names(folder: Path) -> list[str]:
    """Return the names of an encoder's modules outside of its body, and of its pooler."""
    model = _empty_encoder(folder)
    return [name for name, module in model.named_children() if module is not model.base_model] + ["pooler"]


def _empty_encoder(folder: Path) -> Any:
    """Return an encoder with a classification head, on the meta device without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder, **LOCAL_FILES_ONLY))


def is_decoder(folder: Path) -> bool:
    """Tell if the model in a folder generates text; an encoder only reads it."""
    return model_config.model_kind(model_config.read_config(base_model_folder(folder))) == "decoder"


def quantization(folder: Path) -> str | None:
    """Return the quantization of stored weights, such as `gptq`; None without one."""
    return model_config.quantization(model_config.read_config(base_model_folder(folder)))


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk (see `bench.method.Base`)."""

    folder: Path
    dtype: str
    device: str
    decoding: Decoding
    prompt: PromptSpec = field(default_factory=PromptSpec)

    @property
    def quantization(self) -> str | None:
        """Quantization of the stored weights, such as `gptq`; None without one."""
        return quantization(self.folder)

    def load(self, **from_pretrained_kwargs: Any) -> CausalLM | Encoder:
        """Load model and tokenizer; an adapter is merged into its base.

        Args:
            **from_pretrained_kwargs: Passed to `from_pretrained`, such as `quantization_config`.

        Raises:
            UserError: Weights are missing, or the adapter cannot be merged.
        """
        from transformers.utils.logging import disable_progress_bar

        from bench.modeling.causal_lm import CausalLM
        from bench.modeling.encoder import Encoder

        disable_progress_bar()
        base_folder = base_model_folder(self.folder)
        prepare_config(base_folder)
        if base_folder == self.folder:
            model, new_weights = self._load_model(self.folder, from_pretrained_kwargs)
        elif not from_pretrained_kwargs:
            model = adapter_checkpoint.merge_adapter(self._load_model(base_folder, {})[0], self.folder)
        else:
            # Quantization has to start from the merged weights, and `from_pretrained` quantizes what it reads.
            with TemporaryDirectory() as merged_folder:
                # No variable keeps the merged model, which would take its memory beside the quantized one.
                adapter_checkpoint.merge_adapter(self._load_model(base_folder, {})[0], self.folder).save_pretrained(
                    merged_folder
                )
                model, _ = self._load_model(Path(merged_folder), from_pretrained_kwargs)
        tokenizer = load_whole_tokenizer(self.folder)
        if is_decoder(base_folder):
            is_chat = self.prompt.format == "chat"
            chat = ChatTemplate.load(tokenizer, tokenizer_folder(self.folder)) if is_chat else None
            return CausalLM(model, tokenizer, self.decoding, chat=chat)
        return Encoder(model, tokenizer, self.decoding, new_weights=new_weights)

    def _load_model(self, folder: Path, from_pretrained_kwargs: dict[str, Any]) -> tuple[Any, frozenset[str]]:
        """Load a whole model onto the device; return it and the names of missing weights."""
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        kwargs = from_pretrained_kwargs
        is_quantized = quantization(folder) is not None
        if is_quantized:
            kwargs = {name: value for name, value in kwargs.items() if name != "quantization_config"}  # not twice
        if self.device != "cpu" or "quantization_config" in kwargs or is_quantized:
            # Each tensor goes from its file to the device, so the host never holds the model.
            kwargs = {"device_map": {"": self.device}} | kwargs
        if "quantization_config" in kwargs and not is_decoder(folder):  # the head of an encoder is trained as a whole
            kwargs["quantization_config"].llm_int8_skip_modules = _head_names(folder)
        auto_class: Any = AutoModelForCausalLM if is_decoder(folder) else AutoModelForSequenceClassification
        model, loading_info = auto_class.from_pretrained(
            folder,
            **LOCAL_FILES_ONLY,
            dtype=getattr(torch, self.dtype),
            weights_only=True,
            output_loading_info=True,
            **kwargs,
        )
        _check_missing_weights(model, loading_info["missing_keys"], folder)
        if is_quantized or "quantization_config" in kwargs:
            compat.prepare_quantized_layers(model, getattr(torch, self.dtype))
        return model, frozenset(loading_info["missing_keys"])


def _check_reading(folder: Path) -> None:
    """Raise `UserError` if a decoder cannot be read as methods read it (`check_reading`)."""
    from bench.method import Unsupported

    try:
        Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=1, stop=())).load().check_reading()
    except Unsupported as error:
        raise UserError(
            str(error),
            location=str(folder / "config.json"),
            hint=Message(
                'a decoder of this type needs "is_decoder": true there ("causal": true for XLM) and '
                "weights that were trained so; else use a causal language model, or an encoder, such as "
                "BertForMaskedLM"
            ),
        ) from None


def _check_missing_weights(model: Any, missing_keys: Iterable[str], folder: Path) -> None:
    """Raise `UserError` for missing weights, which transformers would initialize at random.

    The classification head and the pooler of an encoder may be missing, because they are trained anyway.
    """
    body = f"{model.base_model_prefix}."
    missing = [
        name for name in missing_keys if model.can_generate() or (name.startswith(body) and ".pooler." not in name)
    ]
    if missing:
        raise UserError(
            Message(
                "{number} tensors of the model are not in its files: {names}",
                number=len(missing),
                names=", ".join(sorted(missing)[:3]),
            ),
            location=str(folder),
            hint=Message(
                "the files belong to another model or a part of one; save the whole model with save_pretrained{note}",
                note=Message("; the model's own code (auto_map) is never run")
                if getattr(model.config, "auto_map", None)
                else "",
            ),
        )


def _digest(folder: Path, patterns: Sequence[str] = MODEL_FILE_PATTERNS) -> str:
    digest = hashlib.sha256()
    for file in list_model_files(folder, patterns):
        if not file.is_file():
            raise UserError(
                Message("{name} is not a regular file", name=file.name),
                location=str(file),
                hint=Message("copy or save it again"),
            )
        digest.update(f"{file.name}:{file_digest.file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _check_tokenizer(folder: Path) -> None:
    """Raise `UserError` if the tokenizer is missing or would run code of its own."""
    names = [name for name in TOKENIZER_NAMES if (folder / name).is_file()]
    if not names:
        raise UserError(
            Message("the model folder has no tokenizer"),
            location=str(folder),
            hint=Message("save the tokenizer beside the model"),
        )
    config_file = folder / "tokenizer_config.json"
    if "tokenizer.json" in names or not config_file.is_file():
        return
    if "auto_map" in model_config.read_config(folder, config_file.name):
        raise UserError(
            Message("the tokenizer needs code of its own, which is never run here"),
            location=str(config_file),
            hint=Message("trust_remote_code is always off; save it as a fast tokenizer (tokenizer.json)"),
        )
