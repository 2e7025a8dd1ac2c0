"""Compare keeping the best weights of a training with keeping the last ones, on few and many examples.

Run: python benchmarks/best_checkpoint.py [--tasks kdc,capitals] [--sizes 100,300,1000] [--seeds 0,1,2] [--epochs 5]

Each training measures its curve as with `keep=best`. A copy of the weights at every point is kept, so that one training
answers the test questions with the weights of the last step, of the lowest validation loss, of the highest validation
accuracy, and with those that stopping early would have kept. Every line of the output file is one training; a training
that the file has is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bench import registry, task
from bench.execution.budget import BudgetTracker
from bench.measurement import environment
from bench.measurement.determinism import seed_all
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, CurvePoint, Decoding
from bench.training import trainer
from bench.training.selection import WeightSelection

PATIENCE = 2
RULES = ("last", "loss", "accuracy", "patience")


class CopyingSelection(WeightSelection):
    """Selection that keeps a copy of the weights at every point, and restores none."""

    copies: dict[int, list[torch.Tensor]]

    def add_point(self, step: int, loss: float, *, is_last: bool = False) -> None:
        """Copy the weights."""
        super().add_point(step, loss, is_last=True)
        CopyingSelection.copies[step] = [weight.detach().clone() for weight in self.weights]

    def finish(self, step: int) -> Any:
        """Keep the weights of the last step."""
        self.keep = "last"
        CopyingSelection.copies[step] = [weight.detach().clone() for weight in self.weights]
        return super().finish(step)


def chosen_steps(curve: Sequence[CurvePoint], last_step: int) -> dict[str, int]:
    """Return the step that each rule keeps; equal losses keep the later one."""
    losses = {point.step: point.validation_loss or 0.0 for point in curve}
    accuracies = {point.step: point.next_token_accuracy or 0.0 for point in curve}
    best, without_gain = 0, 0
    for step, loss in losses.items():
        without_gain = 0 if loss <= losses[best] else without_gain + 1
        best = step if not without_gain else best
        if without_gain == PATIENCE:
            break
    return {
        "last": last_step,
        "loss": min(losses, key=lambda step: (losses[step], -step)),
        "accuracy": max(accuracies, key=lambda step: (accuracies[step], step)),
        "patience": best,
        "stopped": step,
    }


def train_and_answer(
    task_name: str, model: str, method_name: str, examples: int, seed: int, epochs: int, questions: int
) -> dict[str, Any]:
    """Train once; return the curve, its cost, and the mean score of the test questions by rule."""
    rows = task.load_task(registry.find_task(task_name))
    decoding = Decoding(max_new_tokens=rows.card.new_tokens, stop=(rows.card.end,) if rows.card.end else ())
    seed_all(seed)
    method: Any = registry.find_method(method_name)(keep="best")
    lm: Any = method.load(Checkpoint(registry.find_model(model), "float32", "cpu", decoding))
    seed_all(seed)
    data = rows.training_data(seed, examples)
    budget = BudgetTracker(BudgetLimits(examples=examples, epochs=epochs), len(data.train))
    CopyingSelection.copies = {}
    method.fit(lm, data, budget)
    budget.stop()
    steps = chosen_steps(method.curve_, budget.steps)
    stopped = steps.pop("stopped")
    test = rows.splits["test"][:questions]
    scores: dict[int, float] = {}
    for step in set(steps.values()):
        weights = [weight for weight in lm.model.parameters() if weight.requires_grad]
        for weight, value in zip(weights, CopyingSelection.copies[step], strict=True):
            weight.data.copy_(value)
        answers = method.predict([row.input for row in test])
        scores[step] = fmean(
            rows.score(rows.trim(answer), row.references)[rows.card.metric]
            for answer, row in zip(answers, test, strict=True)
        )
    return {
        "task": task_name, "model": model, "method": method_name, "examples": examples, "seed": seed, "epochs": epochs,
        "questions": len(test), "steps": budget.steps, "stopped": stopped,
        "seconds": round(budget.seconds, 1), "validation_s": round(budget.validation_s, 1),
        "kept": steps, "scores": {rule: scores[step] for rule, step in steps.items()},
        "curve": [(point.step, point.validation_loss, point.next_token_accuracy) for point in method.curve_],
    }  # fmt: skip


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Print the mean score of each rule by task, method and number of examples, over the seeds."""
    print(f"\n{'task':12} {'method':8} {'examples':>8} {'seeds':>5}  " + "  ".join(f"{rule:>9}" for rule in RULES)
          + "   steps kept of all (loss)   validation s of all")  # fmt: skip
    groups = dict.fromkeys((row["task"], row["method"], row["examples"]) for row in results)
    for key in groups:
        rows = [row for row in results if (row["task"], row["method"], row["examples"]) == key]
        means = "  ".join(f"{fmean(row['scores'][rule] for row in rows):9.3f}" for rule in RULES)
        kept = ", ".join(str(row["kept"]["loss"]) for row in rows)
        share = sum(row["validation_s"] for row in rows) / sum(row["seconds"] for row in rows)
        print(f"{key[0]:12} {key[1]:8} {key[2]:8} {len(rows):5}  {means}   {kept} of {rows[0]['steps']}   "
              f"{100 * share:.0f} %")  # fmt: skip


def main() -> None:
    """Train once for each task, number of examples and seed; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="kdc,capitals")
    parser.add_argument("--sizes", default="100,300,1000")
    parser.add_argument("--methods", default="lora")
    parser.add_argument("--model", default="bookworm")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("best_checkpoint.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(environment.compute_threads())
    trainer.WeightSelection = CopyingSelection  # type: ignore[misc]
    lines = options.out.read_text("utf-8").splitlines() if options.out.exists() else []
    results = [json.loads(line) for line in lines]
    finished = {(row["examples"], row["task"], row["method"], row["seed"]) for row in results}
    for size in map(int, options.sizes.split(",")):
        for name in options.tasks.split(","):
            for method in options.methods.split(","):
                for seed in map(int, options.seeds.split(",")):
                    if (size, name, method, seed) in finished:
                        continue
                    start = time.perf_counter()
                    result = train_and_answer(
                        name, options.model, method, size, seed, options.epochs, options.questions
                    )
                    results.append(result)
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")
                    seconds = round(time.perf_counter() - start)
                    print(name, method, size, seed, result["scores"], result["kept"], f"{seconds} s", flush=True)
    print_table(results)


if __name__ == "__main__":
    main()
