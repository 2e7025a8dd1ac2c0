"""Measure how cost grows with examples, shots and model size, compared with the limits of the machine.

Run: python benchmarks/growth.py

The limits are measured first: the highest rate of float32 matrix products, and of reading memory. Models of several
sizes are created with random weights and the tokenizer of the shipped model; their cost does not depend on their
weights.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench import registry, task
from bench.execution.budget import BudgetTracker
from bench.measurement import environment, flops
from bench.measurement.determinism import seed_all
from bench.modeling import checkpoint
from bench.records import BudgetLimits, Decoding
from bench.training.trainer import train

SHAPES = {3: (256, 4), 12: (384, 7), 41: (640, 8), 101: (768, 14)}  # million weights: width, layers
BANDWIDTH_TRIES, N_QUESTIONS = 5, 64
N_SINGLE_QUESTIONS = 8  # questions that are answered one at a time


def memory_bandwidth() -> float:
    """Return the bytes read from memory per second by all threads: the best of several sums over 256 MiB."""
    numbers, best_s = torch.rand(2**26), float("inf")
    for _ in range(BANDWIDTH_TRIES):
        start = time.perf_counter()
        numbers.sum()
        best_s = min(best_s, time.perf_counter() - start)
    return numbers.numel() * 4 / best_s


def load(folder: Path, decoding: Decoding) -> Any:
    """Load a model with fixed seeds."""
    seed_all(0)
    return checkpoint.Checkpoint(folder, "float32", "cpu", decoding).load()


def save_models(folder: Path) -> Iterator[tuple[int, Path]]:
    """Save random models; yields million weights and folder. The smallest has the shape of the shipped model."""
    shipped = registry.find_model("bookworm")
    shipped_config = LlamaConfig.from_pretrained(shipped)
    for million, (width, layers) in SHAPES.items():
        config = LlamaConfig(
            vocab_size=shipped_config.vocab_size, hidden_size=width, intermediate_size=8 * width // 3,
            num_hidden_layers=layers, num_attention_heads=width // 64, max_position_embeddings=512,
            eos_token_id=shipped_config.eos_token_id, bos_token_id=None, tie_word_embeddings=True,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / str(million))
        for file in shipped.glob("tokenizer*"):
            shutil.copy(file, folder / str(million))
        yield million, folder / str(million)


def train_lora(lm: Any, data: Any, limits: BudgetLimits) -> BudgetTracker:
    """Train a LoRA; returns the budget used."""
    lm.model = registry.find_method("lora")().adapt(lm.model)  # type: ignore[attr-defined]
    budget = BudgetTracker(limits, len(data.train))
    train(lm, data, budget, lr=1e-3, warmup=0.0, weight_decay=0.0)
    budget.stop()
    return budget


def time_answers(lm: Any, prompts: list[str]) -> tuple[float, float]:
    """Return milliseconds per question, in batches and one at a time."""
    lm.generate(prompts[:N_SINGLE_QUESTIONS])
    start = time.perf_counter()
    lm.generate(prompts)
    batched_s = (time.perf_counter() - start) / len(prompts)
    start = time.perf_counter()
    for prompt in prompts[:N_SINGLE_QUESTIONS]:
        lm.generate([prompt])
    single_s = (time.perf_counter() - start) / N_SINGLE_QUESTIONS
    return batched_s * 1000, single_s * 1000


def print_by_examples(bookrec: task.Task, decoding: Decoding) -> None:
    """Train the shipped model on more and more examples."""
    print("\nexamples   train s   ms per step")
    for examples in (125, 250, 500, 1000):
        lm = load(registry.find_model("bookworm"), decoding)
        budget = train_lora(lm, bookrec.training_data(0, examples), BudgetLimits(epochs=1))
        print(f"{examples:8} {budget.seconds:9.1f} {1000 * budget.seconds / budget.steps:13.1f}", flush=True)


def print_by_shots(bookrec: task.Task, decoding: Decoding) -> None:
    """Answer with the shipped model and more and more shots."""
    data = bookrec.training_data(0)
    print("\nshots   tokens per prompt   ms per question, batched   single")
    for shots in (0, 1, 2, 4, 8):
        lm = load(registry.find_model("bookworm"), decoding)
        budget = BudgetTracker(BudgetLimits(epochs=1), len(data.train))
        method: Any = registry.find_method("few-shot")(k=shots).fit(lm, data, budget)
        prompts = [method.prompt_.shots.prompt(row.input) for row in bookrec.splits["test"][:N_QUESTIONS]]
        tokens = sum(len(lm.tokens(prompt)) for prompt in prompts) / len(prompts)
        batched_ms, single_ms = time_answers(lm, prompts)
        print(f"{len(method.prompt_.shots.examples):5} {tokens:19.0f} {batched_ms:26.1f} {single_ms:8.1f}", flush=True)


def print_by_model_size(bookrec: task.Task, decoding: Decoding, peak_flops: float) -> None:
    """Train and answer with larger and larger models."""
    data = bookrec.training_data(0)
    prompts = [data.prompt(row.input) for row in bookrec.splits["test"][:N_QUESTIONS]]
    print(
        "\nmillion weights   training tokens/s   GFLOP/s   of the peak   ms per question, batched   single   "
        "weights read GB/s"
    )
    with TemporaryDirectory() as scratch:
        for million, folder in save_models(Path(scratch)):
            lm = load(folder, decoding)
            batched_ms, single_ms = time_answers(lm, prompts)
            # Each generated token reads all float32 weights once.
            read_rate = million * 4e6 * bookrec.card.new_tokens / single_ms * 1000 / 1e9
            budget = train_lora(lm, data, BudgetLimits(steps=max(3, 60 // million)))
            rate = (budget.flops or 0.0) / budget.seconds
            print(f"{million:15} {budget.tokens / budget.seconds:19,.0f} {rate / 1e9:9.0f} "
                  f"{100 * rate / peak_flops:11.0f} % {batched_ms:26.1f} {single_ms:8.1f} {read_rate:19.1f}",
                  flush=True)  # fmt: skip


def main() -> None:
    """Measure the limits, then print one table per kind of growth."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(environment.compute_threads())
    peak_flops = flops.measure_peak_flops("cpu")
    print(
        f"threads {torch.get_num_threads()}: {peak_flops / 1e9:.0f} GFLOP/s of matrix products, "
        f"{memory_bandwidth() / 1e9:.1f} GB/s read from memory"
    )
    bookrec = task.load_task(registry.find_task("bookrec"))
    decoding = Decoding(max_new_tokens=bookrec.card.new_tokens, stop=(bookrec.card.end,))
    print_by_examples(bookrec, decoding)
    print_by_shots(bookrec, decoding)
    print_by_model_size(bookrec, decoding, peak_flops)


if __name__ == "__main__":
    main()
