"""Answers and losses computed on the GPU equal those of plain generation and those of the CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import CODE

from bench.data import hub_tasks
from bench.modeling import compat, prefix_cache
from bench.modeling.checkpoint import Checkpoint
from bench.records import Decoding

pytestmark = pytest.mark.gpu

PREFIX = "What came before all of the questions, word for word. " * 2
PROMPTS = [f"{PREFIX}{'more ' * (index % 3)}question {'abcdefg'[index]}:" for index in range(7)]
COMPLETIONS = ["one", "two", "some more"]
SHOTS = 4


@pytest.fixture
def lm(lively: Checkpoint, device: str) -> Any:
    """A tiny model in float32 that answers each prompt differently."""
    return dataclasses.replace(lively, device=device).load()


def load_bookworm(device: str, dtype: str = "float32") -> Any:
    decoding = Decoding(max_new_tokens=16, stop=("\n",))
    return Checkpoint(CODE / "models" / "bookworm", dtype, device, decoding).load()


@pytest.fixture(scope="module")
def few_shot_prompts(make_small_task: Callable[[str], Path]) -> list[str]:
    """Prompts with the same solved examples before different questions."""
    task = hub_tasks.load_task(make_small_task("capitals"))
    data = task.training_data(0, None)
    return [data.prompt(row.input, data.train[:SHOTS]) for row in task.splits["test"]]


def test_shared_prefix_changes_no_answer_and_no_choice(
    lm: Any, lively: Checkpoint, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, choices = lm.generate(PROMPTS), lm.choose_label(PROMPTS, COMPLETIONS)
    assert lm.token_usage.shared_prefix_tokens > 100
    monkeypatch.setattr(prefix_cache, "MIN_SHARED_PREFIX_TOKENS", 10_000)
    unshared: Any = dataclasses.replace(lively, device=device).load()
    assert answers == [unshared.generate([prompt])[0] for prompt in PROMPTS] == unshared.generate(PROMPTS)
    assert choices == unshared.choose_label(PROMPTS, COMPLETIONS)
    assert len(set(answers)) > 1 and not unshared.token_usage.shared_prefix_tokens


def test_few_shot_answers_equal_plain_generate(few_shot_prompts: list[str], device: str) -> None:
    import torch

    bookworm = load_bookworm(device)
    answers = bookworm.generate(few_shot_prompts)
    assert bookworm.token_usage.shared_prefix_tokens > 24
    for prompt, answer in zip(few_shot_prompts, answers, strict=True):
        input_ids = torch.tensor([bookworm.tokens(prompt)], device=device)
        output = bookworm.model.generate(input_ids, attention_mask=torch.ones_like(input_ids), max_new_tokens=16)
        plain = bookworm.tokenizer.decode(output[0, input_ids.shape[1] :], skip_special_tokens=True)
        assert plain.startswith(answer) or answer.startswith(plain)


def test_answers_equal_those_of_the_cpu(few_shot_prompts: list[str], device: str) -> None:
    assert load_bookworm(device).generate(few_shot_prompts) == load_bookworm("cpu").generate(few_shot_prompts)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_loglikelihoods_are_close_to_those_of_the_cpu(
    dtype: str, tolerance: float, few_shot_prompts: list[str], device: str
) -> None:
    bookworm, reference = load_bookworm(device, dtype), load_bookworm("cpu")
    for prompt in few_shot_prompts[:3]:
        nats = bookworm.loglikelihood(prompt, COMPLETIONS)
        assert nats == pytest.approx(reference.loglikelihood(prompt, COMPLETIONS), rel=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_shared_prefix_changes_loglikelihoods_by_rounding_only(
    dtype: str, tolerance: float, few_shot_prompts: list[str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.modeling import scoring

    bookworm = load_bookworm(device, dtype)
    queries = [
        (bookworm.tokens(prompt), [bookworm.completion_tokens(prompt, text) for text in COMPLETIONS])
        for prompt in few_shot_prompts
    ]
    prefix = bookworm.read_prefix([tokens for tokens, _ in queries])
    assert prefix is not None
    for query in queries:
        shared, _, mask = scoring.choice_logits(bookworm, [query], prefix)
        plain, _, _ = scoring.choice_logits(bookworm, [query], None)
        spread = float(plain.max() - plain.min())
        difference = (shared.float() - plain.float()).abs() * mask.unsqueeze(-1)
        assert float(difference.max()) < tolerance * spread


def test_choose_label_is_the_most_likely_completion(lm: Any) -> None:
    loglikelihoods = [lm.loglikelihood(prompt, COMPLETIONS) for prompt in PROMPTS]
    expected = [max(range(len(nats)), key=nats.__getitem__) for nats in loglikelihoods]
    assert lm.choose_label(PROMPTS, COMPLETIONS) == expected
    assert [lm.choose_label([prompt], COMPLETIONS)[0] for prompt in PROMPTS] == expected


def test_sampled_answers_are_the_same_in_any_batch(lm: Any) -> None:
    sampled = lm.generate(PROMPTS, temperature=1.0, sample_index=3)
    assert sampled == [lm.generate([prompt], temperature=1.0, sample_index=3)[0] for prompt in PROMPTS]
    assert sampled != lm.generate(PROMPTS)


def test_evaluate_loss_is_the_loss_of_training(lm: Any) -> None:
    pairs = [lm.encode(prompt, " warm") for prompt in PROMPTS]
    evaluated, accuracy = lm.evaluate_loss(pairs)
    assert evaluated == pytest.approx(float(lm.loss(pairs)), rel=1e-4)
    assert 0 <= accuracy <= 1


def test_fast_paths_of_the_shipped_model_are_all_used(device: str) -> None:
    assert load_bookworm(device).fast_paths.unused == ()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", ["padded", "causal", "no mask"])
@pytest.mark.parametrize("width", [16, 64, 128])
def test_prefix_attention_equals_attention_to_all_keys(
    dtype: str, length: int, kv_heads: int, masked: str, width: int, device: str
) -> None:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    generator = torch.Generator().manual_seed(0)
    rows, own_tokens, prefix_tokens = 3, 7, 40

    def random_tensor(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(device, getattr(torch, dtype))

    query = random_tensor(rows, length, 4, width).transpose(1, 2)
    prefix = random_tensor(1, kv_heads, prefix_tokens, width), random_tensor(1, kv_heads, prefix_tokens, width)
    key, value = (random_tensor(rows, kv_heads, own_tokens, width) for _ in range(2))
    all_tokens = prefix_tokens + own_tokens
    mask = torch.ones((rows, 1, length, all_tokens), dtype=torch.bool, device=device).tril(all_tokens - length)
    if masked == "padded":
        mask[1, :, :, prefix_tokens : prefix_tokens + 2] = False
    all_keys, all_values = (
        torch.cat([shared.expand(rows, -1, -1, -1), own], 2) for shared, own in zip(prefix, (key, value), strict=True)
    )
    module: Any = SimpleNamespace(num_key_value_groups=4 // kv_heads, is_causal=True)
    expected = sdpa_attention_forward(module, query, all_keys, all_values, mask, scaling=0.3)[0]
    compat.attach_prefix(key, prefix)
    attention_mask = None if masked == "no mask" else mask
    output, _ = prefix_cache.prefix_attention_forward(module, query, key, value, attention_mask, scaling=0.3)
    assert output.dtype == getattr(torch, dtype) and output.shape == expected.shape
    tolerance = 1e-4 if dtype == "float32" else 0.05
    assert torch.allclose(output.float(), expected.float(), atol=tolerance, rtol=tolerance)
