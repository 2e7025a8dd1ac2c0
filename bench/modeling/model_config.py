"""What a model's configuration says it is, and whether the installed transformers knows that; it is not imported."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError

DECODERS = ("ForCausalLM", "LMHeadModel")
ENCODERS = ("ForMaskedLM", "ForPreTraining", "ForSequenceClassification")
WRITING, READING = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"

Kind = Literal["decoder", "encoder"]


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a model folder; raises `UserError` where it is not there or does not read."""
    file = folder / name
    if not file.is_file():
        empty = folder.is_dir() and not any(folder.iterdir())
        problem = "the model folder is empty" if empty else f"the model folder has no {name}"
        raise UserError(problem, location=str(folder), hint="save it with save_pretrained")
    try:
        said = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(
            f"{name} is not valid JSON: {error}", location=str(file), hint="copy or save it again"
        ) from None
    if not isinstance(said, dict):
        raise UserError(f"{name} is not a JSON object", location=str(file), hint="copy or save it again")
    return said


def model_kind(config: dict[str, Any]) -> Kind | None:
    """Whether a model continues text or only reads it, by the names of its architectures; None if neither."""
    names = config.get("architectures") or []
    if any(name.endswith(DECODERS) for name in names):
        return "decoder"
    return "encoder" if any(name.endswith(ENCODERS) for name in names) else None


def check_config(folder: Path) -> Kind:
    """What a model folder's configuration makes of it; raises `UserError` for what cannot be loaded here."""
    config, where = read_config(folder), str(folder / "config.json")
    found = model_kind(config)
    if found is None:
        problem = f"neither a causal language model nor an encoder: architectures are {config.get('architectures')}"
        raise UserError(problem, location=where, hint=f"names that end in {', '.join(DECODERS + ENCODERS)} are known")
    if "quantization_config" in config:
        how = (config["quantization_config"] or {}).get("quant_method", "some way")
        raise UserError(
            f"the weights are quantized already ({how}), so most methods could not train them",
            location=where,
            hint="give the model it was made from; qlora quantizes by itself",
        )
    name, known = config.get("model_type"), known_types(WRITING if found == "decoder" else READING)
    if name in known:
        return found
    if "auto_map" in config:
        raise UserError(
            f"the model brings code of its own (model_type '{name}'), which is never run here",
            location=where,
            hint="trust_remote_code is off for good; take a model that transformers knows, or a conversion to one",
        )
    does = "writes" if found == "decoder" else "tells labels apart"
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(
        f"the installed transformers has no model of the type '{name}' that {does}",
        location=where,
        hint=f"a newer one may: pip install -U transformers{hint}",
    )


@cache
def known_types(mapping: str) -> frozenset[str]:
    """The model types that the installed transformers lists in one of its mappings, read off its source."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(source.read_bytes()).body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == mapping
            and isinstance(node.value, ast.Call)
        ):
            return frozenset(name for name, _ in ast.literal_eval(node.value.args[0]))
    raise LookupError(f"{source} has no {mapping}")
