"""Time a bare PyTorch loop on the rows of a task, and plain `generate` on its few-shot prompts.

Run: python benchmarks/gpu/bare_loop.py MODEL DTYPE

Put beside the records of `bench run` on the same model these rows show what the harness adds. STEPS, BATCH, QUESTIONS,
NEW and TASK in the environment give optimizer steps, rows per step, questions, new tokens and the task.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import registry
from bench.data import hub_tasks
from bench.execution.budget import BudgetTracker, parse_budget
from bench.measurement import device
from bench.modeling import checkpoint
from bench.records import Decoding

MIB = 2**20
STEPS, BATCH = int(os.environ.get("STEPS", 12)), int(os.environ.get("BATCH", 16))
N_QUESTIONS, NEW_TOKENS = int(os.environ.get("QUESTIONS", 96)), int(os.environ.get("NEW", 16))
WARM_UP_STEPS, GENERATE_BATCH = 2, 32
IS_CUDA = torch.cuda.is_available()
DEVICE = device.torch_device("auto")  # with the attention kernels that a run uses


class Bare:
    """The model, the data, and what is timed on them."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.dtype = dtype
        decoding = Decoding(max_new_tokens=NEW_TOKENS, stop=("\n\n",))
        self.base = checkpoint.Checkpoint(folder, dtype, DEVICE, decoding)
        self.task = hub_tasks.load_task(registry.find_task(os.environ.get("TASK", "bookrec")), fetch=False)
        self.data = self.task.training_data(0, None)

    def print_row(self, name: str, **values: float) -> None:
        """Print one row of the result."""
        numbers = ", ".join(f"{key} {value:.1f}" for key, value in values.items())
        print(f"bare {self.dtype} {name}: {numbers}", flush=True)

    def time_answering(self) -> None:
        """Time few-shot answers by adaptbench and by plain `generate`, and compare the texts."""
        lm: Any = self.base.load()
        method: Any = registry.find_method("few-shot")()
        method.fit(lm, self.data, BudgetTracker(parse_budget("steps=1"), len(self.data.train)))
        prompts = [method.prompt_.shots.prompt(row.input) for row in self.task.splits["test"][:N_QUESTIONS]]
        lm.generate(prompts[:2])
        lm.token_usage = type(lm.token_usage)()
        reset_peak()
        seconds, answers = timed(lambda: lm.generate(prompts))
        usage = lm.token_usage
        self.print_row("lm.generate", s=seconds, questions_per_s=len(prompts) / seconds,
                       longest_prompt=usage.longest_prompt_tokens, tokens=usage.answer_tokens,
                       peak_mib=peak_mib())  # fmt: skip
        for size in dict.fromkeys((GENERATE_BATCH, len(prompts))):
            reset_peak()
            seconds, plain = timed(lambda size=size: generate_plain(lm, prompts, size))
            self.print_row(f"generate, {size} at once", s=seconds, questions_per_s=len(prompts) / seconds,
                           peak_mib=peak_mib())  # fmt: skip
            same = sum(answer == text for answer, text in zip(answers, plain, strict=True))
            print(f"bare {self.dtype} answers equal to plain generate: {same} of {len(prompts)}", flush=True)

    def time_training(self, name: str, *optimizer_kwargs: dict[str, bool]) -> None:
        """Time a loop over the method's weights for each kind of AdamW, the last of them deterministic as well."""
        method: Any = registry.find_method(name)()
        lm: Any = method.load(self.base)
        method.lm_, method.data_ = lm, self.data
        lm.prepare(self.data)
        lm.model = method.adapt(lm.model)
        for kwargs in optimizer_kwargs:
            self._run_loop(lm, f"{name} {kwargs}", kwargs)
        torch.use_deterministic_algorithms(True, warn_only=not IS_CUDA)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            self._run_loop(lm, f"{name} {optimizer_kwargs[-1]}, deterministic", optimizer_kwargs[-1])
        finally:
            torch.use_deterministic_algorithms(False)

    def _run_loop(self, lm: Any, name: str, kwargs: dict[str, bool]) -> None:
        weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
        for weight in weights:
            weight.data = weight.data.float()
        reset_peak()
        optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0, **kwargs)  # type: ignore[arg-type]
        autocast = partial(torch.autocast, DEVICE, dtype=torch.bfloat16, enabled=self.dtype != "float32")
        lm.model.train()
        step_s, optimizer_s, tokens, backward_peak = [], [], [], 0.0
        for batch in self._batches(lm):
            start = clock()
            with autocast():
                loss = lm.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            backward_end = clock()
            backward_peak = max(backward_peak, peak_mib())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            end = clock()
            step_s.append(end - start)
            optimizer_s.append(end - backward_end)
            tokens.append(sum(len(prompt) + len(completion) for prompt, completion in batch))
        late = slice(WARM_UP_STEPS if len(step_s) > WARM_UP_STEPS else 0, None)
        self.print_row(name, step_ms=1e3 * sum(step_s[late]) / len(step_s[late]),
                       optimizer_ms=1e3 * sorted(optimizer_s)[len(optimizer_s) // 2],
                       tokens_per_s=sum(tokens[late]) / sum(step_s[late]), peak_mib=peak_mib(),
                       peak_before_optimizer_mib=backward_peak)  # fmt: skip
        del optimizer
        lm.model.zero_grad(set_to_none=True)
        lm.model.eval()

    def _batches(self, lm: Any) -> list[list[tuple[list[int], list[int]]]]:
        examples = self.data.train[: BATCH * STEPS]
        rows = [lm.encode(self.data.prompt(row.input), self.data.completion(row)) for row in examples]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def generate_plain(lm: Any, prompts: list[str], size: int) -> list[str]:
    """Generate with transformers, `size` prompts at once, and return the texts as adaptbench cuts them."""
    order = sorted(range(len(prompts)), key=lambda index: len(lm.tokens(prompts[index])))
    texts = [""] * len(prompts)
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        input_ids, attention_mask = lm.pad([lm.tokens(prompts[index]) for index in indices], left=True)
        with torch.inference_mode():
            output = lm.model.generate(
                input_ids=input_ids, attention_mask=attention_mask, generation_config=lm.generation_config,
                stop_strings=list(lm.decoding.stop), tokenizer=lm.tokenizer,
            )  # fmt: skip
        for index, tokens in zip(indices, output[:, input_ids.shape[1] :].tolist(), strict=True):
            length = next((place for place, token in enumerate(tokens) if token in lm.final_token_ids), len(tokens))
            texts[index] = lm.tokenizer.decode(tokens[:length], skip_special_tokens=True)
    return texts


def clock() -> float:
    """Return seconds after all work of the device is done."""
    if IS_CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(body: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return the seconds that the body takes, and its result."""
    start = clock()
    result = body()
    return clock() - start, result


def reset_peak() -> None:
    """Free what is unused and begin a new peak."""
    gc.collect()
    if IS_CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_mib() -> float:
    """Return the peak of the allocator; NaN on a CPU, where it is not measured."""
    return torch.cuda.max_memory_allocated() / MIB if IS_CUDA else float("nan")


def run_part(bare: Bare, name: str, body: Callable[[], None]) -> None:
    """Run one part; an error is printed, and its memory is freed."""
    try:
        body()
    except Exception as error:
        print(f"bare {bare.dtype} {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
    reset_peak()


def main(folder: Path, dtype: str) -> None:
    """Run all parts."""
    bare = Bare(folder, dtype)
    foreach, fused = {"foreach": True}, {"fused": True}
    ways = (foreach, fused) if IS_CUDA else ({"foreach": False},)
    run_part(bare, "answering", bare.time_answering)
    run_part(bare, "lora", lambda: bare.time_training("lora", ways[-1]))
    run_part(bare, "qlora", lambda: bare.time_training("qlora", ways[-1]))
    run_part(bare, "full", lambda: bare.time_training("full", *ways))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
