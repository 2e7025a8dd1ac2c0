"""Scaling: how much sooner a matrix of runs is done on two nodes of a Ray cluster than on one.

Run: python benchmarks/scaling.py [runs]
Both clusters are made on this machine, each node with one run at a time. The runs are of a method that waits for a
second where others would compute: two nodes that compute on one machine would tell how busy its cores are. What is no
waiting (connecting, asking the nodes, handing out runs, forking, answering, writing) is done as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench.records import read_all

WORK_S = 1.0
METHOD = f'''
"""Waits."""
import time
from dataclasses import dataclass
from typing import ClassVar
from bench.method import Method

@dataclass
class Waits(Method):
    control: ClassVar[bool] = True  # brings no others along

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        time.sleep({WORK_S})
        return self

    def predict(self, inputs):
        return [""] * len(inputs)

    def save(self, folder):
        (folder / "nothing").touch()
'''


def main(runs: int) -> None:
    """The same command on one node and on two."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "waits.py").write_text(METHOD, "utf-8")
        seconds = {nodes: measure(Path(scratch), nodes, runs) for nodes in (1, 2)}
    for nodes, (whole, working) in seconds.items():
        print(f"{nodes} nodes: {runs} runs in {working:6.1f} s, with connecting {whole:6.1f} s")
    (whole, working), (whole_of_two, working_of_two) = seconds[1], seconds[2]
    gain, gain_of_all = working / working_of_two, whole / whole_of_two
    print(f"2 nodes are {gain:.2f} times as fast as 1, with connecting {gain_of_all:.2f} times")


def measure(folder: Path, nodes: int, runs: int) -> tuple[float, float]:
    """Seconds of the whole command, and of its runs alone, on a fresh cluster."""
    from ray.cluster_utils import Cluster

    how = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=how)
    for _ in range(nodes - 1):
        cluster.add_node(**how)
    out = folder / f"on-{nodes}"
    command = [sys.executable, "-m", "bench", "run", "--methods", "./waits.py", "--task", "capitals", "--budget", "ci",
               "--seeds", str(runs), "--out", str(out), "--executor", "ray://auto"]  # fmt: skip
    began = time.time()
    subprocess.run(
        command, cwd=folder, env=os.environ | {"RAY_ADDRESS": cluster.address}, check=True, capture_output=True
    )
    whole = time.time() - began
    cluster.shutdown()
    ends = max(file.stat().st_mtime for file in out.glob("*.json"))
    begins = min(datetime.fromisoformat(one.env.started).timestamp() for one in read_all(out) if one.env)
    return whole, ends - begins


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
