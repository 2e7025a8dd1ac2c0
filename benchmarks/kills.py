"""Kill runs at random instants and count what is broken, lost or left behind.

Run: python benchmarks/kills.py [--count 300] [--seed 0] [--folder FOLDER]

Each round starts `bench run` in one results folder, sends KILL, TERM or INT to its launcher, its worker or its fork
server, and waits for the end of all its processes. Then it counts records that cannot be read or do not match their
artifact, successful records that are gone, processes that are left after ten seconds, and files that are left after
the start of the next command. All counts should be 0. Linux only.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from bench.execution import result_folder
from bench.records import Record
from bench.records.artifacts import folder_bytes
from bench.testing import tiny_base

# Controls, so that no other controls are added to a command.
METHODS = {
    "quick": """
import time
from dataclasses import dataclass
from typing import ClassVar
from bench.method import Method

@dataclass
class Quick(Method):
    control: ClassVar[bool] = True

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        time.sleep(0.3)
        budget.spend(examples=len(data.train))
        return self

    def predict(self, inputs):
        return ["warm"] * len(inputs)

    def save(self, folder):
        for number in range(50):
            (folder / f"part{number}").write_bytes(b"x" * 100_000)
""",
    "shots": """
from dataclasses import dataclass
from typing import ClassVar
from bench.methods.few_shot import FewShot

@dataclass
class Shots(FewShot):
    control: ClassVar[bool] = True
""",
    "adapter": """
from dataclasses import dataclass
from typing import ClassVar
from bench.methods.lora import LoRA

@dataclass
class Adapter(LoRA):
    control: ClassVar[bool] = True
""",
}
WEIGHTS = {"quick": 4, "shots": 1, "adapter": 1}
TARGETS = ("launcher", "worker", "fork server")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LEFT_AFTER_S = 10.0
"""Seconds after the end of the launcher at which none of its processes may be left."""
COLORS = ("red", "blue", "green", "black")


def main(count: int, seed: int, folder: Path) -> int:
    """Run the rounds and print the counts; the exit code is 1 if a count is not 0."""
    rng = random.Random(seed)
    write_files(folder)
    durations = {name: 6.0 for name in METHODS}
    faults: collections.Counter[str] = collections.Counter()
    targets: collections.Counter[str] = collections.Counter()
    while sum(targets.values()) < count:
        method = rng.choices(list(METHODS), list(WEIGHTS.values()))[0]
        target, signal_number = rng.choice(TARGETS), rng.choice(SIGNALS)
        options = [option for option in ("--force", "--save-artifacts") if rng.random() < 0.6]
        good_before = good_records(folder / "results")
        was_hit = run_and_kill(folder, method, options, target, signal_number, rng, durations)
        if was_hit:
            targets[f"{target} {signal_number.name}"] += 1
        may_drop_artifacts = "--force" in options and "--save-artifacts" not in options
        round_faults = count_faults(folder, good_before, may_drop_artifacts)
        faults.update(round_faults)
        line = {"kills": sum(targets.values()), "method": method, "options": options, "target": target,
                "signal": signal_number.name, "hit": was_hit, "faults": round_faults}  # fmt: skip
        print(json.dumps(line), flush=True)
    print(json.dumps({"kills": dict(targets), "faults": dict(faults)}))
    return int(any(faults.values()))


def write_files(folder: Path) -> None:
    """Write a task, a model and the methods into a folder."""
    task = folder / "feelings"
    task.mkdir(parents=True)
    card = {"name": "feelings", "version": 1, "summary": "Colors and how they feel.", "language": "en",
            "license": "CC0-1.0", "instruction": "Name the feeling.", "template": "Q: {input}\nA: {target}\n",
            "normalize": "squad", "new_tokens": 4}  # fmt: skip
    (task / "task.yaml").write_text(yaml.safe_dump(card), "utf-8")
    for split, first, size in (("train", 0, 9), ("validation", 20, 4), ("test", 40, 5)):
        rows = [
            {"id": f"q{index}", "input": f"{COLORS[index % 4]} {index}", "target": "warm" if index % 2 else "cold"}
            for index in range(first, first + size)
        ]
        (task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tiny_base(folder / "base")
    for name, code in METHODS.items():
        (folder / f"{name}.py").write_text(code, "utf-8")
    (folder / "tmp").mkdir()
    (folder / "results").mkdir()


def run_and_kill(
    folder: Path,
    method: str,
    options: list[str],
    target: str,
    signal_number: signal.Signals,
    rng: random.Random,
    durations: dict[str, float],
) -> bool:
    """Run a command and send the signal at a random instant of its usual duration.

    Returns False if the command ended before the target was there.
    """
    command = [sys.executable, "-m", "bench", "run", "--methods", f"./{method}.py", "--task", "./feelings",
               "--model", "./base", "--budget", "steps=2,batch=4", *options]  # fmt: skip
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}
    started_at = time.monotonic()
    launcher = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)
    kill_at = started_at + rng.random() * durations[method]
    while launcher.poll() is None:
        if time.monotonic() >= kill_at and (pid := find_process(launcher.pid, target)) is not None:
            try:
                os.kill(pid, signal_number)
            except ProcessLookupError:
                continue
            launcher.wait(300)
            return True
        time.sleep(0.005)
    if launcher.returncode:
        raise RuntimeError(f"a command that was not killed ended with exit code {launcher.returncode}")
    durations[method] = (durations[method] + time.monotonic() - started_at) / 2
    return False


def find_process(launcher: int, target: str) -> int | None:
    """Return the process id of a target, None if there is none at the moment."""
    if target == "launcher":
        return launcher
    try:
        children = psutil.Process(launcher).children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    is_worker = {process.pid: writes_log(process.pid) for process in children}
    wanted = [pid for pid, worker in is_worker.items() if worker is (target == "worker")]
    return wanted[-1] if wanted else None


def writes_log(pid: int) -> bool:
    """Return True for a worker: its output goes to the log of its run."""
    try:
        return os.readlink(f"/proc/{pid}/fd/1").endswith("/log")
    except OSError:
        return False


def good_records(results: Path) -> dict[str, bool]:
    """Return the ids of successful records, with True for those that have an artifact."""
    ids = [file.stem for file in results.glob("*.json") if result_folder.has_good_record(results, file.stem)]
    return {run_id: (results / run_id).is_dir() for run_id in ids}


def count_faults(folder: Path, good_before: dict[str, bool], may_drop_artifacts: bool) -> dict[str, int]:
    """Count what a killed command has broken, lost or left behind.

    Args:
        folder: Folder of the rounds.
        good_before: Ids of successful records before the command, with True for those that had an artifact.
        may_drop_artifacts: True if the command may replace a record with an artifact by one without.
    """
    deadline = time.monotonic() + LEFT_AFTER_S
    while (processes := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    results, temporary = folder / "results", folder / "tmp"
    start_next_command(folder)
    files = list(results.glob("*.json"))
    broken = sum(is_broken(file) for file in files)
    good_after = good_records(results)
    lost = sum(run_id not in good_after for run_id in good_before)
    if not may_drop_artifacts:
        lost += sum(had and not good_after.get(run_id, True) for run_id, had in good_before.items())
    expected = {file.name for file in files} | {f"{file.name}.failed" for file in files} | {".lock"}
    expected |= {file.stem for file in files if good_after.get(file.stem)}
    litter = [path for path in results.iterdir() if path.name not in expected] + list(temporary.iterdir())
    return {"broken": broken, "lost": lost, "litter": len(litter), "processes": len(processes)}


def processes_of(folder: Path) -> list[int]:
    """Return the process ids of all processes of commands in the folder."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR", "").startswith(str(folder)) and process.status() != "zombie":
                pids.append(process.pid)
        except psutil.Error:
            continue
    return [pid for pid in pids if pid != os.getpid()]


def start_next_command(folder: Path) -> None:
    """Do what the next command does at its start: store what is whole and delete the rest."""
    results = folder / "results"
    tempfile.tempdir = str(folder / "tmp")
    with result_folder.folder_lock(results, lambda state: None):
        result_folder.recover_results(results)
    tempfile.tempdir = None


def is_broken(file: Path) -> bool:
    """Return True if a record cannot be read, or if its artifact is not whole."""
    try:
        record = Record.read(file)
    except Exception:
        return True
    artifact = file.with_suffix("")
    if not artifact.is_dir() or record.cost is None:
        return False
    return folder_bytes(artifact)[0] != record.cost.artifact_bytes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="number of kills (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="seed of methods, targets, signals and instants")
    parser.add_argument("--folder", type=Path, help="new folder for all files (default: a temporary one)")
    parsed = parser.parse_args()
    if parsed.folder is not None:
        sys.exit(main(parsed.count, parsed.seed, parsed.folder.absolute()))
    with tempfile.TemporaryDirectory() as created:
        sys.exit(main(parsed.count, parsed.seed, Path(created) / "kills"))
