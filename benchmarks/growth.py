"""How cost grows with examples, shots and model size, beside what the machine can do at all.

Run: python benchmarks/growth.py
The ceilings are measured first: the largest rate of a float32 matrix product, and of reading memory. Models of several
sizes are made for the occasion, with the tokenizer of the one that ships and random weights: what they cost does not
depend on what they know.
"""

from __future__ import annotations

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
from bench.modeling import checkpoint
from bench.modeling.seed import seed_all
from bench.records import BudgetLimits, Decoding
from bench.training.trainer import train

SIZES = {3: (256, 4), 12: (384, 7), 41: (640, 8), 101: (768, 14)}  # million weights: width, layers
TRIES, QUESTIONS = 5, 64


def bandwidth() -> float:
    """Bytes read from memory per second, by all threads: the best of some sums over a quarter of a gibibyte."""
    numbers, best = torch.rand(2**26), float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - began)
    return numbers.numel() * 4 / best


def load(folder: Path, decoding: Decoding) -> Any:
    """A model, the same every time."""
    seed_all(0)
    return checkpoint.Checkpoint(folder, "float32", "cpu", decoding).load()


def models(folder: Path) -> Iterator[tuple[int, Path]]:
    """Folders of models by their million weights; the smallest is as the one that ships."""
    small = registry.find_model("bookworm")
    words = LlamaConfig.from_pretrained(small)
    for million, (width, layers) in SIZES.items():
        config = LlamaConfig(
            vocab_size=words.vocab_size, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers,
            num_attention_heads=width // 64, max_position_embeddings=512, eos_token_id=words.eos_token_id,
            bos_token_id=None, tie_word_embeddings=True,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / str(million))
        for file in small.glob("tokenizer*"):
            shutil.copy(file, folder / str(million))
        yield million, folder / str(million)


def fit(lm: Any, data: Any, grant: BudgetLimits) -> BudgetTracker:
    """What training a LoRA draws."""
    lm.model = registry.find_method("lora")().adapt(lm.model)  # type: ignore[attr-defined]
    budget = BudgetTracker(grant, len(data.train))
    train(lm, data, budget, lr=1e-3, warmup=0.0, weight_decay=0.0)
    budget.stop()
    return budget


def answer(lm: Any, prompts: list[str]) -> tuple[float, float]:
    """Milliseconds a question, all together and one at a time."""
    lm.generate(prompts[:8])
    began = time.perf_counter()
    lm.generate(prompts)
    together = (time.perf_counter() - began) / len(prompts)
    began = time.perf_counter()
    for prompt in prompts[:8]:
        lm.generate([prompt])
    return together * 1000, (time.perf_counter() - began) / 8 * 1000


def main() -> None:
    """Ceilings, then one growth after the other."""
    torch.set_num_threads(environment.compute_threads())
    peak, read = flops.measure_peak_flops("cpu"), bandwidth()
    print(
        f"threads {torch.get_num_threads()}: {peak / 1e9:.0f} GFLOP/s of matrix products, "
        f"{read / 1e9:.1f} GB/s read from memory"
    )
    what = task.load_task(registry.find_task("bookrec"))
    decoding = Decoding(max_new_tokens=what.card.new_tokens, stop=(what.card.end,))
    ships = registry.find_model("bookworm")
    print("\nexamples   fit s   a step ms")
    for examples in (125, 250, 500, 1000):
        data = what.training_data(0, examples)
        drawn = fit(load(ships, decoding), data, BudgetLimits(epochs=1))
        print(f"{examples:8} {drawn.seconds:7.1f} {1000 * drawn.seconds / drawn.steps:11.1f}", flush=True)
    data = what.training_data(0)
    print("\nshots   tokens of a prompt   a question ms, together   alone")
    for shots in (0, 1, 2, 4, 8):
        lm = load(ships, decoding)
        method: Any = registry.find_method("few-shot")(k=shots).fit(
            lm, data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
        )
        prompts = [method.shots_.prompt(row.input) for row in what.splits["test"][:QUESTIONS]]
        tokens = sum(len(lm.tokens(prompt)) for prompt in prompts) / len(prompts)
        together, alone = answer(lm, prompts)
        print(f"{len(method.shots_.examples):5} {tokens:20.0f} {together:25.1f} {alone:7.1f}", flush=True)
    print(
        "\nmillion weights   training tokens/s   GFLOP/s   of the peak   a question ms, together   alone   "
        "weights read GB/s"
    )
    with TemporaryDirectory() as scratch:
        for million, folder in models(Path(scratch)):
            lm = load(folder, decoding)
            together, alone = answer(lm, [data.prompt(row.input) for row in what.splits["test"][:QUESTIONS]])
            read = million * 4e6 * what.card.new_tokens / alone * 1000 / 1e9  # every token reads all weights once
            drawn = fit(lm, data, BudgetLimits(steps=max(3, 60 // million)))
            rate = (drawn.flops or 0.0) / drawn.seconds
            print(f"{million:15} {drawn.tokens / drawn.seconds:19,.0f} {rate / 1e9:9.0f} {100 * rate / peak:11.0f} % "
                  f"{together:24.1f} {alone:7.1f} {read:19.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
