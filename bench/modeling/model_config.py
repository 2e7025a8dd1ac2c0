"""Configuration of a model folder: kind of model, and support by transformers."""

from __future__ import annotations

import difflib
import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError
from bench.i18n import Message
from bench.modeling import compat

DECODER_SUFFIXES = ("ForCausalLM", "LMHeadModel")
ENCODER_SUFFIXES = ("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")
QUANTIZATION_PACKAGES = {"bitsandbytes": ("bitsandbytes",), "gptq": ("optimum", "gptqmodel"), "awq": ("gptqmodel",)}
"""Packages that transformers needs to load quantized weights, by `quant_method`."""
POSITION_KEYS = "max_position_embeddings", "n_positions", "max_seq_len"  # MPT has the last

ModelKind = Literal["decoder", "encoder"]


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Read a JSON file of a model folder.

    Raises:
        UserError: The file is missing or is not a JSON object.
    """
    file = folder / name
    if not file.is_file():
        is_empty = folder.is_dir() and not any(folder.iterdir())
        problem = (
            Message("the model folder is empty") if is_empty else Message("the model folder has no {name}", name=name)
        )
        raise UserError(problem, location=str(folder), hint=Message("save the model with save_pretrained"))
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(
            Message("{name} is not valid JSON: {problem}", name=name, problem=error),
            location=str(file),
            hint=Message("copy or save the file again"),
        ) from None
    if not isinstance(config, dict):
        raise UserError(
            Message("{name} is not a JSON object", name=name),
            location=str(file),
            hint=Message("copy or save the file again"),
        )
    return config


def model_kind(config: dict[str, Any]) -> ModelKind | None:
    """Return `decoder` if a model generates, `encoder` if it only reads, None if neither.

    The names in `architectures` decide. An encoder may have any head or none, because it gets a new one.
    """
    names = config.get("architectures") or []
    if config.get("is_encoder_decoder"):
        return None
    if _attends_both_ways(config, names):
        return "encoder"
    if any(name.endswith(DECODER_SUFFIXES) for name in names):
        return "decoder"
    is_encoder = any(name.endswith(ENCODER_SUFFIXES) for name in names) or _is_encoder_class(config, names)
    return "encoder" if is_encoder else None


def _attends_both_ways(config: dict[str, Any], names: list[str]) -> bool:
    """Tell if a model is trained to fill gaps, such as XLM, FlauBERT and XLNet."""
    if config.get("causal") or config.get("is_decoder"):
        return False
    gap_fillers = compat.transformers_classes(compat.MASKED_LM_MAPPING, str(config.get("model_type")))
    return config.get("attn_type") == "bi" or any(name in gap_fillers for name in names)


def _is_encoder_class(config: dict[str, Any], names: list[str]) -> bool:
    """Tell if transformers has the class of a model, and it belongs to a type of encoders.

    Without a name in `architectures` the type decides.
    """
    model_type = str(config.get("model_type"))
    fills_gaps = model_type in compat.transformers_model_types(compat.MASKED_LM_MAPPING)
    generates = model_type in compat.transformers_model_types(compat.CAUSAL_LM_MAPPING)
    classifies = model_type in compat.transformers_model_types(compat.SEQUENCE_CLASSIFICATION_MAPPING)
    if config.get("is_decoder") or not (fills_gaps or (classifies and not generates)):
        return False
    classes = [name for mapping in compat.ENCODER_MAPPINGS for name in compat.transformers_classes(mapping, model_type)]
    return all(name in classes for name in names)


def max_positions(config: Any) -> int | None:
    """Return the number of positions that a configuration allows; None if it sets no limit.

    Args:
        config: Content of a `config.json`, or a configuration of transformers.
    """
    for name in POSITION_KEYS:
        value = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def may_read_ahead(config: dict[str, Any]) -> bool:
    """Return True for a type of model that transformers also has as an encoder or with one.

    A decoder of such a type may attend to later tokens, depending on its configuration.
    """
    mappings = compat.BIDIRECTIONAL_MAPPINGS
    return any(config.get("model_type") in compat.transformers_model_types(mapping) for mapping in mappings)


def check_config(folder: Path) -> ModelKind:
    """Return the kind of model in a folder.

    Raises:
        UserError: The model cannot be loaded here: it is neither decoder nor encoder, quantized in a way that cannot
            be loaded, needs code of its own, or has a type that the installed transformers does not have.
    """
    config, location = read_config(folder), str(folder / "config.json")
    kind = model_kind(config)
    if kind is None:
        raise _unsupported_kind_error(config, location)
    if method := quantization(config):
        _check_quantization(method, kind, location)
    mapping = compat.CAUSAL_LM_MAPPING if kind == "decoder" else compat.SEQUENCE_CLASSIFICATION_MAPPING
    supported, model_type = compat.transformers_model_types(mapping), config.get("model_type")
    if model_type in supported:
        return kind
    if "auto_map" in config:
        raise _own_code_error(config, location)
    task = Message("generates text") if kind == "decoder" else Message("classifies text")
    nearest = difflib.get_close_matches(str(model_type), supported, n=1)
    question = Message("; did you mean '{name}'?", name=nearest[0]) if nearest else ""
    raise UserError(
        Message(
            "the installed transformers has no model of type '{model_type}' that {task}",
            model_type=model_type,
            task=task,
        ),
        location=location,
        hint=Message("a newer version may have it: pip install -U transformers{question}", question=question),
    )


def quantization(config: dict[str, Any]) -> str | None:
    """Return the quantization of stored weights, such as `bitsandbytes`; None without one.

    Args:
        config: Content of a `config.json`.
    """
    if "quantization_config" not in config:
        return None
    settings = config["quantization_config"]
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if method is None and isinstance(settings, dict) and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        return "bitsandbytes"  # as early versions of transformers wrote it
    return str(method or "unknown method")


def _check_quantization(method: str, kind: ModelKind, location: str) -> None:
    """Check that quantized weights can be loaded.

    Raises:
        UserError: The model is an encoder, transformers loads such weights in no way that is supported here, or a
            package that it needs for them is not installed.
    """
    use_original = Message("use the model it was made from; qlora quantizes by itself")
    if method not in QUANTIZATION_PACKAGES:
        raise UserError(
            Message(
                "the weights are already quantized ({method}); of these, {names} are supported",
                method=method,
                names=", ".join(QUANTIZATION_PACKAGES),
            ),
            location=location,
            hint=use_original,
        )
    if kind == "encoder":
        raise UserError(
            Message(
                "the weights are already quantized ({method}), which is supported for decoders only", method=method
            ),
            location=location,
            hint=use_original,
        )
    missing = [name for name in QUANTIZATION_PACKAGES[method] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            Message(
                "the weights are quantized ({method}), and loading them needs packages that are not installed: {names}",
                method=method,
                names=", ".join(missing),
            ),
            location=location,
            hint=Message("pip install {names}; or {use_original}", names=" ".join(missing), use_original=use_original),
        )


def _unsupported_kind_error(config: dict[str, Any], location: str) -> UserError:
    """Return the error for a model that is neither a decoder nor an encoder."""
    names, model_type = config.get("architectures"), config.get("model_type")
    if config.get("is_encoder_decoder"):
        return UserError(
            Message(
                "an encoder-decoder model ({model_type}) is neither a causal language model nor an encoder",
                model_type=model_type,
            ),
            location=location,
            hint=Message("use a decoder, such as Llama or Qwen, or an encoder, such as BERT"),
        )
    if "auto_map" in config:
        return _own_code_error(config, location)
    body_classes = compat.transformers_classes("MODEL_MAPPING_NAMES", str(model_type))
    if model_type in compat.transformers_model_types(compat.CAUSAL_LM_MAPPING) and body_classes.intersection(
        names or ()
    ):
        return UserError(
            Message(
                "the model is a decoder without its output layer ({names}), so it cannot generate",
                names=", ".join(names or ()),
            ),
            location=location,
            hint=Message(
                "use the whole model, whose architecture ends in {names}", names=" or ".join(DECODER_SUFFIXES)
            ),
        )
    return UserError(
        Message("neither a causal language model nor an encoder: architectures are {names}", names=names),
        location=location,
        hint=Message(
            "names that end in {names} are supported, and bare encoders",
            names=", ".join(DECODER_SUFFIXES + ENCODER_SUFFIXES),
        ),
    )


def _own_code_error(config: dict[str, Any], location: str) -> UserError:
    names = ", ".join(config.get("architectures") or ())
    return UserError(
        Message(
            "the model needs code of its own ({names}, model_type '{kind}'), which is never run here",
            names=names,
            kind=config.get("model_type"),
        ),
        location=location,
        hint=Message("trust_remote_code is always off; use a model of a type that transformers supports"),
    )
