"""A base model on disk: whether it can be used, what it is, how it is loaded. Imports no torch until it loads."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.modeling import adapter_checkpoint, model_config, weight_files
from bench.records.record import Decoding

if TYPE_CHECKING:
    from bench.modeling.causal_lm import CausalLM
    from bench.modeling.encoder import Encoder

ALL = ("*.safetensors", "*.bin", "*.json", "*.model", "vocab.txt", "merges.txt", "*.jinja")
TOKENS = ("tokenizer*.json", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt", "*.jinja")
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that cannot be a base model (whole, or an adapter on one), before anything slow starts."""
    if not adapter_checkpoint.is_adapter(folder):
        model_config.check_config(folder)
        weight_files.check_weight_files(weight_files.find_weight_files(folder))
        _check_tokenizer(folder)
        return
    beneath = adapter_checkpoint.find_adapter_base(folder)
    check_model_folder(beneath)
    adapter_checkpoint.check_adapter(folder, beneath)


def base_model_folder(folder: Path) -> Path:
    """The folder of the whole model: the base where `folder` holds an adapter."""
    return adapter_checkpoint.find_adapter_base(folder) if adapter_checkpoint.is_adapter(folder) else folder


def words(folder: Path) -> Path:
    """The folder of the tokenizer: an adapter may bring one of its own."""
    return folder if any((folder / name).is_file() for name in TOKENIZERS) else base_model_folder(folder)


def weights_digest(folder: Path) -> str:
    """SHA-256 over everything in a model folder that decides its answers: weights, configuration, tokenizer, and over
    the base as well where it holds an adapter.
    """
    if adapter_checkpoint.is_adapter(folder):
        beneath = base_model_folder(folder)
        both = _digest(beneath) if words(folder) == beneath else _digest(beneath) + _digest(folder, TOKENS)
        return adapter_checkpoint.adapter_digest(folder, both)
    return _digest(folder)


def files(folder: Path, kinds: Sequence[str] = ALL) -> list[Path]:
    """Everything in a model folder that decides its answers: weights, configuration, tokenizer."""
    return sorted({file for kind in kinds for file in folder.glob(kind)})


def load_tokenizer(base: Path) -> Callable[[str, bool], list[int]]:
    """Text to token ids, with special ones or without; imports transformers only where it has to."""
    base = words(base)
    file = base / "tokenizer.json"
    if not file.is_file():
        from transformers import AutoTokenizer

        slow = AutoTokenizer.from_pretrained(base, **LOCAL)
        return lambda text, special: list(slow(text, add_special_tokens=special)["input_ids"])
    from tokenizers import Tokenizer

    try:
        fast = Tokenizer.from_file(str(file))
    except Exception as error:
        raise UserError(f"the tokenizer does not load: {error}", location=str(file)) from None
    fast.no_truncation()
    fast.no_padding()
    return lambda text, special: list(fast.encode(text, add_special_tokens=special).ids)


def context_length(base: Path) -> int:
    """Tokens that fit into the model at once."""
    base = base_model_folder(base)
    config = model_config.read_config(base)
    config = config.get("text_config") or config
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(config.get(name), int):
            return int(config[name])
    from transformers import AutoConfig

    full = AutoConfig.from_pretrained(base, **LOCAL).get_text_config()
    return int(getattr(full, "max_position_embeddings", None) or sys.maxsize)


def is_decoder(folder: Path) -> bool:
    """Whether the model in a folder continues text; an encoder only reads."""
    return model_config.model_kind(model_config.read_config(base_model_folder(folder))) == "decoder"


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk (see `bench.method.Base`)."""

    folder: Path
    dtype: str
    device: str
    decoding: Decoding

    def load(self, **from_pretrained_kwargs: Any) -> CausalLM | Encoder:
        """Load model and tokenizer; `how` goes to `from_pretrained`, where it places weights itself if it quantizes."""
        from transformers import AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        from bench.modeling.causal_lm import CausalLM
        from bench.modeling.encoder import Encoder

        disable_progress_bar()
        beneath = base_model_folder(self.folder)
        if beneath == self.folder:
            model = self._whole(self.folder, from_pretrained_kwargs)
        elif not from_pretrained_kwargs:
            model = adapter_checkpoint.merge_adapter(self._whole(beneath, {}), self.folder)
        else:  # what quantizes shall begin with the merged weights, too
            with TemporaryDirectory() as scratch:
                adapter_checkpoint.merge_adapter(self._whole(beneath, {}), self.folder).save_pretrained(scratch)
                model = self._whole(Path(scratch), from_pretrained_kwargs)
        tokenizer = AutoTokenizer.from_pretrained(words(self.folder), **LOCAL)
        return (CausalLM if is_decoder(beneath) else Encoder)(model, tokenizer, self.decoding)

    def _whole(self, folder: Path, how: dict[str, Any]) -> Any:
        """The model of a folder with all its weights, on the device."""
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        if "quantization_config" in how:
            how = {"device_map": {"": self.device}} | how
        kind: Any = AutoModelForCausalLM if is_decoder(folder) else AutoModelForSequenceClassification
        said = LOCAL | {"dtype": getattr(torch, self.dtype), "weights_only": True, "output_loading_info": True}
        model, told = kind.from_pretrained(folder, **said, **how)
        _check_loaded(model, told["missing_keys"], folder)
        if "device_map" not in how:
            model.to(torch.device(self.device))
        return model


def _check_loaded(model: Any, missing: Iterable[str], folder: Path) -> None:
    """Refuse a model of which some weights were not in its files: they would be random. An encoder gets a new head."""
    body = f"{model.base_model_prefix}."
    lost = [name for name in missing if model.can_generate() or (name.startswith(body) and ".pooler." not in name)]
    if lost:
        raise UserError(
            f"{len(lost)} tensors of the model are not in its files: {', '.join(sorted(lost)[:3])}",
            location=str(folder),
            hint="the files are of another model, or of a part of it; save the whole model with save_pretrained",
        )


def _digest(folder: Path, kinds: Sequence[str] = ALL) -> str:
    total = hashlib.sha256()
    for file in files(folder, kinds):
        with file.open("rb") as content:
            total.update(f"{file.name}:{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _check_tokenizer(folder: Path) -> None:
    found = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not found:
        raise UserError("the model folder has no tokenizer", location=str(folder), hint="save it beside the model")
    own = folder / "tokenizer_config.json"
    if "tokenizer.json" not in found and own.is_file() and "auto_map" in model_config.read_config(folder, own.name):
        raise UserError(
            "the tokenizer brings code of its own, which is never run here",
            location=str(own),
            hint="trust_remote_code is off for good; save it as a fast tokenizer (tokenizer.json)",
        )
