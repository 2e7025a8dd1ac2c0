"""A shared prompt prefix is computed and stored once and changes no answer, for models of many architectures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from support import byte_tokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bench.modeling import compat, generation, prefix_cache
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import Decoding

PREFIX = "What came before all of the questions, word for word. " * 2
PROMPTS = [f"{PREFIX}{'more ' * (index % 3)}question {'abcdefg'[index]}:" for index in range(7)]
COMPLETIONS = ["one", "two", "some more"]
EOS_TOKEN_ID = 256
SHAPE = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LONG = SHAPE | {
    "intermediate_size": 64,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
LAYER_TYPES = ["sliding_attention", "full_attention"]
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped queries": ("Llama", LONG | {"num_key_value_heads": 2}),
    "learned positions": ("GPT2", {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "short sliding window": ("Mistral", LONG | {"sliding_window": 16}),
    "long sliding window": ("Mistral", LONG | {"sliding_window": 400}),
    "mixed windows": ("Gemma3Text", LONG | {"head_dim": 8, "sliding_window": 16, "layer_types": LAYER_TYPES}),
    "softcapped scores": ("Gemma2", LONG | {"head_dim": 8, "attn_logit_softcapping": 1.0, "sliding_window": 4096}),
    "alibi": ("Bloom", {"vocab_size": 260, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "partial rotary": ("GPTNeoX", LONG),
    "attention biases": ("Qwen2", LONG),
    "position offset": ("OPT", LONG | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "multi-query": ("Falcon", SHAPE | {"multi_query": True, "new_decoder_architecture": False, "alibi": False}),
}  # fmt: skip


@pytest.fixture(params=ARCHITECTURES)
def model_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small model of each architecture."""
    name, shape = ARCHITECTURES[request.param]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**shape)
    config.bos_token_id, config.eos_token_id, config.tie_word_embeddings = None, EOS_TOKEN_ID, False
    model = transformers.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        if weight.dim() > 1:  # large weights make the answers differ
            torch.nn.init.normal_(weight, std=0.4)
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def load(folder: Path) -> CausalLM:
    decoding = Decoding(max_new_tokens=10, stop=tuple("aehknruxBDGJMPSVY,.:"))
    lm: Any = Checkpoint(folder, "float32", "cpu", decoding).load()
    return lm


def test_shared_prefix_changes_no_answer_and_no_choice(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "MIN_ROWS_TO_COMPACT", 1)  # finished rows are dropped once half of them are
    lm = load(model_folder)
    attention = lm.model.config._attn_implementation
    answers, choices = lm.generate(PROMPTS), lm.choose_label(PROMPTS, COMPLETIONS)
    assert lm.model.config._attn_implementation == attention, "the model has its own attention again"
    loglikelihoods = [lm.loglikelihood(prompt, COMPLETIONS) for prompt in PROMPTS]
    assert choices == [int(torch.tensor(nats).argmax()) for nats in loglikelihoods]
    monkeypatch.setattr(prefix_cache, "MIN_SHARED_PREFIX_TOKENS", 10_000)
    unshared = load(model_folder)
    single_answers = [unshared.generate([prompt])[0] for prompt in PROMPTS]
    assert len(set(single_answers)) >= 2, "the answers must differ, or this test cannot fail"
    assert answers == single_answers == unshared.generate(PROMPTS)
    assert choices == unshared.choose_label(PROMPTS, COMPLETIONS)


@pytest.mark.parametrize(
    ("prompts", "prefix"), [([[1, 2, 3]], []), ([[1, 2, 3], [1, 2]], [1]), ([[1, 2], [1, 2]], [1]), ([[3], [4]], []),
    ([[7, 7, 1], [7, 7, 2], [7, 7, 1, 5]], [7, 7]), ([[], [1]], [])],
)  # fmt: skip
def test_common_prefix_leaves_every_prompt_a_token(
    prompts: list[list[int]], prefix: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "MIN_SHARED_PREFIX_TOKENS", 1)
    assert prefix_cache.common_prefix(prompts) == prefix


def attend_in_float32(query: Any, key: Any, value: Any, bias: Any, scale: float | None) -> tuple[Any, Any]:
    """Attend like a CUDA kernel, which computes in float32 with powers of two."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    assert query.shape[:2] == key.shape[:2] == value.shape[:2], "the kernels know no shared heads"
    scores = scale * query.float() @ key.float().transpose(-1, -2) + (0.0 if bias is None else bias.float())
    scores *= math.log2(math.e)
    weights = torch.exp2(scores - scores.amax(-1, keepdim=True))
    output = (weights @ value.float() / weights.sum(-1, keepdim=True)).to(query.dtype)
    lse = (weights.sum(-1).log2() + scores.amax(-1)) / math.log2(math.e)
    return output.transpose(1, 2).contiguous().transpose(1, 2), lse


@pytest.fixture
def cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let attention call stand-ins for the kernels of CUDA that have their limits; returns the calls."""
    calls = []

    def flash(query: Any, key: Any, value: Any, scale: float | None = None) -> tuple[Any, ...]:
        calls.append("flash")
        assert query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] == value.shape[-1]
        assert query.shape[-1] % 8 == 0 and query.shape[-1] <= 256
        return (*attend_in_float32(query, key, value, None, scale), None, None, 0, 0, None, None, None)

    def efficient(
        query: Any, key: Any, value: Any, bias: Any, compute_lse: bool, scale: float | None = None
    ) -> tuple[Any, ...]:
        calls.append("efficient")
        assert compute_lse
        if bias is not None:
            assert bias.shape == (*query.shape[:-1], key.shape[-2]) and bias.dtype == query.dtype
            assert bias.stride(-1) == 1 and all(stride % 16 == 0 for stride in bias.stride()[:-1])
        output, lse = attend_in_float32(query, key, value, bias, scale)
        return output, torch.nn.functional.pad(lse, (0, -lse.shape[-1] % 32), value=torch.inf), None, None

    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_flash_attention", flash)
    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", efficient)
    monkeypatch.setattr(compat, "attention_with_lse", compat.cuda_attention_with_lse)
    return calls


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shared_prefix_on_cuda_kernels_changes_no_answer(
    lively: Checkpoint, dtype: Any, cuda_kernels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm: Any = dataclasses.replace(lively, dtype=dtype).load()
    assert lm.fast_paths.separate_prefix
    cuda_kernels.clear()
    answers, choices = lm.generate(PROMPTS), lm.choose_label(PROMPTS, COMPLETIONS)
    assert set(cuda_kernels) == ({"efficient"} if dtype == "float32" else {"flash", "efficient"})
    monkeypatch.setattr(prefix_cache, "MIN_SHARED_PREFIX_TOKENS", 10_000)
    unshared: Any = dataclasses.replace(lively, dtype=dtype).load()
    assert choices == unshared.choose_label(PROMPTS, COMPLETIONS)
    if dtype == "float32":  # in bfloat16 two tokens may be equally likely
        assert answers == unshared.generate(PROMPTS)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("masked", ["padded", "causal", "no mask", "nothing visible"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_prefix_attention_on_cuda_kernels_equals_attention_to_all_keys(
    dtype: torch.dtype, length: int, kv_heads: int, masked: str, cuda_kernels: list[str]
) -> None:
    check_prefix_attention(dtype, length, kv_heads, masked)
    assert cuda_kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", ["padded", "causal", "no mask"])
def test_prefix_attention_forward_equals_attention_to_all_keys(
    dtype: torch.dtype, length: int, kv_heads: int, masked: str
) -> None:
    check_prefix_attention(dtype, length, kv_heads, masked)


def check_prefix_attention(dtype: torch.dtype, length: int, kv_heads: int, masked: str) -> None:
    """Compare attention to a separate prefix with attention to all keys."""
    generator = torch.Generator().manual_seed(0)
    rows, own_tokens, prefix_tokens = 3, 7, 40

    def random_tensor(*shape: int) -> torch.Tensor:
        return (2 * torch.randn(shape, generator=generator)).to(dtype)

    query = random_tensor(rows, length, 4, 16).transpose(1, 2)
    prefix_keys, prefix_values = (random_tensor(1, kv_heads, prefix_tokens, 16) for _ in range(2))
    key, value = (random_tensor(rows, kv_heads, own_tokens, 16) for _ in range(2))
    all_tokens = prefix_tokens + own_tokens
    mask = torch.ones((rows, 1, length, all_tokens), dtype=torch.bool).tril(all_tokens - length)
    if masked == "padded":
        mask[1, :, :, prefix_tokens : prefix_tokens + 2] = False
    if masked == "nothing visible":  # as for the padding before a prompt
        mask[1, :, 0, prefix_tokens:] = False
    all_keys = torch.cat([prefix_keys.expand(rows, -1, -1, -1), key], 2)
    all_values = torch.cat([prefix_values.expand(rows, -1, -1, -1), value], 2)
    module: Any = SimpleNamespace(num_key_value_groups=4 // kv_heads, is_causal=True)
    expected = sdpa_attention_forward(module, query, all_keys, all_values, mask, scaling=0.3)[0]
    compat.attach_prefix(key, (prefix_keys, prefix_values))
    attention_mask = None if masked == "no mask" else mask
    output, _ = prefix_cache.prefix_attention_forward(module, query, key, value, attention_mask, scaling=0.3)
    assert output.dtype == dtype and output.shape == expected.shape
    tolerance = 1e-5 if dtype is torch.float32 else 0.03
    assert torch.allclose(output.float(), expected.float(), atol=tolerance, rtol=tolerance)
    bias = torch.zeros(1, 4, 1, 1)
    biased, _ = prefix_cache.prefix_attention_forward(module, query, key, value, mask, scaling=0.3, position_bias=bias)
    assert torch.allclose(biased.float(), expected.float(), atol=tolerance, rtol=tolerance), "with a copied prefix"


def test_new_cache_shares_memory_of_prefix(lively: Checkpoint) -> None:
    lm = lively.load()
    prompts = [lm.tokens(prompt) for prompt in PROMPTS]
    prefix = prefix_cache.read_prefix(lm.model, prefix_cache.common_prefix(prompts), 0, 0, 200)
    assert prefix is not None and prefix.separate and prefix.ids == prefix_cache.common_prefix(prompts)
    layers: list[Any] = prefix.past_key_values.layers
    for cache in (prefix.new_cache(), prefix.new_cache()):
        for source, layer in zip(layers, cache.layers, strict=True):
            assert layer.get_seq_length() == len(prefix.ids)
            keys, _ = layer.update(source.keys[:, :, :1], source.values[:, :, :1])
            attached = compat.attached_prefix(keys)
            assert attached is not None and attached[0].data_ptr() == source.keys.data_ptr()


@pytest.mark.parametrize("separate", [True, False])
def test_prefixed_layer_token_by_token_equals_all_at_once(separate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "CACHE_GROWTH_TOKENS", 3)
    prefix, all_keys = (torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)), torch.randn(2, 2, 11, 4)
    layer = prefix_cache.PrefixedLayer(prefix, separate)
    for part in all_keys.split([4, 1, 1, 3, 1, 1], 2):
        keys, values = layer.update(part, part + 1)
    assert layer.get_seq_length() == 17
    expected = all_keys if separate else torch.cat([prefix[0].expand(2, -1, -1, -1), all_keys], 2)
    assert torch.equal(keys, expected)
    assert torch.equal(values[:, :, -11:], all_keys + 1)
    layer.batch_repeat_interleave(2)
    keys, _ = layer.update(torch.randn(4, 2, 1, 4), torch.randn(4, 2, 1, 4))
    assert len(keys) == 4 and torch.equal(keys[1, :, -12:-1], all_keys[0])


def test_token_usage_counts_shared_prefix_of_latest_call(lively: Checkpoint) -> None:
    lm = lively.load()
    lm.generate(PROMPTS)
    shared = prefix_cache.common_prefix([lm.tokens(prompt) for prompt in PROMPTS])
    assert lm.token_usage.shared_prefix_tokens == len(shared) > 100
    lm.generate(PROMPTS[:1])
    assert lm.token_usage.shared_prefix_tokens == 0
    lm.choose_label(PROMPTS, COMPLETIONS)
    assert lm.token_usage.shared_prefix_tokens > 100


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["no prefix", "prefix"])
def test_generate_dropping_finished_rows_changes_no_answer(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    probe = lively.load()
    letters = "".join(probe.generate([f"{word} {i}:" for i in range(20)])[0] for word in ("red", "blue", "one"))
    decoding = lively.decoding.model_copy(update={"max_new_tokens": 24, "stop": tuple(sorted(set(letters)))[:3]})
    prompts = [f"{prefix}{'more ' * (index % 5)}question {index * 7}:" for index in range(40)]
    input_tokens, results = [], []
    for min_rows in (1, 1000):
        monkeypatch.setattr(generation, "MIN_ROWS_TO_COMPACT", min_rows)
        lm = dataclasses.replace(lively, decoding=decoding).load()
        sizes: list[int] = []
        lm.model.register_forward_pre_hook(
            lambda module, args, kwargs, sizes=sizes: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        results.append((lm.generate(prompts), vars(lm.token_usage)))
        input_tokens.append(sum(sizes))
    assert results[0] == results[1]
    assert input_tokens[0] < input_tokens[1], "rows must have been dropped, or this test cannot fail"
