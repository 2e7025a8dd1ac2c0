"""A PEFT adapter as the base of all methods: where its own base is, whether it fits there, and how it is merged."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.modeling import model_config, weight_files

CONFIG = "adapter_config.json"
NAMES_ONLY = ("base_model_name_or_path", "revision")  # where the base was found does not change what it is
BEFORE = frozenset(
    {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE"}
)
ROUTED = {"POLY", "XLORA"}
PROBE = 8  # tokens read before and after merging
TOLERANCE = {"float32": 1e-3}  # of the largest logit, by which merging may move any
COARSE = 0.1


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter instead of a model."""
    return (folder / CONFIG).is_file()


def find_adapter_base(folder: Path) -> Path:
    """The folder of the model that an adapter is for; raises `UserError` where that is not there."""
    config, where = model_config.read_config(folder, CONFIG), str(folder / CONFIG)
    name, mend = config.get("base_model_name_or_path"), "put the base's folder or hub name into base_model_name_or_path"
    if not name:
        raise UserError("the adapter does not name its base", location=where, hint=mend)
    beside: Path = folder / str(name)
    if beside.is_dir():
        found = beside
    else:
        revision = config.get("revision")
        try:
            found = registry.find_model(f"{name}@{revision}" if revision else name)
        except UserError as reason:
            raise UserError(
                f"the adapter's base '{name}' is not here: {reason.what}", location=where, hint=mend
            ) from None
    if is_adapter(found):
        raise UserError(
            f"the adapter's base '{name}' is an adapter itself", location=where, hint="merge that one first"
        )
    return found


def check_adapter(folder: Path, beneath: Path) -> None:
    """Refuse an adapter that cannot be merged into the model beneath it, as far as files tell."""
    config, where = model_config.read_config(folder, CONFIG), str(folder / CONFIG)
    kind = str(config.get("peft_type"))
    if kind not in _types():
        raise UserError(
            f"the installed PEFT has no type of adapter '{kind}'", location=where, hint="pip install -U peft"
        )
    if kind in BEFORE | ROUTED or config.get("alora_invocation_tokens"):
        why = "it stands before the prompt" if kind in BEFORE else "it works differently on different tokens"
        raise UserError(
            f"an adapter of the type {kind} cannot be merged into its base: {why}",
            location=where,
            hint="give its base; adapters such as LoRA, DoRA and IA³ can be merged",
        )
    if model_config.model_kind(model_config.read_config(beneath)) != "decoder":
        mend = "merge it with PEFT (merge_and_unload) and give the merged model"
        raise UserError(
            "adapters are merged into models that write, and this one's base reads only", location=where, hint=mend
        )
    if any((folder / name).is_file() for name in weight_files.MODEL):
        raise UserError(
            "the folder holds an adapter and a whole model", location=str(folder), hint="give each a folder"
        )
    (file,) = weight_files.find_weight_files(folder, weight_files.ADAPTER)
    weight_files.check_weight_files([file])
    below = weight_files.find_weight_files(beneath)
    if file.suffix == ".safetensors" and all(part.suffix == ".safetensors" for part in below):
        known = {name: tensor for part in below for name, tensor in weight_files.read_tensor_headers(part).items()}
        _fit(weight_files.read_tensor_headers(file), known, file)


def adapter_digest(folder: Path, beneath: str) -> str:
    """SHA-256 of an adapter on a base of the digest `beneath`; the base's name and place are left out."""
    (file,) = weight_files.find_weight_files(folder, weight_files.ADAPTER)
    config = {key: said for key, said in model_config.read_config(folder, CONFIG).items() if key not in NAMES_ONLY}
    total = hashlib.sha256(f"{beneath}\n{json.dumps(config, sort_keys=True)}\n".encode())
    with file.open("rb") as content:
        total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter merged into its weights; raises `UserError` if that changes what the adapter does."""
    import torch
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted: Any = PeftModel.from_pretrained(model, str(folder)).eval()
    except (RuntimeError, ValueError, UserWarning, KeyError) as error:
        raise _stranger(folder, str(error).strip().partition("\n")[0]) from error
    ids = torch.arange(PROBE, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        before = adapted(input_ids=ids).logits.float()
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
        mend = "give its base"
        raise UserError(f"PEFT cannot merge the adapter: {error}", location=str(folder), hint=mend) from error
    with torch.inference_mode():
        after = merged(input_ids=ids).logits.float()
    most = TOLERANCE.get(str(model.dtype).removeprefix("torch."), COARSE) * float(before.abs().max())
    if not float((after - before).abs().max()) <= most:
        raise UserError(
            "merging the adapter changes what the model says (weights that are shared, or numbers that are none)",
            location=str(folder),
            hint="merge it yourself, look at its answers, and give the merged model",
        )
    return merged


def _fit(
    tensors: Mapping[str, weight_files.TensorHeader], below: Mapping[str, weight_files.TensorHeader], file: Path
) -> None:
    """Refuse an adapter with a layer that its base has not, or has in another size.

    Loading may rename what files hold, so a kind of layer that is strange here is left to that, unless all are.
    """
    sizes = {_bare(name.removesuffix(".weight")): tensor.shape for name, tensor in below.items()}
    kinds = {_kind(layer) for layer in sizes}
    layers = [(name, *found) for name in tensors if (found := _layer(name))]
    if layers and not any(_kind(layer) in kinds for _, layer, _ in layers):
        raise _stranger(file, f"the base has nothing like {layers[0][1]}")
    for name, layer, side in layers:
        if _kind(layer) not in kinds:
            continue
        if layer not in sizes:
            raise _stranger(file, f"the base has no {layer}")
        shape, size = sizes[layer], tensors[name].shape
        if side and len(size) == len(shape) == 2 and (width := size[1 if side == "A" else 0]) not in shape:
            raise _stranger(file, f"{layer} is {' × '.join(map(str, shape))} in the base, and the adapter's is {width}")


def _layer(name: str) -> tuple[str, str] | None:
    """The layer that a tensor of an adapter stands beside, and its side if it is LoRA's; None for other tensors."""
    found = re.match(r"base_model\.model\.(.+?)\.(?:lora_([AB])\b|lora_|ia3_|hada_|lokr_|vera_|[bh]?oft_|hra_)", name)
    return (_bare(found[1]), found[2] or "") if found else None


def _bare(layer: str) -> str:
    """A layer's path without what stands before its number, which files of body and whole model call differently."""
    return re.sub(r"^.*?\.?([^.]+\.\d+\.)", r"\1", layer, count=1)


def _kind(layer: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", layer)


def _stranger(place: Path, why: str) -> UserError:
    return UserError(
        f"the adapter does not fit its base, so it was made for another: {why}",
        location=str(place),
        hint=f"name the right base in {CONFIG} (base_model_name_or_path)",
    )


@cache
def _types() -> frozenset[str]:
    """The types of adapters that the installed PEFT lists, read off its source."""
    spec = importlib.util.find_spec("peft")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "utils" / "peft_types.py").read_text("utf-8")
    return frozenset(re.findall(r'^    [A-Z0-9_]+ = "([A-Z0-9_]+)"', source, re.MULTILINE))
