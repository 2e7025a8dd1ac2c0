"""Start-up: how long `bench` takes to answer when nothing has to be run, beside a bare Python.

Run: python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

ROUNDS = 9
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "bench --help": ["-m", "bench", "--help"],
    "bench list": ["-m", "bench", "list"],
    "bench run (refused)": ["-m", "bench", "run", "--methods", "lroa", "--task", "bookrec"],
    "bench run --dry-run": ["-m", "bench", "run", "--methods", "lora", "--task", "bookrec", "--dry-run"],
}


def main() -> None:
    """Interleave the commands, so that a slow moment of the machine hits them all alike."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            times[name].append(time.perf_counter() - began)
    bare = median(times["python -c pass"])
    for name, seconds in times.items():
        print(f"{name:22} {median(seconds):6.3f} s   {median(seconds) / bare:5.1f} × bare Python")


if __name__ == "__main__":
    main()
