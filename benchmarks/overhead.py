"""Measure the overhead per run beside loading, training and answering, if one command makes many runs.

Run: python benchmarks/overhead.py [runs]

The overhead is the time from one record to the next minus the phases of work in it. Imports count as overhead: only
the first run of a method needs them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.records import Record

WORK_PHASES = (
    "load", "general_text_before", "fit", "predict", "latency", "general_text_after", "adapter_serving",
)  # fmt: skip


def main(runs: int) -> None:
    """Run two methods and the controls that join them, with as many seeds as runs."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "bench", "run", "--methods", "few-shot,lora", "--task", "capitals", "--seeds",
                   str(runs), "--budget", "steps=2,examples=16", "--out", out]  # fmt: skip
        start = time.time()
        subprocess.run(command, check=True, capture_output=True)
        files = sorted(Path(out).glob("*.json"), key=lambda file: file.stat().st_mtime)
        times = [start, *(file.stat().st_mtime for file in files)]
        records = [Record.read(file) for file in files]
    overheads: dict[str, list[float]] = defaultdict(list)
    for record, (begin, end) in zip(records, pairwise(times), strict=True):
        phases = record.cost.phases if record.cost else {}
        work_s = sum(phases[name].wall_s for name in WORK_PHASES if name in phases)
        overheads[record.spec.method.name].append(end - begin - work_s)
    for method, seconds in overheads.items():
        print(f"{method:10} first run {seconds[0]:5.2f} s   each later run {median(seconds[1:]):5.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=4, help="runs per method, at least 2 (default: 4)")
    main(parser.parse_args().runs)
