"""Uses of other libraries beyond their documented interfaces, gathered in one file.

Check each of them when a dependency is upgraded; `tests/modeling/test_modeling_compat.py` has a test for every one.

- transformers (>=5.23, <6): the model types are read from the source of `modeling_auto.py`, because importing
  transformers takes seconds and `bench validate` needs the names alone. An attention function is registered for
  the whole process. `_attn_implementation` and `_supports_attention_backend` are private, but nothing public tells
  which attention a model uses and whether it accepts another one.
  The configuration of Llama and its relatives refuses a hidden size that is no multiple of the attention heads, even
  with an explicit `head_dim`, which is all that the layers need. The refusal is taken out of the configuration class.
- PEFT (>=0.21): the adapter types are read from the source of `peft_types.py`, for the same reason. A missing
  adapter weight is only a warning there and is turned into an error by the text of the warning. The layers of Mamba
  that LoRA may not adapt are found by the private function that refuses them.
- bitsandbytes (>=0.50): `Linear4bit.compute_dtype`, `compute_type_is_set` and `support_avx512bf16_for_cpu` are set,
  because the arguments of loading do not reach the layers of a model that is stored quantized.
- PyTorch (>=2.13): `torch.ops.aten._scaled_dot_product_flash_attention_for_cpu` and, on CUDA,
  `_scaled_dot_product_flash_attention` and `_scaled_dot_product_efficient_attention` are private, but the public
  `scaled_dot_product_attention` does not return the log-sum-exp. The keys of a shared prefix travel to the attention
  function as an attribute of the key tensor, because the signature of attention in transformers has no place for them.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bench.source import parse_source

CAUSAL_LM_MAPPING = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
SEQUENCE_CLASSIFICATION_MAPPING = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
MASKED_LM_MAPPING = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
ENCODER_MAPPINGS = (
    "MODEL_MAPPING_NAMES",
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    MASKED_LM_MAPPING,
    SEQUENCE_CLASSIFICATION_MAPPING,
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES",
)
"""Mappings whose classes hold the body of an encoder, with or without a head."""
# Types in these mappings are, or belong to, models that read a whole text at once.
BIDIRECTIONAL_MAPPINGS = (
    MASKED_LM_MAPPING,
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
)
PREFIX_ATTRIBUTE = "_bench_prefix"
ARCHITECTURE_VALIDATOR = "validate_architecture"
FLASH_CAPABILITY = 8, 0  # of a CUDA device, at least (Ampere)
EFFICIENT_KERNEL_ALIGNMENT = 16
MISSING_ADAPTER_KEYS = ".*missing adapter keys.*"


def library_file(package: str, path: str) -> Path:
    """Return a source file of an installed package without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / path


def transformers_model_types(mapping: str) -> frozenset[str]:
    """Return the model types that a mapping of the installed transformers lists.

    Args:
        mapping: `CAUSAL_LM_MAPPING`, `SEQUENCE_CLASSIFICATION_MAPPING`, `MASKED_LM_MAPPING` or one of
            `BIDIRECTIONAL_MAPPINGS`.
    """
    return frozenset(model_type for model_type, _ in _read_mapping(mapping))


def transformers_classes(mapping: str, model_type: str) -> frozenset[str]:
    """Return the names of the classes that a mapping lists for a model type."""
    names = [value for listed_type, value in _read_mapping(mapping) if listed_type == model_type]
    return frozenset(name for value in names for name in ((value,) if isinstance(value, str) else value))


@cache
def _read_mapping(mapping: str) -> tuple[tuple[str, Any], ...]:
    """Return the pairs of model type and class name that a mapping of transformers lists.

    A type may have several class names, which form a tuple.

    The source is parsed; transformers is imported only if the mapping is not found in it.
    """
    module = _parse(library_file("transformers", "models/auto/modeling_auto.py"))
    assignments = [node for node in module.body if isinstance(node, ast.Assign)]
    for node in assignments:
        if ast.unparse(node.targets[0]) == mapping and isinstance(node.value, ast.Call) and node.value.args:
            try:
                return tuple((model_type, name) for model_type, name in ast.literal_eval(node.value.args[0]))
            except (ValueError, TypeError):
                break  # the mapping is no longer a list of pairs
    from transformers.models.auto import modeling_auto

    return tuple(getattr(modeling_auto, mapping).items())


def has_explicit_head_dim(config: dict[str, Any]) -> bool:
    """Return True for an explicit `head_dim` and a hidden size that heads do not divide.

    Args:
        config: Content of a `config.json`.
    """
    hidden_size, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not (isinstance(hidden_size, int) and isinstance(heads, int) and heads > 0):
        return False
    return isinstance(config.get("head_dim"), int) and hidden_size % heads != 0


def accept_explicit_head_dim(config: dict[str, Any]) -> None:
    """Let transformers load a model with an explicit `head_dim` of any hidden size.

    Its class loses the check of that, for the whole process; nothing changes for a configuration without an explicit
    `head_dim`.
    """
    if not has_explicit_head_dim(config):
        return
    from transformers import AutoConfig

    config_class: Any = type(AutoConfig.for_model(config["model_type"]))
    validators = config_class.__class_validators__
    validators[:] = [validator for validator in validators if validator.__name__ != ARCHITECTURE_VALIDATOR]


def prepare_quantized_layers(model: Any, dtype: Any) -> None:
    """Make the 4-bit layers of bitsandbytes compute in the precision of the run.

    A quantized model names the precision of the machine that made it. On CPUs with AVX512-BF16 the first answer would
    repack the weights for a bfloat16 kernel without gradient: later training would be wrong without an error, and
    answers would have another precision than those of other methods.
    """
    if "bitsandbytes" not in sys.modules:
        return
    from bitsandbytes.nn import Linear4bit

    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.compute_dtype, layer.compute_type_is_set = dtype, True
            layer.support_avx512bf16_for_cpu = False


@cache
def peft_types() -> frozenset[str]:
    """Return the adapter types of the installed PEFT, such as `LORA`.

    The source is parsed; PEFT is imported only if no type is found in it.
    """
    module = _parse(library_file("peft", "utils/peft_types.py"))
    enums = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "PeftType"]
    members = [node.value for enum in enums for node in enum.body if isinstance(node, ast.Assign)]
    types = frozenset(str(member.value) for member in members if isinstance(member, ast.Constant))
    if types:
        return types
    from peft import PeftType

    return frozenset(member.value for member in PeftType)


def refused_lora_layers(model: Any) -> list[str]:
    """Return the names of linear layers, as of Mamba, that PEFT refuses to adapt by LoRA."""
    from peft import LoraConfig
    from peft.tuners import tuners_utils
    from torch.nn import Linear

    names = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, Linear)}
    refused = []
    for name in sorted(names):
        try:
            tuners_utils._check_lora_target_modules_mamba(LoraConfig(), model, name)
        except ValueError:
            refused.append(name)
    return refused


@contextmanager
def raise_on_missing_adapter_weights() -> Iterator[None]:
    """Raise `UserWarning` where PEFT only warns that an adapter file lacks weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=MISSING_ADAPTER_KEYS)
        yield


def attention_implementation(model: Any) -> str | None:
    """Return the name of a model's attention function, such as `sdpa`; None if unnamed."""
    name: str | None = getattr(model.config, "_attn_implementation", None)
    return name


def supports_registered_attention(model: Any) -> bool:
    """Tell if a model finds attention in transformers' registry, so that it can be replaced."""
    return bool(model._supports_attention_backend)


def register_attention(name: str, forward: Callable[..., tuple[Any, None]]) -> None:
    """Register an attention function with the masks of `sdpa`, for all models of this process.

    A model uses it only after `model.set_attn_implementation(name)`.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, sdpa_mask)


def attach_prefix(keys: Any, prefix: tuple[Any, Any]) -> None:
    """Attach a shared prefix's keys and values to the key tensor passed to attention."""
    setattr(keys, PREFIX_ATTRIBUTE, prefix)


def attached_prefix(keys: Any) -> tuple[Any, Any] | None:
    """Return the keys and values attached by `attach_prefix`; None if there are none."""
    prefix: tuple[Any, Any] | None = getattr(keys, PREFIX_ATTRIBUTE, None)
    return prefix


def attention_with_lse(
    query: Any, key: Any, value: Any, *, mask: Any = None, scale: float | None = None
) -> tuple[Any, Any]:
    """Attend with a fused kernel of the device, and also return the log-sum-exp of the scores.

    Args:
        query: Tensor (rows, heads, query tokens, width).
        key: Tensor (rows, heads, key tokens, width).
        value: Tensor (rows, heads, key tokens, width).
        mask: Added to the scores (rows, 1, query tokens or 1, key tokens); None if every query sees every key.
        scale: Factor of the scores; None for 1 / sqrt(width).

    Returns:
        The output (rows, heads, query tokens, width) and the log-sum-exp (rows, heads, query tokens).
    """
    if query.device.type != "cpu":
        return cuda_attention_with_lse(query, key, value, mask=mask, scale=scale)
    import torch

    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, log_sum_exp = attend(query, key, value, attn_mask=mask, scale=scale)
    return output, log_sum_exp


def cuda_attention_with_lse(
    query: Any, key: Any, value: Any, *, mask: Any = None, scale: float | None = None
) -> tuple[Any, Any]:
    """Attend on CUDA, with the arguments and results of `attention_with_lse`.

    Flash attention takes no mask and no float32; memory-efficient attention takes both.
    """
    import torch

    if mask is None and _fits_flash_kernel(query, value):
        output, log_sum_exp, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)
        return output, log_sum_exp
    if mask is not None:
        key_length = key.shape[-2]
        # The rows of a mask have to begin at multiples of 16 values. It is not copied for each head.
        aligned = torch.nn.functional.pad(mask, (0, -key_length % EFFICIENT_KERNEL_ALIGNMENT))
        mask = aligned[..., :key_length].expand(*query.shape[:-1], key_length)
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    output, log_sum_exp, *_ = attend(query, key, value, mask, True, scale=scale)
    return output, log_sum_exp[..., : query.shape[-2]]  # the kernel fills its last block


def _fits_flash_kernel(query: Any, value: Any) -> bool:
    """Tell if flash attention has a kernel for tensors of this type on their device."""
    import torch

    width = query.shape[-1]
    if query.element_size() != 2 or width != value.shape[-1] or width % 8 or width > 256:
        return False
    return query.device.type != "cuda" or torch.cuda.get_device_capability(query.device) >= FLASH_CAPABILITY


def has_bfloat16_kernels(device: Any) -> bool:
    """Tell if the attention kernels of a CUDA device compute in bfloat16."""
    import torch

    return torch.cuda.get_device_capability(device) >= FLASH_CAPABILITY


def _parse(source: Path) -> ast.Module:
    """Parse a source file; a file that is missing or cannot be parsed counts as empty."""
    try:
        return parse_source(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
