"""Uses of private parts of transformers, PEFT and PyTorch still work with the installed versions."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from bench.modeling import compat
from bench.modeling.checkpoint import Checkpoint

MAPPINGS = (compat.CAUSAL_LM_MAPPING, *compat.ENCODER_MAPPINGS)


def library_sources(folder: Path, source: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every source file of a library be the given text, or missing."""
    file = folder / "source.py"
    if source is not None:
        file.write_text(source, "utf-8")
    monkeypatch.setattr(compat, "library_file", lambda package, path: file)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_transformers_model_types_are_those_of_imported_library(mapping: str) -> None:
    from transformers.models.auto import modeling_auto

    assert compat.transformers_model_types(mapping) == set(getattr(modeling_auto, mapping))


def test_peft_types_are_those_of_imported_library() -> None:
    from peft import PeftType

    assert compat.peft_types() == {member.value for member in PeftType}


@pytest.mark.parametrize(
    "source", [None, "", "syntax error(", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(pairs)"],
    ids=["missing", "empty", "invalid", "another form"],
)  # fmt: skip
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_transformers_model_types_unknown_source_imports_library(
    mapping: str, source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = compat.transformers_model_types(mapping)
    library_sources(tmp_path, source, monkeypatch)
    compat._read_mapping.cache_clear()
    assert compat.transformers_model_types(mapping) == expected


@pytest.mark.parametrize("source", [None, "", "class PeftType:\n    pass"], ids=["missing", "empty", "another form"])
def test_peft_types_unknown_source_imports_library(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = compat.peft_types()
    library_sources(tmp_path, source, monkeypatch)
    assert compat.peft_types.__wrapped__() == expected


def test_raise_on_missing_adapter_weights_incomplete_file_raises(tiny: Checkpoint, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file, save_file

    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)
    get_peft_model(tiny.load().model, config).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, file)
    with compat.raise_on_missing_adapter_weights(), pytest.raises(UserWarning, match="missing adapter keys"):
        PeftModel.from_pretrained(tiny.load().model, str(tmp_path))


def test_raise_on_missing_adapter_weights_passes_other_warnings() -> None:
    with pytest.warns(UserWarning, match="something else"), compat.raise_on_missing_adapter_weights():
        warnings.warn("something else", stacklevel=1)


def test_register_attention_is_used_after_set_attn_implementation() -> None:
    calls = []

    def forward(module: Any, query: Any, *args: Any, **kwargs: Any) -> tuple[Any, None]:
        calls.append(query.shape)
        return query.transpose(1, 2).contiguous(), None

    name = "bench_test_attention"
    compat.register_attention(name, forward)
    assert name in AttentionInterface().valid_keys()
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=10, **shape))
    assert compat.attention_implementation(model) == "sdpa"
    assert compat.supports_registered_attention(model)
    model(input_ids=torch.tensor([[1, 2, 3]]))
    assert not calls
    model.set_attn_implementation(name)
    assert compat.attention_implementation(model) == name
    model(input_ids=torch.tensor([[1, 2, 3]]))
    assert calls == [(1, 2, 3, 4)]


def test_attached_prefix_is_on_its_tensor_alone() -> None:
    keys, prefix = torch.zeros(1, 2, 3, 4), (torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5, 4))
    assert compat.attached_prefix(keys) is None
    compat.attach_prefix(keys, prefix)
    assert compat.attached_prefix(keys) is prefix
    assert compat.attached_prefix(keys.clone()) is None


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_lse_equals_plain_attention(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, tokens, 8) for tokens in (4, 6, 6))
    mask = torch.zeros(2, 1, 4, 6)
    if masked:
        mask[0, :, :, :2] = torch.finfo(mask.dtype).min
    output, log_sum_exp = compat.attention_with_lse(query, key, value, mask=mask if masked else None, scale=0.3)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    assert torch.allclose(output, expected, atol=1e-5)
    scores = 0.3 * query @ key.transpose(-1, -2) + mask
    assert torch.allclose(log_sum_exp, scores.logsumexp(-1), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_cuda_attention_with_lse_calls_kernels_that_exist(masked: bool, dtype: torch.dtype) -> None:
    """On the meta device, which knows the arguments of the kernels and the shapes of their results."""
    query, key, value = (torch.empty(2, 3, tokens, 16, dtype=dtype, device="meta") for tokens in (40, 6, 6))
    mask = torch.empty(2, 1, 1, 6, dtype=dtype, device="meta") if masked else None
    output, log_sum_exp = compat.cuda_attention_with_lse(query, key, value, mask=mask, scale=0.3)
    assert (output.shape, output.dtype) == (query.shape, dtype)
    assert (log_sum_exp.shape, log_sum_exp.dtype) == (query.shape[:3], torch.float32)


@pytest.mark.parametrize(("model_type", "refused"), [("mamba", ["out_proj"]), ("llama", [])])
def test_refused_lora_layers_are_those_of_mamba(model_type: str, refused: list[str]) -> None:
    model: Any = torch.nn.Module()
    model.config = SimpleNamespace(model_type=model_type)
    model.out_proj, model.in_proj = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert compat.refused_lora_layers(model) == refused
