"""Compare the training time of adaptbench with a bare loop over the same batches and with TRL.

Run: python benchmarks/fit_overhead.py [steps] [rounds]     (LoRA on the shipped model, 3 million weights)
     python benchmarks/fit_overhead.py 12 3 big             (a model of 100 million weights, bare loop only)

Each round trains the same LoRA in each implementation from the same initial weights; times are ratios within a round.
The bare loop is the usual one; its second variant computes logits only for tokens that have a loss, as adaptbench
does. The training curve, which adaptbench measures off its clock, is shown in a row of its own.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from bench import registry, task
from bench.execution.budget import BudgetTracker
from bench.measurement import environment
from bench.measurement.determinism import seed_all
from bench.method import TrainingData
from bench.modeling import checkpoint
from bench.records import BudgetLimits, Decoding
from bench.training.sampler import LengthGroupedSampler
from bench.training.trainer import IGNORE_INDEX, encode_examples, mask_prompt, train

BATCH = 16
BIG_SHAPE = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14, "num_attention_heads": 12}
Train = Callable[[Any, TrainingData, int], None]


def load_with_lora(folder: Path) -> Any:
    """Load a model with a new LoRA, the same in every call."""
    seed_all(0)
    base = checkpoint.Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=()))
    lm = base.load()
    lm.model = registry.find_method("lora")().adapt(lm.model)  # type: ignore[attr-defined]
    return lm


def make_batches(lm: Any, data: TrainingData, steps: int) -> Iterator[tuple[Any, Any, Any]]:
    """Yield token ids, attention mask and labels of each step, in the order that adaptbench uses."""
    examples = encode_examples(lm, data, data.train)
    sampler = LengthGroupedSampler([len(prompt) + len(target) for prompt, target in examples], BATCH, data.seed)
    indices: list[int] = []
    for epoch in range(steps * BATCH // len(sampler) + 1):
        sampler.set_epoch(epoch)
        indices += sampler
    for step in range(steps):
        rows = [examples[index] for index in indices[step * BATCH : (step + 1) * BATCH]]
        width = max(len(prompt) + len(target) for prompt, target in rows)
        padding = [width - len(prompt) - len(target) for prompt, target in rows]
        yield (
            torch.tensor([prompt + target + [0] * pad for (prompt, target), pad in zip(rows, padding, strict=True)]),
            torch.tensor([[1] * (width - pad) + [0] * pad for pad in padding]),
            torch.tensor([mask_prompt(row) + [IGNORE_INDEX] * pad for row, pad in zip(rows, padding, strict=True)]),
        )


def run_loop(lm: Any, data: TrainingData, steps: int, compute_loss: Callable[..., Any]) -> None:
    """Run a training loop: forward, backward, clip, step."""
    optimizer = torch.optim.AdamW([weight for weight in lm.model.parameters() if weight.requires_grad], lr=1e-3)
    lm.model.train()
    for input_ids, attention_mask, labels in make_batches(lm, data, steps):
        compute_loss(input_ids, attention_mask, labels).backward()
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def train_bare_loop(lm: Any, data: TrainingData, steps: int) -> None:
    """Train with the loss of transformers."""

    def compute_loss(input_ids: Any, attention_mask: Any, labels: Any) -> Any:
        return lm.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False).loss

    run_loop(lm, data, steps, compute_loss)


def train_answer_tokens(lm: Any, data: TrainingData, steps: int) -> None:
    """Train with a loss that computes the logits of answer tokens only."""
    run_loop(lm, data, steps, lm.summed_loss)


def train_with_trl(lm: Any, data: TrainingData, steps: int) -> None:
    """Train with TRL's trainer as in its own examples, without evaluation."""
    examples = encode_examples(lm, data, data.train)
    rows = Dataset.from_dict(
        {"input_ids": [prompt + target for prompt, target in examples], "labels": list(map(mask_prompt, examples))}
    )
    with TemporaryDirectory() as scratch:
        settings = SFTConfig(
            scratch, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=1e-3, use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        SFTTrainer(model=lm.model, args=settings, train_dataset=rows, processing_class=lm.tokenizer).train()


def save_big_model(folder: Path) -> Path:
    """Save a random model of 100 million weights with the tokenizer of the shipped model; returns its folder."""
    shipped = registry.find_model("bookworm")
    shipped_config = LlamaConfig.from_pretrained(shipped)
    config = LlamaConfig(
        vocab_size=shipped_config.vocab_size, eos_token_id=shipped_config.eos_token_id, bos_token_id=None, **BIG_SHAPE
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in shipped.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def main(steps: int, rounds: int, size: str) -> None:
    """Time the implementations in turns, so that a slow moment of the machine affects all of them."""
    torch.set_num_threads(environment.compute_threads())
    data = task.load_task(registry.find_task("bookrec")).training_data(seed=0)
    implementations: dict[str, Train] = {"bare loop": train_bare_loop}
    if size != "big":
        implementations |= {"answer tokens": train_answer_tokens, "TRL": train_with_trl}
    times: dict[str, list[float]] = {name: [] for name in (*implementations, "bench", "with its curve")}
    with TemporaryDirectory() as scratch:
        folder = save_big_model(Path(scratch)) if size == "big" else registry.find_model("bookworm")
        millions = load_with_lora(folder).count_parameters()[0] / 1e6
        print(f"{millions:,.0f} million weights, {steps} steps of {BATCH} rows, {rounds} rounds")
        for _ in range(rounds):
            for name, train_plain in implementations.items():
                lm, start = load_with_lora(folder), time.perf_counter()
                train_plain(lm, data, steps)
                times[name].append(time.perf_counter() - start)
            lm, start = load_with_lora(folder), time.perf_counter()
            budget = BudgetTracker(BudgetLimits(steps=steps, batch=BATCH), len(data.train))
            train(lm, data, budget, lr=1e-3, warmup=0.0, weight_decay=0.0)
            budget.stop()
            times["bench"].append(budget.seconds)
            times["with its curve"].append(time.perf_counter() - start)
    for name, seconds in times.items():
        ratios = [other_s / bare_s for other_s, bare_s in zip(seconds, times["bare loop"], strict=True)]
        print(f"{name:15} {median(seconds) / steps * 1000:8.1f} ms per step   {median(ratios):.2f} × the bare loop")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="?", type=int, default=60, help="optimizer steps (default: 60)")
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="rounds of all implementations (default: 3)")
    parser.add_argument("size", nargs="?", choices=("small", "big"), default="small", help="default: small")
    options = parser.parse_args()
    main(options.steps, options.rounds, options.size)
