"""Measure how fast `bench` answers if nothing has to be run, compared with a bare Python process.

Run: python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "bench --help": ["-m", "bench", "--help"],
    "bench list": ["-m", "bench", "list"],
    "bench run (invalid)": ["-m", "bench", "run", "--methods", "lroa", "--task", "bookrec"],
    "bench run --dry-run": ["-m", "bench", "run", "--methods", "lora", "--task", "bookrec", "--dry-run"],
}


def main(rounds: int) -> None:
    """Time the commands in turns, so that a slow moment of the machine affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            times[name].append(time.perf_counter() - start)
    bare_s = median(times["python -c pass"])
    for name, seconds in times.items():
        print(f"{name:22} {median(seconds):6.3f} s   {median(seconds) / bare_s:5.1f} × bare Python")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of all commands (default: 9)")
    main(parser.parse_args().rounds)
