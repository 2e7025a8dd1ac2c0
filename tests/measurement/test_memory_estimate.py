"""Estimates of memory against the memory that training takes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import MakeTask
from support import fit_method

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
