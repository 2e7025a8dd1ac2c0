"""A PEFT adapter as the base model: its own base, compatibility checks, and the merge."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.i18n import Message
from bench.modeling import compat, file_digest, model_config, weight_files
from bench.modeling.weight_files import TensorHeader

ADAPTER_CONFIG_NAME = "adapter_config.json"
# Left out of the digest: the location of the base does not change the model.
BASE_LOCATION_KEYS = ("base_model_name_or_path", "revision")
PROMPT_LEARNING_TYPES = frozenset(
    {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE"}
)
ROUTED_TYPES = frozenset({"POLY", "XLORA"})
MERGE_CHECK_TOKENS = 8  # length of the input whose logits are compared before and after merging
# Allowed change of a logit by merging, as a share of the largest logit; by dtype, with a default for the others.
MERGE_TOLERANCE = {"float32": 1e-3}
DEFAULT_MERGE_TOLERANCE = 0.1


def is_adapter(folder: Path) -> bool:
    """Tell if a folder holds an adapter instead of a whole model."""
    return (folder / ADAPTER_CONFIG_NAME).is_file()


def find_adapter_base(folder: Path) -> Path:
    """Return the folder of the model that an adapter was trained on.

    `base_model_name_or_path` is a path relative to the adapter folder, a path, or a model on the hub.

    Raises:
        UserError: The adapter does not name its base, or the base is missing or an adapter itself.
    """
    config, location = model_config.read_config(folder, ADAPTER_CONFIG_NAME), str(folder / ADAPTER_CONFIG_NAME)
    name = config.get("base_model_name_or_path")
    hint = Message("set base_model_name_or_path to the folder or hub name of the base")
    if not name:
        raise UserError(Message("the adapter does not name its base model"), location=location, hint=hint)
    relative_folder: Path = folder / str(name)
    if relative_folder.is_dir():
        base_folder = relative_folder
    else:
        revision = config.get("revision")
        try:
            base_folder = registry.find_model(f"{name}@{revision}" if revision else name)
        except UserError as error:
            raise UserError(
                Message(
                    "the base model '{name}' of the adapter is not found: {problem}", name=name, problem=error.message
                ),
                location=location,
                hint=hint,
            ) from None
    if is_adapter(base_folder):
        raise UserError(
            Message("the base model '{name}' of the adapter is an adapter itself", name=name),
            location=location,
            hint=Message("merge that first"),
        )
    return base_folder


def check_adapter(folder: Path, base_folder: Path) -> None:
    """Check by its files that an adapter can be merged into its base model.

    Raises:
        UserError: The adapter type cannot be merged, the base is an encoder, or weights are missing or do not fit.
    """
    _check_adapter_type(folder)
    if model_config.model_kind(model_config.read_config(base_folder)) != "decoder":
        raise UserError(
            Message("adapters are merged into causal language models only, and the base of this adapter is an encoder"),
            location=str(folder / ADAPTER_CONFIG_NAME),
            hint=Message("merge it with PEFT (merge_and_unload) and use the merged model"),
        )
    if any((folder / name).is_file() for name in weight_files.MODEL_WEIGHT_NAMES):
        raise UserError(
            Message("the folder holds both an adapter and a whole model"),
            location=str(folder),
            hint=Message("put each into a folder of its own"),
        )
    (adapter_file,) = weight_files.find_weight_files(folder, weight_files.ADAPTER_WEIGHT_NAMES)
    weight_files.check_weight_files([adapter_file])
    base_files = weight_files.find_weight_files(base_folder)
    if all(file.suffix == ".safetensors" for file in [adapter_file, *base_files]):
        base_tensors: dict[str, TensorHeader] = {}
        for file in base_files:
            base_tensors |= weight_files.read_tensor_headers(file)
        _check_shapes(weight_files.read_tensor_headers(adapter_file), base_tensors, adapter_file)


def adapter_digest(folder: Path, base_digest: str) -> str:
    """Return the SHA-256 of an adapter and its base, without the base's name and location."""
    (file,) = weight_files.find_weight_files(folder, weight_files.ADAPTER_WEIGHT_NAMES)
    config = model_config.read_config(folder, ADAPTER_CONFIG_NAME)
    config = {key: value for key, value in config.items() if key not in BASE_LOCATION_KEYS}
    digest = hashlib.sha256(f"{base_digest}\n{json.dumps(config, sort_keys=True)}\n".encode())
    digest.update(bytes.fromhex(file_digest.file_sha256(file)))
    return digest.hexdigest()


def merge_adapter(model: Any, folder: Path) -> Any:
    """Merge an adapter into the weights of its loaded base model.

    Returns:
        The merged model, without PEFT layers.

    Raises:
        UserError: The adapter does not fit, PEFT cannot merge it, or the merged model gives other logits.
    """
    import torch
    from peft import PeftModel

    try:
        with compat.raise_on_missing_adapter_weights():
            adapted: Any = PeftModel.from_pretrained(model, str(folder)).eval()
    except (RuntimeError, ValueError, UserWarning, KeyError) as error:
        raise _mismatch_error(folder, str(error).strip().partition("\n")[0]) from error
    input_ids = torch.arange(MERGE_CHECK_TOKENS, device=model.device)[None]
    input_ids = input_ids % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        logits_before = adapted(input_ids=input_ids).logits.float()
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
        raise UserError(
            Message("PEFT cannot merge the adapter: {problem}", problem=error),
            location=str(folder),
            hint=Message("use its base model"),
        ) from error
    with torch.inference_mode():
        logits_after = merged(input_ids=input_ids).logits.float()
    tolerance = MERGE_TOLERANCE.get(str(model.dtype).removeprefix("torch."), DEFAULT_MERGE_TOLERANCE)
    difference = float((logits_after - logits_before).abs().max())
    if not difference <= tolerance * float(logits_before.abs().max()):  # also true if the difference is NaN
        raise UserError(
            Message(
                "merging the adapter changes the output of the model (shared weights, or weights that are not finite)"
            ),
            location=str(folder),
            hint=Message("merge it yourself, check the answers, and use the merged model"),
        )
    return merged


def _check_adapter_type(folder: Path) -> None:
    """Raise `UserError` for an adapter type that PEFT does not have or cannot merge."""
    config, location = model_config.read_config(folder, ADAPTER_CONFIG_NAME), str(folder / ADAPTER_CONFIG_NAME)
    peft_type = str(config.get("peft_type"))
    if peft_type not in compat.peft_types():
        raise UserError(
            Message("the installed PEFT has no adapter type '{peft_type}'", peft_type=peft_type),
            location=location,
            hint="pip install -U peft",
        )
    if peft_type in PROMPT_LEARNING_TYPES:
        reason = "it adds virtual tokens before the prompt"
    elif peft_type in ROUTED_TYPES or config.get("alora_invocation_tokens"):
        reason = "its effect differs between tokens"
    else:
        return
    raise UserError(
        Message(
            "an adapter of type {peft_type} cannot be merged into its base model: {reason}",
            peft_type=peft_type,
            reason=reason,
        ),
        location=location,
        hint=Message("use its base model; adapters such as LoRA, DoRA and IA³ can be merged"),
    )


def _check_shapes(
    adapter_tensors: Mapping[str, TensorHeader], base_tensors: Mapping[str, TensorHeader], adapter_file: Path
) -> None:
    """Raise `UserError` for an adapter layer that the base lacks or has in another shape.

    Loading may rename the tensors of a file. So a kind of layer that is not found in the base files is left for
    loading to judge, unless no kind is found at all.
    """
    base_shapes = {_normalize_path(name.removesuffix(".weight")): tensor.shape for name, tensor in base_tensors.items()}
    base_patterns = {_layer_pattern(layer) for layer in base_shapes}
    targets = [(name, *target) for name in adapter_tensors if (target := _target_layer(name))]
    if targets and not any(_layer_pattern(layer) in base_patterns for _, layer, _ in targets):
        raise _mismatch_error(adapter_file, f"the base has no layer like {targets[0][1]}")
    for name, layer, lora_side in targets:
        if _layer_pattern(layer) not in base_patterns:
            continue
        if layer not in base_shapes:
            raise _mismatch_error(adapter_file, f"the base has no {layer}")
        base_shape, adapter_shape = base_shapes[layer], adapter_tensors[name].shape
        if not lora_side or len(adapter_shape) != 2 or len(base_shape) != 2:
            continue
        # A layer may be stored transposed (Conv1D of GPT-2), so the width may be on either side.
        width = adapter_shape[1] if lora_side == "A" else adapter_shape[0]
        if width not in base_shape:
            raise _mismatch_error(
                adapter_file, f"{layer} is {' × '.join(map(str, base_shape))} in the base, {width} in the adapter"
            )


def _target_layer(tensor_name: str) -> tuple[str, str] | None:
    """Return an adapter tensor's base layer, and `A` or `B` for a LoRA matrix (else ``""``).

    None for tensors of other kinds.
    """
    match = re.match(
        r"base_model\.model\.(.+?)\.(?:lora_([AB])\b|lora_|ia3_|hada_|lokr_|vera_|[bh]?oft_|hra_)", tensor_name
    )
    return (_normalize_path(match[1]), match[2] or "") if match else None


def _normalize_path(layer: str) -> str:
    """Drop the start of a layer path, in which files of the body and of the model differ."""
    return re.sub(r"^.*?\.?([^.]+\.\d+\.)", r"\1", layer, count=1)


def _layer_pattern(layer: str) -> str:
    """Replace the layer number by `#`: `layers.3.mlp` gives `layers.#.mlp`."""
    return re.sub(r"\.\d+\.", ".#.", layer)


def _mismatch_error(location: Path, reason: str) -> UserError:
    return UserError(
        Message("the adapter does not fit its base model, so it was trained on another one: {reason}", reason=reason),
        location=str(location),
        hint=Message(
            "name the right base in {file} (base_model_name_or_path)",
            file=ADAPTER_CONFIG_NAME,
        ),
    )
