"""Overhead: what a run costs beside loading, fitting and answering, when many are made by one command.

Run: python benchmarks/overhead.py [runs]
Measured is the time between one record and the next, less the phases of work in it. Importing counts as overhead: only
the first run of a method has to.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.records import Record

WORK = ("load", "remember", "fit", "predict", "latency", "forget", "serve")


def main(runs: int) -> None:
    """One command with as many runs of each of two methods, and of the controls that join."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "bench", "run", "--methods", "few-shot,lora", "--task", "capitals", "--seeds",
                   str(runs), "--budget", "steps=2,examples=16", "--out", out]  # fmt: skip
        began = time.time()
        subprocess.run(command, check=True, capture_output=True)
        files = sorted(Path(out).glob("*.json"), key=lambda file: file.stat().st_mtime)
        ends = [began, *(file.stat().st_mtime for file in files)]
        records = [Record.read(file) for file in files]
    overhead: dict[str, list[float]] = defaultdict(list)
    for record, (before, after) in zip(records, pairwise(ends), strict=True):
        phases = record.cost.phases if record.cost else {}
        worked = sum(phases[name].wall_s for name in WORK if name in phases)
        overhead[record.spec.method.name].append(after - before - worked)
    for method, seconds in overhead.items():
        print(f"{method:10} first run {seconds[0]:5.2f} s   each after it {median(seconds[1:]):5.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
