"""Measure time and memory of `bench report` and `bench check` on hundreds to thousands of records.

Run: python benchmarks/many_records.py [--tasks 10,50,100] [--methods 20] [--seeds 5] [--items 500]

The records are those of the shipped tasks under as many names as there are tasks: real questions, correct and wrong
answers, their scores, and costs and curves of a trained method. A record of 500 questions has 70 to 270 KB; 10,000 old
and 10,000 new records need 2.8 GB in the folder for temporary files. `check` compares new records with as many old
ones, with 2 % of the answers different. Each command is a process of its own. CPU seconds include its child processes;
memory is the highest total of all its processes (PSS, read four times a second).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy
import psutil

from bench import registry
from bench.data import hub_tasks
from bench.records import Record, Sample, Spec
from bench.records.record import WITHOUT_SAMPLES
from bench.task import Task

SHIPPED_TASKS = ("bookrec", "kdc", "capitals", "fruit-sums", "card-json")
METHODS = ("few-shot", "lora", "full", "dora", "qlora", "prefix", "adapter", "head", "ia3", "bitfit", "prompt-tuning")
CONTROLS = ("zero-shot", "nearest", "majority")
CHANGED_SHARE = 0.02  # answers that differ between two runs
POLL_S = 0.25


def main() -> None:
    """Create the records of the largest number of tasks; smaller folders hold links to some of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="10,50,100", help="numbers of tasks, separated by commas")
    for name, default in (("methods", 20), ("seeds", 5), ("items", 500)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"number of {name}, default {default}")
    options = parser.parse_args()
    task_counts = sorted(map(int, options.tasks.split(",")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        for index in range(task_counts[-1]):
            ref = registry.find_task(SHIPPED_TASKS[index % len(SHIPPED_TASKS)])
            shipped_task = hub_tasks.load_task(ref, fetch=False)
            write_records(shipped_task, index, folder / "all", options.methods, options.seeds, options.items)
        size = sum(file.stat().st_size for file in folder.rglob("*.json")) / 2
        count = len(list((folder / "all" / "new").rglob("*.json")))
        seconds = time.perf_counter() - start
        print(f"{count:,} old and new records of {size / count / 1e3:.0f} KB, written in {seconds:.0f} s", flush=True)
        for task_count in task_counts:
            subset = folder / str(task_count)
            for side in ("old", "new"):
                (subset / side).mkdir(parents=True)
                for index in range(task_count):
                    for file in (folder / "all" / side / str(index)).iterdir():
                        os.link(file, subset / side / file.name)
            record_count = task_count * options.methods * options.seeds
            report, check = ["report", "new", "--out", "report"], ["check", "new", "--baseline", "old"]
            measure_command(f"report of {record_count:>6,}         ", report, subset, 0)
            measure_command(f"check  of {record_count:>6,} and as many", check, subset, 1)


def write_records(task: Task, task_index: int, folder: Path, n_methods: int, n_seeds: int, n_items: int) -> None:
    """Write old and new records of one task, with some answers different."""
    rows = task.splits["test"][:n_items]
    rng = numpy.random.default_rng(task_index)
    # The correct answer and three answers to other questions, which are nearly always wrong.
    texts = [[row.target, *(rows[other].target for other in rng.integers(len(rows), size=3))] for row in rows]
    samples = [
        [make_sample(task, row.id, row.references, text).model_dump_json() for text in row_texts]
        for row, row_texts in zip(rows, texts, strict=True)
    ]
    scores = [
        [task.score(text, row.references) for text in row_texts] for row, row_texts in zip(rows, texts, strict=True)
    ]
    difficulty = rng.random(len(rows))
    for side in ("old", "new"):
        (folder / side / str(task_index)).mkdir(parents=True)
    for method_index in range(n_methods):
        skill = 0.2 + 0.6 * rng.random()
        for seed in range(n_seeds):
            run_difficulty = difficulty + 0.15 * rng.standard_normal(len(rows))
            for side in ("old", "new"):
                correct = run_difficulty < skill + 0.01 * rng.standard_normal()
                correct ^= rng.random(len(rows)) < CHANGED_SHARE
                choices = numpy.where(correct, 0, rng.integers(1, 4, size=len(rows)))
                means = {
                    metric: float(
                        numpy.mean([row[choice][metric] for row, choice in zip(scores, choices, strict=True)])
                    )
                    for metric in scores[0][0]
                }
                record = make_record(task, task_index, method_index, seed, means, rng)
                lines = ",\n  ".join(row[choice] for row, choice in zip(samples, choices, strict=True))
                text = record.to_json().replace('"samples": []', f'"samples": [\n  {lines}\n ]')
                (folder / side / str(task_index) / f"{record.id}.json").write_text(text, "utf-8")


def make_sample(task: Task, id: str, references: tuple[str, ...], text: str) -> Sample:
    """Return one answer as a run records it."""
    raw = f" {text}{task.card.end}"
    trimmed = task.trim(raw)
    return Sample(
        id=id, references=references, raw=raw, answer=task.parse(trimmed), scores=task.score(trimmed, references)
    )


def make_record(
    task: Task, task_index: int, method_index: int, seed: int, scores: dict[str, float], rng: Any
) -> Record:
    """Return a record without answers."""
    names = [*CONTROLS, *METHODS]
    name = names[method_index] if method_index < len(names) else f"method-{method_index}"
    slowness = 1 + rng.random()
    phase = {"cpu_s": 9.1, "start_mib": 533.7, "peak_mib": 500 + 500 * rng.random(), "reserved_mib": None}
    phases = (
        "import", "load", "general_text_before", "fit", "predict", "latency", "general_text_after", "adapter_serving",
    )  # fmt: skip
    spec = {
        "task": {"name": f"{task.card.name}-{task_index:03}", "ref": task.card.name, "version": task.card.version,
                 "sha256": task.sha256, "metric": task.card.metric},
        "method": {"name": name, "ref": name, "control": name in CONTROLS,
                   "params": {"lr": 0.006, "warmup": 0.06, "weight_decay": 0.0, "rank": 16, "alpha": 32}},
        "base": {"ref": "bookworm", "sha256": "b" * 64, "dtype": "float32"},
        "budget": {"epochs": 3},
        "decoding": {"max_new_tokens": 64, "stop": [task.card.end]},
        "seed": seed,
    }  # fmt: skip
    curve = [
        {"step": 18 * step, "tokens": 31000 * step, "seconds": 4.9 * step, "train_loss": 1.2 / (step + 1),
         "validation_loss": slowness / (step + 1), "next_token_accuracy": 0.9}
        for step in range(12)
    ]  # fmt: skip
    cost = {
        "phases": {phase_name: phase | {"wall_s": 5 * slowness, "estimated_mib": 801.8} for phase_name in phases},
        "memory_source": "VmHWM",
        "parameters": {"total": 3492096, "trainable": 278528, "saved": 278528},
        "budget_usage": {"examples": 3000, "epochs": 3, "steps": 189, "tokens": 328902, "seconds": 48,
                         "stopped_by": "epochs"},
        "answering": {"queries": 500, "answer_tokens": 10292,
                      "latency_ms": (100 * slowness + rng.random(20)).tolist()},
        "artifact_bytes": 1127875,
    }  # fmt: skip
    env = {
        "started": "2026-11-21T20:22:42+00:00", "adaptbench": "0.1.0", "revision": "a" * 40, "method_sha256": "c" * 64,
        "python": "3.11.7", "platform": "Linux", "processor": "AMD EPYC", "cores": 2, "threads": 2, "memory_mib": 24105,
        "device": "cpu", "background_cores": 0.01, "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
    }  # fmt: skip
    forgetting = {"text_sha256": "d" * 64, "tokens": 16929, "nats_before": 1.476, "nats_after": 1.5 + rng.random()}
    return Record.model_validate(
        {"id": Spec.model_validate(spec).id, "status": "ok", "spec": spec, "command": ("run", "--methods", "all"),
         "scores": scores, "cost": cost, "env": env, "curve": curve, "forgetting": forgetting, "error": None,
         "samples": []},
        context=WITHOUT_SAMPLES,
    )  # fmt: skip


def measure_command(title: str, arguments: list[str], folder: Path, expected_code: int) -> None:
    """Run a command and print its time, CPU time and peak memory; exit code 0 or the expected one is accepted."""
    paths = [str(Path(registry.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    usage_before, start, peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    command = [sys.executable, "-m", "bench", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, process_tree_bytes(process.pid))
            time.sleep(POLL_S)
    seconds, usage_after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(getattr(usage_after, name) - getattr(usage_before, name) for name in ("ru_utime", "ru_stime"))
    if process.returncode not in (0, expected_code):
        raise SystemExit(f"bench {' '.join(arguments)}: exit code {process.returncode}")
    print(f"{title}  {seconds:6.1f} s  {cpu_s:6.1f} CPU s  {peak_bytes / 2**20:6.0f} MiB", flush=True)


def process_tree_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants; shared pages count once (PSS)."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text("utf-8")
            total += int(text.partition("\nPss:")[2].split()[0]) * 1024
    except (psutil.Error, OSError, IndexError):  # a process has ended in the meantime
        pass
    return total


if __name__ == "__main__":
    main()
