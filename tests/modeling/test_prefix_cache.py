"""What all prompts begin with is read and kept once, and no answer is another for it, whatever the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from test_model_kinds import LETTERS, tokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bench.modeling import generation, prefix_cache
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Decoding

SHOTS = "What came before all of the questions, word for word. " * 2
PROMPTS = [f"{SHOTS}{'more ' * (place % 3)}question {'abcdefg'[place]}:" for place in range(7)]
OPTIONS = ["one", "two", "some more"]
SHAPE = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LONG = SHAPE | {
    "intermediate_size": 64,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
WINDOWS = ["sliding_attention", "full_attention"]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped queries": ("Llama", LONG | {"num_key_value_heads": 2}),
    "learnt positions": ("GPT2", {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "a window": ("Mistral", LONG | {"sliding_window": 16}),
    "a wide window": ("Mistral", LONG | {"sliding_window": 400}),
    "some windows": ("Gemma3Text", LONG | {"head_dim": 8, "sliding_window": 16, "layer_types": WINDOWS}),
    "capped weights": ("Gemma2", LONG | {"head_dim": 8, "attn_logit_softcapping": 1.0, "sliding_window": 4096}),
    "slopes for positions": ("Bloom", {"vocab_size": 260, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "parts turned": ("GPTNeoX", LONG),
    "biases": ("Qwen2", LONG),
    "offsets": ("OPT", LONG | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "one key for all": ("Falcon", SHAPE | {"multi_query": True, "new_decoder_architecture": False, "alibi": False}),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small model of each kind."""
    name, shape = KINDS[request.param]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**shape)
    config.bos_token_id, config.eos_token_id, config.tie_word_embeddings = None, len(LETTERS), False
    model = transformers.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        if weight.dim() > 1:  # so that answers differ
            torch.nn.init.normal_(weight, std=0.4)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    return tmp_path


def load(place: Path) -> CausalLM:
    lm: Any = Checkpoint(
        place, "float32", "cpu", Decoding(max_new_tokens=10, stop=tuple("aehknruxBDGJMPSVY,.:"))
    ).load()
    return lm


def test_answers_and_choices_are_as_where_every_prompt_is_read_by_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "FEWEST", 1)  # and rows that have ended are left out as soon as half of them have
    lm = load(place)
    usual = lm.model.config._attn_implementation
    together, chosen = lm.generate(PROMPTS), lm.choose_label(PROMPTS, OPTIONS)
    assert lm.model.config._attn_implementation == usual, "nothing else sees another attention"
    rated = [lm.loglikelihood(prompt, OPTIONS) for prompt in PROMPTS]
    assert chosen == [int(torch.tensor(nats).argmax()) for nats in rated]
    monkeypatch.setattr(prefix_cache, "LEAST", 10_000)
    other = load(place)
    alone = [other.generate([prompt])[0] for prompt in PROMPTS]
    assert len(set(alone)) >= 2, "the model must tell prompts apart, or nothing here can fail"
    assert together == alone == other.generate(PROMPTS)
    assert chosen == other.choose_label(PROMPTS, OPTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("masked", ["padded", "causal", "not at all"])
def test_attention_to_a_head_apart_is_attention_to_all(
    dtype: torch.dtype, length: int, groups: int, masked: str
) -> None:
    dice = torch.Generator().manual_seed(0)
    rows, own, before = 3, 7, 40

    def drawn(*shape: int) -> torch.Tensor:
        return (2 * torch.randn(shape, generator=dice)).to(dtype)

    query = drawn(rows, length, 4, 16).transpose(1, 2)
    head, rest = [[drawn(some, groups, tokens, 16) for _ in "kv"] for some, tokens in ((1, before), (rows, own))]
    mask = torch.ones((rows, 1, length, before + own), dtype=torch.bool).tril(before + own - length)
    if masked == "padded":
        mask[1, :, :, before : before + 2] = False
    whole = [torch.cat([first.expand(rows, -1, -1, -1), after], 2) for first, after in zip(head, rest, strict=True)]
    module = SimpleNamespace(num_key_value_groups=4 // groups, is_causal=True)
    expected = sdpa_attention_forward(module, query, *whole, mask, scaling=0.3)[0]  # type: ignore[arg-type]
    key, value = rest
    key.head = head  # type: ignore[attr-defined]
    given = None if masked == "not at all" else mask
    found, _ = prefix_cache.attend(module, query, key, value, given, scaling=0.3)
    assert found.dtype == dtype and found.shape == expected.shape
    off = 1e-5 if dtype is torch.float32 else 0.03
    assert torch.allclose(found.float(), expected.float(), atol=off, rtol=off)
    biased, _ = prefix_cache.attend(module, query, key, value, mask, scaling=0.3, position_bias=torch.zeros(1, 4, 1, 1))
    assert torch.allclose(biased.float(), expected.float(), atol=off, rtol=off), "and where they have to lie together"


def test_a_head_lies_in_memory_once_however_many_rows_go_on_from_it(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    rows = [lm.tokens(prompt) for prompt in PROMPTS]
    head = prefix_cache.read_prefix(lm.model, rows, 0, 0, 6)
    assert head is not None and head.separate and head.ids == prefix_cache.common_prefix(rows)
    one, other = head.begin(), head.begin()
    for layer, mine, theirs in zip(head.cache.layers, one.layers, other.layers, strict=True):
        assert mine.get_seq_length() == theirs.get_seq_length() == len(head.ids)
        assert mine._head[0].data_ptr() == theirs._head[0].data_ptr() == layer.keys.data_ptr()


def test_keys_that_come_one_by_one_are_those_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "GROWTH", 3)
    head, whole = (torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)), torch.randn(2, 2, 11, 4)
    for apart in (True, False):
        layer = prefix_cache.PrefixedLayer(head, apart)
        for part in whole.split([4, 1, 1, 3, 1, 1], 2):
            keys, values = layer.update(part, part + 1)
        assert layer.get_seq_length() == 17
        expected = whole if apart else torch.cat([head[0].expand(2, -1, -1, -1), whole], 2)
        assert torch.equal(keys, expected)
        assert torch.equal(values[:, :, -11:], whole + 1)
        layer.batch_repeat_interleave(2)
        keys, _ = layer.update(torch.randn(4, 2, 1, 4), torch.randn(4, 2, 1, 4))
        assert len(keys) == 4 and torch.equal(keys[1, :, -12:-1], whole[0])


def test_what_all_prompts_begin_with_is_told_and_reckoned_with(lively: Checkpoint) -> None:
    lm: Any = lively.load()
    lm.answer(PROMPTS)
    assert lm.tally.shared_prompt == len(prefix_cache.common_prefix([lm.tokens(prompt) for prompt in PROMPTS])) > 100
    lm.answer(PROMPTS[:1])
    assert lm.tally.shared_prompt == 0
    lm.choose(PROMPTS, OPTIONS)
    assert lm.tally.shared_prompt > 100


def test_rows_that_have_ended_are_not_computed_on_and_answers_are_as_if_they_were(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = lively.load()
    letters = "".join(first.answer([f"{word} {place}:" for place in range(20)])[0] for word in ("red", "blue", "one"))
    decoding = lively.decoding.model_copy(update={"max_new_tokens": 24, "stop": tuple(sorted(set(letters)))[:3]})
    for shared in ("", SHOTS):
        prompts = [f"{shared}{'more ' * (place % 5)}question {place * 7}:" for place in range(40)]
        asked, found = [], []
        for fewest in (1, 1000):
            monkeypatch.setattr(generation, "FEWEST", fewest)
            lm: Any = dataclasses.replace(lively, decoding=decoding).load()
            rows: list[int] = []
            lm.model.register_forward_pre_hook(
                lambda module, args, given, rows=rows: rows.append(given["input_ids"].numel()), with_kwargs=True
            )
            found.append((lm.answer(prompts), vars(lm.tally)))
            asked.append(sum(rows))
        assert found[0] == found[1]
        assert asked[0] < asked[1], "or nothing was left out"
