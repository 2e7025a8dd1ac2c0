"""A base model on disk: whether it can be used, what it is, how it is loaded. Imports no torch until it loads."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import Decoding
from bench.refusal import Refused

if TYPE_CHECKING:
    from bench.encoder import Encoder
    from bench.lm import CausalLM

DECODERS = ("ForCausalLM", "LMHeadModel")
ENCODERS = ("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be a causal language model, before anything slow starts."""
    config = folder / "config.json"
    if not config.is_file():
        raise Refused("the model folder has no config.json", where=str(folder), mend="save it with save_pretrained")
    try:
        architectures = json.loads(config.read_text("utf-8")).get("architectures") or []
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise Refused(f"config.json is not valid JSON: {error}", where=str(config)) from None
    if not any(name.endswith(DECODERS + ENCODERS) for name in architectures):
        problem = f"neither a causal language model nor an encoder: architectures are {architectures}"
        raise Refused(problem, where=str(config), mend=f"names that end in {', '.join(DECODERS + ENCODERS)} are known")
    if not any(list(folder.glob(pattern)) for pattern in WEIGHTS):
        raise Refused("the model folder has no weights", where=str(folder), mend="it needs *.safetensors files")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise Refused("the model folder has no tokenizer", where=str(folder), mend="save it beside the model")


def files(folder: Path) -> list[Path]:
    """Everything in a model folder that decides its answers: weights, configuration, tokenizer."""
    kinds = ("*.safetensors", "*.bin", "*.json", "*.model", "vocab.txt", "merges.txt", "*.jinja")
    return sorted({file for kind in kinds for file in folder.glob(kind)})


def digest(folder: Path) -> str:
    """SHA-256 over the `files` of a model folder."""
    total = hashlib.sha256()
    for file in files(folder):
        with file.open("rb") as content:
            total.update(f"{file.name}:{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def tokenizer(base: Path) -> Callable[[str, bool], list[int]]:
    """Text to token ids, with special ones or without; imports transformers only where it has to."""
    file = base / "tokenizer.json"
    if not file.is_file():
        from transformers import AutoTokenizer

        slow = AutoTokenizer.from_pretrained(base, local_files_only=True)
        return lambda text, special: list(slow(text, add_special_tokens=special)["input_ids"])
    from tokenizers import Tokenizer

    try:
        fast = Tokenizer.from_file(str(file))
    except Exception as error:
        raise Refused(f"the tokenizer does not load: {error}", where=str(file)) from None
    fast.no_truncation()
    fast.no_padding()
    return lambda text, special: list(fast.encode(text, add_special_tokens=special).ids)


def context(base: Path) -> int:
    """Tokens that fit into the model at once."""
    config = json.loads((base / "config.json").read_text("utf-8"))
    config = config.get("text_config") or config
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(config.get(name), int):
            return int(config[name])
    from transformers import AutoConfig

    full = AutoConfig.from_pretrained(base, local_files_only=True).get_text_config()
    return int(getattr(full, "max_position_embeddings", None) or sys.maxsize)


def writes(folder: Path) -> bool:
    """Whether the model in a folder continues text; an encoder only reads."""
    architectures = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or []
    return any(name.endswith(DECODERS) for name in architectures)


@dataclass(frozen=True)
class Checkpoint:
    """A base model on disk (see `bench.method.Base`)."""

    folder: Path
    dtype: str
    device: str
    decoding: Decoding

    def load(self, **how: Any) -> CausalLM | Encoder:
        """Load model and tokenizer; `how` goes to `from_pretrained`, where it places weights itself if it quantises."""
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        from bench.encoder import Encoder
        from bench.lm import CausalLM

        disable_progress_bar()
        if "quantization_config" in how:
            how.setdefault("device_map", {"": self.device})
        decoder = writes(self.folder)
        kind: Any = AutoModelForCausalLM if decoder else AutoModelForSequenceClassification
        model = kind.from_pretrained(self.folder, dtype=getattr(torch, self.dtype), local_files_only=True, **how)
        if "device_map" not in how:
            model.to(torch.device(self.device))
        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return (CausalLM if decoder else Encoder)(model, tokenizer, self.decoding)
