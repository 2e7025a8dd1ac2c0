"""Estimates of memory against the memory that training takes."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import MakeTask
from support import fit_method

from bench import registry
from bench.execution import plan, worker
from bench.measurement import memory_estimate
from bench.modeling.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


@linux
@pytest.mark.parametrize("trained", ["all", "lora"])
def test_training_bytes_is_near_measured_peak(trained: str) -> None:
    """The model is so large that its tensors outweigh the libraries, and freed memory goes back to the system."""
    script = f"""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from peft import LoraConfig, get_peft_model
    from bench.measurement import memory_estimate
    from bench.measurement.meter import Meter
    torch.set_num_threads(1)
    shape = dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, vocab_size=2000)
    model = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=None, eos_token_id=0))
    if {trained == "lora"}:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])

    def step(rows, length):
        ids = torch.ones((rows, length), dtype=torch.long)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    # A first pass loads the libraries that are loaded on first use.
    first_pass = [model(input_ids=torch.ones((1, 4), dtype=torch.long)).logits.sum().backward()]
    model.zero_grad()
    estimate = memory_estimate.training_bytes(model, 16 * 160)
    meter = Meter()
    with meter.phase("fit"):
        step(16, 160)
        step(16, 160)
    fit = meter.phases["fit"]
    print(estimate / 2**20, fit.peak_mib - fit.start_mib)
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    estimate, measured = map(float, process.stdout.split()[-2:])
    assert 0.8 * measured < estimate < 1.25 * measured


def test_training_bytes_grows_with_tokens_and_trained_weights(lively: Checkpoint) -> None:
    lora, _ = fit_method("lora", lively, steps=10)
    full, _ = fit_method("full", lively, steps=10)
    few, more, most = (memory_estimate.training_bytes(lora.lm_.model, tokens) for tokens in (100, 200, 300))
    assert more - few == pytest.approx(most - more, abs=2)
    assert few < more
    total_weights = full.lm_.count_parameters()[0]
    lora_weights = lora.lm_.count_parameters()[1]
    full_bytes, lora_bytes = (memory_estimate.training_bytes(method.lm_.model, 0) for method in (full, lora))
    assert full_bytes - lora_bytes == pytest.approx(12 * (total_weights - lora_weights), rel=0.02)


def test_training_bytes_leaves_random_state_and_model_unchanged(lively: Checkpoint) -> None:
    lora, _ = fit_method("lora", lively, steps=10, dropout=0.1)
    model = lora.lm_.model
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    model.eval()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    memory_estimate.training_bytes(model, 100)
    assert torch.rand(1) == expected
    assert not model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("rows", [1, 4])
def test_training_bytes_holds_no_memory_afterwards(rows: int, lively: Checkpoint) -> None:
    lora, _ = fit_method("lora", lively, steps=10)
    gc.collect()
    before = live_tensors()
    memory_estimate.training_bytes(lora.lm_.model, 100, rows)
    gc.collect()
    assert live_tensors() <= before


def live_tensors() -> int:
    """Count the tensors of this process."""
    return sum(issubclass(type(candidate), torch.Tensor) for candidate in gc.get_objects())


def test_model_bytes_counts_tied_weights_once(lively: Checkpoint) -> None:
    model = lively.load().model
    weight_bytes = sum({id(weight): weight.numel() * 4 for weight in model.parameters()}.values())
    buffer_bytes = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert memory_estimate.model_bytes(model) == weight_bytes + buffer_bytes


def test_run_records_context_and_attention_of_the_model(
    lively: Checkpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "feelings")
    jobs = plan.plan_jobs("few-shot", str(task), str(lively.folder), seeds=1, budget_text="quick", settings=[])
    costs = {job.spec.method.name: worker.run_job(job, lambda event: None).cost for job in jobs}
    few_shot, majority = costs["few-shot"], costs["majority"]
    assert few_shot and few_shot.answering and majority and majority.answering
    assert (few_shot.answering.context, few_shot.answering.attention) == (256, "sdpa")
    assert (majority.answering.context, majority.answering.attention) == (None, None)


LLAMA = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 0,
}
NEOX = {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"}
BERT = NEOX | {"is_decoder": True}
LAYERS, HEADS, KV_HEADS, WIDTH = 3, 8, 2, 8


def make_model(kind: str, shape: dict[str, Any]) -> Any:
    """A model with random weights in training mode."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**shape)
    return transformers.AutoModelForCausalLM.from_config(config).train()


def saved_bytes(model: Any, rows: int, length: int) -> int:
    """Bytes that a step of padded rows really saves for the backward pass, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    saved: dict[int, int] = {}
    held: list[torch.Tensor] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    ids = torch.ones((rows, length), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1:, -3:] = 0
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=mask).logits.float().logsumexp(-1).sum()
    return sum(saved.values())


@pytest.mark.parametrize("kind", ["Llama", "GPTNeoX", "BertLMHead"])
def test_training_bytes_padded_rows_count_masks_and_copied_keys(kind: str) -> None:
    model = make_model(kind.removesuffix("LMHead"), {"Llama": LLAMA, "GPTNeoX": NEOX, "BertLMHead": BERT}[kind])
    trained = sum(weight.numel() for weight in model.parameters())
    rows, length = 6, 240
    logits = 8 * rows * length * LLAMA["vocab_size"]
    expected = saved_bytes(model, rows, length) + 12 * trained + logits
    assert memory_estimate.training_bytes(model, rows * length, rows) == pytest.approx(expected, rel=0.02)
    single = saved_bytes(model, 1, length) + 12 * trained + logits / rows
    assert memory_estimate.training_bytes(model, length) == pytest.approx(single, rel=0.02)


def test_training_bytes_several_rows_grow_with_mask_and_shared_heads() -> None:
    """The same tokens in one row need no mask, so heads can share keys and values."""
    model = make_model("Llama", LLAMA)
    rows, length = 4, 256
    single, several = (memory_estimate.training_bytes(model, rows * length, count) for count in (1, rows))
    masks = 4 * LAYERS * rows * length**2
    copies = 4 * LAYERS * rows * length * 2 * WIDTH * (HEADS - KV_HEADS)
    assert several - single == pytest.approx(masks + copies, rel=0.05)


def test_generation_bytes_count_mask_copied_keys_and_float32_logits() -> None:
    grouped, own = (
        make_model("Llama", LLAMA | {"num_key_value_heads": heads, "num_hidden_layers": 0}) for heads in (2, 8)
    )
    short, long = (memory_estimate.generation_bytes(own, 3, length) for length in (100, 200))
    hidden = 4 * (12 * 64 + 2 * 96)
    assert long - short == 3 * (100 * hidden + (4 + 1) * (200**2 - 100**2))
    copies = 3 * 100 * 4 * HEADS * 2 * WIDTH
    assert memory_estimate.generation_bytes(grouped, 3, 100) - short == copies
    logits = 3 * LLAMA["vocab_size"] * (4 + 4)
    assert short == 3 * (100 * hidden + 5 * 100**2) + logits
    scored = memory_estimate.generation_bytes(own, 3, 100, scored_tokens=5)
    assert scored - short == (2 * 5 - 1) * logits
    bfloat16 = memory_estimate.generation_bytes(own.to(torch.bfloat16), 3, 100)
    assert bfloat16 == 3 * (100 * hidden + 3 * 100**2) + logits * 6 / 8
    prefixed = memory_estimate.generation_bytes(own, 3, 100, prefix_tokens=1000)
    assert prefixed - bfloat16 == 3 * 100 * 1000, "the mask has a truth value for each token of the prefix"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_batch_rows_quantized_model_gets_as_many_as_its_original(
    lively: Checkpoint, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate, "MIN_GENERATION_BYTES", 0)
    monkeypatch.setattr(memory_estimate, "MIN_BATCH_ROWS", 1)
    base: Any = dataclasses.replace(lively, dtype=dtype)
    whole, quantized = registry.find_method("lora")().load(base), registry.find_method("qlora")().load(base)
    assert memory_estimate.model_bytes(quantized.model) < 0.8 * memory_estimate.model_bytes(whole.model)
    expected = memory_estimate.unquantized_bytes(whole.model)
    assert memory_estimate.unquantized_bytes(quantized.model) == expected
    rows = [memory_estimate.max_batch_rows(lm.model, 2) for lm in (whole, quantized)]
    assert rows[0] == rows[1] > 1
    assert rows[0] == expected // memory_estimate.generation_bytes(whole.model, 1, 2)
