"""Compare few-shot answering by adaptbench with plain transformers and with lm-evaluation-harness.

Run: python benchmarks/answering.py [shots]          (lm-evaluation-harness takes part if `lm_eval` is installed)

Each round answers the same prompts with the same model in each implementation. Speeds are ratios within a round, and
the answers, cut where the task's template ends them, must be the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from bench import registry, task
from bench.cpu import available_cores
from bench.execution.budget import BudgetTracker
from bench.modeling import checkpoint
from bench.records import BudgetLimits, Decoding

N_QUESTIONS, PLAIN_BATCH = 192, 16
Generate = Callable[[Any, Sequence[str]], list[str]]


def generate_with_bench(lm: Any, prompts: Sequence[str]) -> list[str]:
    """Generate in batches sorted by length; the common prefix of all prompts is computed once."""
    return list(lm.generate(prompts))


def generate_with_transformers(lm: Any, prompts: Sequence[str]) -> list[str]:
    """Generate as the documentation of transformers shows: batches in the given order, padded on the left."""
    texts = []
    lm.tokenizer.padding_side = "left"
    for start in range(0, len(prompts), PLAIN_BATCH):
        batch = lm.tokenizer(list(prompts[start : start + PLAIN_BATCH]), return_tensors="pt", padding=True,
                             add_special_tokens=False)  # fmt: skip
        with torch.inference_mode():
            output = lm.model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                generation_config=lm.model.generation_config, tokenizer=lm.tokenizer,
            )  # fmt: skip
        texts += lm.tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def lm_evaluation_harness() -> Generate:
    """Load the same model in https://github.com/EleutherAI/lm-evaluation-harness."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=str(registry.find_model("bookworm")), batch_size=PLAIN_BATCH, device="cpu", dtype="float32"
    )

    def generate(lm: Any, prompts: Sequence[str]) -> list[str]:
        options = {"until": list(lm.decoding.stop), "max_gen_toks": lm.max_new_tokens, "do_sample": False}
        requests = [
            Instance("generate_until", {}, (prompt, dict(options)), index) for index, prompt in enumerate(prompts)
        ]
        return list(harness.generate_until(requests, disable_tqdm=True))

    return generate


def main(shots: int, rounds: int) -> None:
    """Time the implementations in turns, so that a slow moment of the machine affects all of them."""
    torch.set_num_threads(available_cores())
    capitals = task.load_task(registry.find_task("capitals"))
    data, card = capitals.training_data(0), capitals.card
    decoding = Decoding(max_new_tokens=card.new_tokens, stop=(card.end,))
    lm: Any = checkpoint.Checkpoint(registry.find_model("bookworm"), "float32", "cpu", decoding).load()
    method: Any = registry.find_method("few-shot")(k=shots).fit(
        lm, data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
    )
    prompts = [method.prompt_.shots.prompt(row.input) for row in capitals.splits["test"][:N_QUESTIONS]]
    lengths = [len(lm.tokens(prompt)) for prompt in prompts]
    count = len(method.prompt_.shots.examples)
    print(f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, {count} shots each")
    implementations: dict[str, Generate] = {"transformers": generate_with_transformers, "bench": generate_with_bench}
    if importlib.util.find_spec("lm_eval"):
        implementations["lm-evaluation-harness"] = lm_evaluation_harness()
    times: dict[str, list[float]] = {name: [] for name in implementations}
    answers: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, generate in implementations.items():
            start = time.perf_counter()
            answers[name] = [card.trim(text) for text in generate(lm, prompts)]
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        ratios = [other_s / bench_s for other_s, bench_s in zip(seconds, times["bench"], strict=True)]
        n_same = sum(other == ours for other, ours in zip(answers[name], answers["bench"], strict=True))
        print(f"{name:22} {len(prompts) / median(seconds):6.1f} questions/s   bench is {median(ratios):.2f} × as fast "
              f"  {n_same} of {len(prompts)} answers the same")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shots", nargs="?", type=int, default=8, help="solved examples per prompt (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all implementations (default: 3)")
    options = parser.parse_args()
    main(options.shots, options.rounds)
