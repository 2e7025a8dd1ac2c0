"""What the harness adds to training: `bench.train` beside a bare loop over the very same batches, and TRL alone.

Run: python benchmarks/fit_overhead.py [steps] [rounds]     (LoRA on the model that ships, 3 million weights)
     python benchmarks/fit_overhead.py 12 3 big             (on one of 100 million, beside a bare loop alone)
Each round trains the same LoRA each way from the same start; the figures are ratios within a round. The bare loops do
what anybody would write; the second of them computes, as the harness does, no logits that no loss is taken of.
What the harness does off its clock, the curve, is told apart.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
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
from bench.method import TrainingData
from bench.modeling import checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits, Decoding
from bench.training.sampler import LengthGroupedSampler
from bench.training.trainer import IGNORE_INDEX, encode_examples, mask_prompt, train

BATCH = 16
SHAPE = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14, "num_attention_heads": 12}
Way = Callable[[Any, TrainingData, int], None]


def fresh(folder: Path) -> Any:
    """A LoRA on a model, the same every time."""
    seed_all(0)
    base = checkpoint.Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=()))
    lm = base.load()
    lm.model = registry.find_method("lora")().adapt(lm.model)  # type: ignore[attr-defined]
    return lm


def batches(lm: Any, data: TrainingData, steps: int) -> Any:
    """Ids, mask and labels of every step, in the order in which the harness shows them."""
    examples = encode_examples(lm, data, data.train)
    order = LengthGroupedSampler([len(head) + len(tail) for head, tail in examples], BATCH, data.seed)
    places = [
        place for epoch in range(steps * BATCH // len(order) + 1) if not order.set_epoch(epoch) for place in order
    ]
    for step in range(steps):
        rows = [examples[place] for place in places[step * BATCH : (step + 1) * BATCH]]
        width = max(len(head) + len(tail) for head, tail in rows)
        gaps = [width - len(head) - len(tail) for head, tail in rows]
        yield (
            torch.tensor([head + tail + [0] * gap for (head, tail), gap in zip(rows, gaps, strict=True)]),
            torch.tensor([[1] * (width - gap) + [0] * gap for gap in gaps]),
            torch.tensor([mask_prompt(row) + [IGNORE_INDEX] * gap for row, gap in zip(rows, gaps, strict=True)]),
        )


def loop(lm: Any, data: TrainingData, steps: int, lose: Callable[..., Any]) -> None:
    """Forward, backward, clip, step."""
    optimizer = torch.optim.AdamW([weight for weight in lm.model.parameters() if weight.requires_grad], lr=1e-3)
    lm.model.train()
    for ids, real, labels in batches(lm, data, steps):
        lose(ids, real, labels).backward()
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def bare(lm: Any, data: TrainingData, steps: int) -> None:
    """With the loss that transformers computes."""
    loop(lm, data, steps, lambda ids, real, labels: lm.model(
        input_ids=ids, attention_mask=real, labels=labels, use_cache=False).loss)  # fmt: skip


def lean(lm: Any, data: TrainingData, steps: int) -> None:
    """With the loss of answer tokens alone."""
    loop(lm, data, steps, lm.summed_loss)


def trl(lm: Any, data: TrainingData, steps: int) -> None:
    """TRL's trainer as its own examples use it, without evaluation."""
    examples = encode_examples(lm, data, data.train)
    rows = Dataset.from_dict(
        {"input_ids": [head + tail for head, tail in examples], "labels": list(map(mask_prompt, examples))}
    )
    with TemporaryDirectory() as scratch:
        settings = SFTConfig(
            scratch, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=1e-3, use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        SFTTrainer(model=lm.model, args=settings, train_dataset=rows, processing_class=lm.tokenizer).train()


def big(folder: Path) -> Path:
    """A model of a hundred million weights with the tokenizer of the one that ships."""
    small = registry.find_model("bookworm")
    words = LlamaConfig.from_pretrained(small)
    config = LlamaConfig(vocab_size=words.vocab_size, eos_token_id=words.eos_token_id, bos_token_id=None, **SHAPE)
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in small.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def main(steps: int, rounds: int, size: str) -> None:
    """Interleave the ways, so that a slow moment of the machine hits them alike."""
    torch.set_num_threads(environment.compute_threads())
    data = task.load_task(registry.find_task("bookrec")).training_data(seed=0)
    ways: dict[str, Way] = (
        {"bare loop": bare} if size == "big" else {"bare loop": bare, "answers alone": lean, "TRL": trl}
    )
    times: dict[str, list[float]] = {name: [] for name in (*ways, "bench", "with its curve")}
    with TemporaryDirectory() as scratch:
        folder = big(Path(scratch)) if size == "big" else registry.find_model("bookworm")
        print(f"{fresh(folder).count()[0] / 1e6:,.0f} million weights, {steps} steps of {BATCH} rows, {rounds} rounds")
        for _ in range(rounds):
            for name, way in ways.items():
                lm, began = fresh(folder), time.perf_counter()
                way(lm, data, steps)
                times[name].append(time.perf_counter() - began)
            lm, began = fresh(folder), time.perf_counter()
            budget = BudgetTracker(BudgetLimits(steps=steps, batch=BATCH), len(data.train))
            train(lm, data, budget, lr=1e-3, warmup=0.0, weight_decay=0.0)
            budget.stop()
            times["bench"].append(budget.seconds)
            times["with its curve"].append(time.perf_counter() - began)
    for name, seconds in times.items():
        ratios = [one / plain for one, plain in zip(seconds, times["bare loop"], strict=True)]
        print(f"{name:15} {median(seconds) / steps * 1000:8.1f} ms a step   {median(ratios):.2f} × the bare loop")


if __name__ == "__main__":
    given = [*sys.argv[1:], *("60", "3", "small")[len(sys.argv) - 1 :]]
    main(int(given[0]), int(given[1]), given[2])
