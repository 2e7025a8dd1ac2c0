"""Answering: few-shot questions by `bench.lm` beside the plain way of transformers, and beside lm-evaluation-harness.

Run: python benchmarks/answering.py [shots]          (lm-evaluation-harness joins where `lm_eval` is installed)
Each round asks the same prompts of the same model each way; the figures are ratios within a round, and the answers,
cut where the task's template ends them, have to be the same.
"""

from __future__ import annotations

import importlib.util
import sys
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

ROUNDS, QUESTIONS, PLAIN_BATCH = 3, 192, 16
Way = Callable[[Any, Sequence[str]], list[str]]


def ours(lm: Any, prompts: Sequence[str]) -> list[str]:
    """Sorted by length, what all begin with read once."""
    return list(lm.generate(prompts))


def plain(lm: Any, prompts: Sequence[str]) -> list[str]:
    """What transformers' own pages show: batches as they come, padded on the left."""
    texts = []
    lm.tokenizer.padding_side = "left"
    for start in range(0, len(prompts), PLAIN_BATCH):
        batch = lm.tokenizer(list(prompts[start : start + PLAIN_BATCH]), return_tensors="pt", padding=True,
                             add_special_tokens=False)  # fmt: skip
        with torch.inference_mode():
            whole = lm.model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                generation_config=lm.model.generation_config, tokenizer=lm.tokenizer,
            )  # fmt: skip
        texts += lm.tokenizer.batch_decode(whole[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def lm_eval() -> Way:
    """lm-evaluation-harness, https://github.com/EleutherAI/lm-evaluation-harness, which loads the same model itself."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=str(registry.find_model("bookworm")), batch_size=PLAIN_BATCH, device="cpu", dtype="float32"
    )

    def answer(lm: Any, prompts: Sequence[str]) -> list[str]:
        until = {"until": list(lm.decoding.stop), "max_gen_toks": lm.max_new_tokens, "do_sample": False}
        asked = [Instance("generate_until", {}, (prompt, dict(until)), place) for place, prompt in enumerate(prompts)]
        return list(harness.generate_until(asked, disable_tqdm=True))

    return answer


def main(shots: int) -> None:
    """Interleave the ways, so that a slow moment of the machine hits them alike."""
    torch.set_num_threads(available_cores())
    what = task.load_task(registry.find_task("capitals"))
    data, card = what.training_data(0), what.card
    decoding = Decoding(max_new_tokens=card.new_tokens, stop=(card.end,))
    lm: Any = checkpoint.Checkpoint(registry.find_model("bookworm"), "float32", "cpu", decoding).load()
    method: Any = registry.find_method("few-shot")(k=shots).fit(
        lm, data, BudgetTracker(BudgetLimits(epochs=1), len(data.train))
    )
    prompts = [method.shots_.prompt(row.input) for row in what.splits["test"][:QUESTIONS]]
    tokens = [len(lm.tokens(prompt)) for prompt in prompts]
    print(f"{len(prompts)} prompts of {min(tokens)} to {max(tokens)} tokens, {len(method.shots_.examples)} shots each")
    ways: dict[str, Way] = {"transformers": plain, "bench": ours}
    if importlib.util.find_spec("lm_eval"):
        ways["lm-evaluation-harness"] = lm_eval()
    times: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            answers[name] = [card.trim(text) for text in way(lm, prompts)]
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        ratios = [one / quick for one, quick in zip(seconds, times["bench"], strict=True)]
        same = sum(one == other for one, other in zip(answers[name], answers["bench"], strict=True))
        print(f"{name:22} {len(prompts) / median(seconds):6.1f} questions a second   bench: {median(ratios):.2f} × as "
              f"fast   {same} of {len(prompts)} answers the same")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
