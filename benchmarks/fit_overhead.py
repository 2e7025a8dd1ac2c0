"""What the harness adds to training: `bench.train` beside a bare loop over the same batches, and beside TRL alone.

Run: python benchmarks/fit_overhead.py [steps]
Each round trains the same LoRA three ways from the same start; the figures are ratios within a round.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from bench import checkpoint, registry, task
from bench.budget import Budget
from bench.record import Decoding, Grant
from bench.train import mask, pairs, train
from bench.worker import seed_all

ROUNDS, BATCH = 3, 16


def fresh() -> Any:
    """A LoRA on the shipped model, the same every time."""
    seed_all(0)
    base = checkpoint.Checkpoint(registry.model("bookworm"), "float32", "cpu", Decoding(max_new_tokens=8, stop=()))
    lm = base.load()
    lm.model = registry.method("lora")().adapt(lm.model)  # type: ignore[attr-defined]
    return lm


def bare(lm: Any, lesson: Any, steps: int) -> None:
    """What anybody would write: pad, forward, backward, clip, step."""
    examples = pairs(lm, lesson, lesson.train)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    optimizer = torch.optim.AdamW([weight for weight in lm.model.parameters() if weight.requires_grad], lr=1e-3)
    lm.model.train()
    for step in range(steps):
        batch = [examples[order[(step * BATCH + place) % len(order)]] for place in range(BATCH)]
        width = max(len(head) + len(tail) for head, tail in batch)
        ids = torch.tensor([head + tail + [0] * (width - len(head) - len(tail)) for head, tail in batch])
        labels = torch.tensor([mask((head, tail)) + [-100] * (width - len(head) - len(tail)) for head, tail in batch])
        real = torch.tensor(
            [[1] * (len(head) + len(tail)) + [0] * (width - len(head) - len(tail)) for head, tail in batch]
        )
        lm.model(input_ids=ids, attention_mask=real, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def trl(lm: Any, lesson: Any, steps: int) -> None:
    """TRL's trainer as its own examples use it, without evaluation."""
    examples = pairs(lm, lesson, lesson.train)
    rows = Dataset.from_dict(
        {"input_ids": [head + tail for head, tail in examples], "labels": list(map(mask, examples))}
    )
    with TemporaryDirectory() as scratch:
        settings = SFTConfig(
            scratch, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=1e-3, use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        SFTTrainer(model=lm.model, args=settings, train_dataset=rows, processing_class=lm.tokenizer).train()


def main(steps: int) -> None:
    """Interleave the three ways, so that a slow moment of the machine hits them alike."""
    torch.set_num_threads(torch.get_num_threads())
    lesson = task.load(registry.task("bookrec")).lesson(seed=0)
    ways = {"bare loop": bare, "TRL": trl, "bench": None}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            lm = fresh()
            budget = Budget(Grant(steps=steps, batch=BATCH), len(lesson.train))
            began = time.perf_counter()
            if way is None:
                train(lm, lesson, budget, lr=1e-3, warmup=0.0, decay=0.0)
                budget.stop()
                times[name].append(budget.seconds)
            else:
                way(lm, lesson, steps)
                times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        ratios = [one / plain for one, plain in zip(seconds, times["bare loop"], strict=True)]
        print(f"{name:10} {median(seconds) / steps * 1000:7.1f} ms a step   {median(ratios):.2f} × the bare loop")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
