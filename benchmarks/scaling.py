"""Measure how much faster many runs finish on two nodes of a Ray cluster than on one.

Run: python benchmarks/scaling.py [runs]

Both clusters are on this machine, and each node executes one run at a time. The method of the runs sleeps for a second
instead of computing: two computing nodes on one machine would compete for its cores. Everything else (connecting,
checking the nodes, scheduling, forking, answering, writing) is as usual.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench.records import read_all

SLEEP_S = 1.0
METHOD = f'''
"""Sleeps instead of training."""
import time
from dataclasses import dataclass
from typing import ClassVar
from bench.method import Method

@dataclass
class Sleeper(Method):
    control: ClassVar[bool] = True  # so that no other controls join

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        time.sleep({SLEEP_S})
        return self

    def predict(self, inputs):
        return [""] * len(inputs)

    def save(self, folder):
        (folder / "nothing").touch()
'''


def main(runs: int) -> None:
    """Run the same command on one node and on two."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "sleeper.py").write_text(METHOD, "utf-8")
        seconds = {nodes: time_runs(Path(scratch), nodes, runs) for nodes in (1, 2)}
    for nodes, (command_s, runs_s) in seconds.items():
        print(f"{nodes} nodes: {runs} runs in {runs_s:6.1f} s, whole command {command_s:6.1f} s")
    speedup = seconds[1][1] / seconds[2][1]
    command_speedup = seconds[1][0] / seconds[2][0]
    print(f"2 nodes are {speedup:.2f} times as fast as 1; whole command {command_speedup:.2f} times")


def time_runs(folder: Path, nodes: int, runs: int) -> tuple[float, float]:
    """Run the command on a new cluster; returns the seconds of the whole command and of its runs alone."""
    from ray.cluster_utils import Cluster

    node_options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node_options)
    for _ in range(nodes - 1):
        cluster.add_node(**node_options)
    out = folder / f"on-{nodes}"
    command = [sys.executable, "-m", "bench", "run", "--methods", "./sleeper.py", "--task", "capitals", "--budget",
               "ci", "--seeds", str(runs), "--out", str(out), "--executor", "ray://auto"]  # fmt: skip
    start = time.time()
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    command_s = time.time() - start
    cluster.shutdown()
    last_end = max(file.stat().st_mtime for file in out.glob("*.json"))
    first_start = min(datetime.fromisoformat(record.env.started).timestamp() for record in read_all(out) if record.env)
    return command_s, last_end - first_start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=40, help="number of runs (default: 40)")
    main(parser.parse_args().runs)
