"""Many records: what `bench report` and `bench check` take for hundreds and thousands of them, in seconds and memory.

Run: python benchmarks/many_records.py [--tasks 10,50,100] [--methods 20] [--seeds 5] [--items 500]
Records are those of the tasks that ship, under as many names as there are tasks: their questions, right and wrong
answers of theirs, their scores, and the costs and curves of a trained method; 500 questions make 70 to 270 KB, and
10,000 records twice 2.8 GB in the folder for temporary files. `check` judges them against as many others, of which a
fiftieth of all answers differ. Each command is a process of its own; the seconds of processors are those of all its
children too, its memory is the most that all of them together held (PSS, looked at four times a second).
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
from bench.records import Record, Sample
from bench.task import Task

SHIPPED = ("bookrec", "kdc", "capitals", "fruit-sums", "card-json")
METHODS = ("few-shot", "lora", "full", "dora", "qlora", "prefix", "adapter", "head", "ia3", "bitfit", "prompt-tuning")
CONTROLS = ("zero-shot", "nearest", "majority")
CHANGED = 0.02  # answers that are others in a second run of the same


def main() -> None:
    """Make the records of the largest number of tasks once; of fewer tasks they are links to some of them."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--tasks", default="10,50,100", help="numbers of tasks, with commas between")
    for name, number in (("methods", 20), ("seeds", 5), ("items", 500)):
        words.add_argument(f"--{name}", type=int, default=number)
    asked = words.parse_args()
    sizes = sorted(map(int, asked.tasks.split(",")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        for place in range(sizes[-1]):
            shipped = hub_tasks.load_task(registry.find_task(SHIPPED[place % len(SHIPPED)]), fetch=False)
            make(shipped, place, folder / "all", asked.methods, asked.seeds, asked.items)
        size = sum(file.stat().st_size for file in folder.rglob("*.json")) / 2
        count = len(list((folder / "all" / "now").rglob("*.json")))
        print(
            f"{count:,} records of {size / count / 1e3:.0f} KB, twice, in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        for tasks in sizes:
            some = folder / str(tasks)
            for side in ("before", "now"):
                (some / side).mkdir(parents=True)
                for place in range(tasks):
                    for file in (folder / "all" / side / str(place)).iterdir():
                        os.link(file, some / side / file.name)
            number = tasks * asked.methods * asked.seeds
            measure(f"report of {number:>6,}         ", ["report", "now", "--out", "report"], some, 0)
            measure(f"check  of {number:>6,} and as many", ["check", "now", "--baseline", "before"], some, 1)


def make(task: Task, place: int, folder: Path, methods: int, seeds: int, items: int) -> None:
    """The runs of one task, now and before, with another luck in some answers."""
    rows = task.splits["test"][:items]
    dice = numpy.random.default_rng(place)
    texts = [[row.target, *(rows[other].target for other in dice.integers(len(rows), size=3))] for row in rows]
    lines = [
        [sample(task, row.id, row.references, text).model_dump_json() for text in some]
        for row, some in zip(rows, texts, strict=True)
    ]
    scores = [[task.score(text, row.references) for text in some] for row, some in zip(rows, texts, strict=True)]
    hard = dice.random(len(rows))
    for side in ("before", "now"):
        (folder / side / str(place)).mkdir(parents=True)
    for number in range(methods):
        skill = 0.2 + 0.6 * dice.random()
        for seed in range(seeds):
            luck = hard + 0.15 * dice.standard_normal(len(rows))
            for side in ("before", "now"):
                right = luck < skill + 0.01 * dice.standard_normal()
                right ^= dice.random(len(rows)) < CHANGED
                chosen = numpy.where(right, 0, dice.integers(1, 4, size=len(rows)))
                names = scores[0][0]
                means = {
                    name: float(numpy.mean([one[pick][name] for one, pick in zip(scores, chosen, strict=True)]))
                    for name in names
                }
                record = header(task, place, number, seed, means, dice)
                samples = ",\n  ".join(one[pick] for one, pick in zip(lines, chosen, strict=True))
                text = record.to_json().replace('"samples": []', f'"samples": [\n  {samples}\n ]')
                (folder / side / str(place) / f"{record.id}.json").write_text(text, "utf-8")


def sample(task: Task, id: str, references: tuple[str, ...], text: str) -> Sample:
    """One answer as a run records it."""
    raw = f" {text}{task.card.end}"
    trimmed = task.trim(raw)
    return Sample(
        id=id, references=references, raw=raw, answer=task.parse(trimmed), scores=task.score(trimmed, references)
    )


def header(task: Task, place: int, number: int, seed: int, scores: dict[str, float], dice: Any) -> Record:
    """All of a run but its answers."""
    known = [*CONTROLS, *METHODS]
    name = known[number] if number < len(known) else f"method-{number}"
    slow = 1 + dice.random()
    phase = {"cpu_s": 9.1, "start_mib": 533.7, "peak_mib": 500 + 500 * dice.random(), "reserved_mib": None}
    phases = ("import", "load", "remember", "fit", "predict", "latency", "forget", "serve")
    spec = {
        "task": {"name": f"{task.card.name}-{place:03}", "ref": task.card.name, "version": task.card.version,
                 "sha256": task.sha256, "metric": task.card.metric},
        "method": {"name": name, "ref": name, "control": name in CONTROLS,
                   "params": {"lr": 0.006, "warmup": 0.06, "weight_decay": 0.0, "rank": 16, "alpha": 32}},
        "base": {"ref": "bookworm", "sha256": "b" * 64, "dtype": "float32"},
        "budget": {"passes": 3},
        "decoding": {"max_new_tokens": 64, "stop": [task.card.end]},
        "seed": seed,
    }  # fmt: skip
    curve = [
        {"step": 18 * step, "tokens": 31000 * step, "seconds": 4.9 * step, "train_loss": 1.2 / (step + 1),
         "validation_loss": slow / (step + 1), "next_token_accuracy": 0.9}
        for step in range(12)
    ]  # fmt: skip
    cost = {
        "phases": {one: phase | {"wall_s": 5 * slow, "forecast_mib": 801.8} for one in phases},
        "memory_read_by": "VmHWM",
        "parameters": {"total": 3492096, "trainable": 278528, "kept": 278528},
        "spent": {"examples": 3000, "passes": 3, "steps": 189, "tokens": 328902, "seconds": 48, "stopped_by": "passes"},
        "answering": {"queries": 500, "answer_tokens": 10292, "latency_ms": (100 * slow + dice.random(20)).tolist()},
        "artifact_bytes": 1127875,
    }
    env = {
        "started": "2026-11-21T20:22:42+00:00", "adaptbench": "0.1.0", "revision": "a" * 40, "method_sha256": "c" * 64,
        "python": "3.11.7", "platform": "Linux", "processor": "AMD EPYC", "cores": 2, "threads": 2, "memory_mib": 24105,
        "device": "cpu", "others_cores": 0.01, "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
    }  # fmt: skip
    forgot = {"text_sha256": "d" * 64, "tokens": 16929, "nats_before": 1.476, "nats_after": 1.5 + dice.random()}
    made = Record.model_validate(
        {"id": "to be", "status": "ok", "spec": spec, "asked": ("run", "--methods", "all"), "scores": scores,
         "cost": cost, "env": env, "curve": curve, "forgetting": forgot, "error": None, "samples": []}
    )  # fmt: skip
    return made.model_copy(update={"id": made.spec.id})


def measure(what: str, arguments: list[str], folder: Path, code: int) -> None:
    """Run a command to its end, and print what it took."""
    paths = [str(Path(registry.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    before, began, most = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    command = [sys.executable, "-m", "bench", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, held(process.pid))
            time.sleep(0.25)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    if process.returncode not in (0, code):
        raise SystemExit(f"bench {' '.join(arguments)}: exit code {process.returncode}")
    print(f"{what}  {seconds:6.1f} s  {cpu:6.1f} s of processors  {most / 2**20:6.0f} MiB", flush=True)


def held(pid: int) -> int:
    """Bytes that a process and those below it hold together, what they share counted once."""
    most = 0
    try:
        top = psutil.Process(pid)
        for one in (top, *top.children(recursive=True)):
            text = Path(f"/proc/{one.pid}/smaps_rollup").read_text("utf-8")
            most += int(text.partition("\nPss:")[2].split()[0]) * 1024
    except (psutil.Error, OSError, IndexError):  # it ended meanwhile
        pass
    return most


if __name__ == "__main__":
    main()
