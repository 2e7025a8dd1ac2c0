"""A run that several processes train together: accelerate's configuration, checked, and what starts and ends them.

Imports neither accelerate nor torch: what is wrong with a configuration is said at once.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from bench.errors import UserError, did_you_mean
from bench.measurement import device, environment

KINDS = ("NO", "MULTI_CPU", "MULTI_GPU")
OLD = ("fp16", "dynamo_backend")  # keys that accelerate still reads
WHOLE = "every process holds the whole model here, and shows it a part of each step"
# What would change what is trained or how, or was never made to work here.
BEYOND = {
    "deepspeed_config": WHOLE,
    "fsdp_config": WHOLE,
    "megatron_lm_config": WHOLE,
    "parallelism_config": WHOLE,
    "fp8_config": "the precision of a run is its own: --dtype",
    "fp16": "the precision of a run is its own: --dtype",
    "mixed_precision": "the precision of a run is its own: --dtype",
    "dynamo_backend": "nothing is compiled here",
    "dynamo_config": "nothing is compiled here",
    "mpirun_config": "processes are started by torchrun here, on the CPU too",
    "tpu_name": "runs are of CPUs and of GPUs of CUDA",
    "tpu_use_cluster": "runs are of CPUs and of GPUs of CUDA",
}


@dataclass(frozen=True)
class AccelerateSetup:
    """What a configuration asks for, or the one process that trains where there is none."""

    file: str | None
    processes: int
    device: str
    """Where all of a comparison computes: `cpu`, or what the user said, a GPU of those named."""

    def job(self, spreads: bool) -> dict[str, Any]:
        """What a job says of it, if several processes can train that together."""
        if self.file is None or self.processes == 1 or not spreads:
            return {}
        return {"accelerate": str(Path(self.file).absolute()), "processes": self.processes}

    def divide(self, batch: int, budget: str) -> None:
        """Refuse a batch that does not divide among the processes."""
        if batch % self.processes:
            more = batch - batch % self.processes + self.processes
            raise UserError(
                f"--accelerate {self.file}: {batch} examples a step do not divide among {self.processes} processes",
                hint=f"--budget {budget},batch={more}; or another num_processes",
            )


def read_accelerate_config(file: str | None, asked: str) -> AccelerateSetup:
    """What the configuration in a file asks for, if there is one, on a device that was asked for; `UserError` where that
    cannot be.
    """
    if file is None:
        return AccelerateSetup(None, 1, asked)
    device.check_device(asked)
    said = _load(Path(file), f"--accelerate {file}")
    where = f"--accelerate {file}"
    kind = _word(said.get("distributed_type"))
    if kind not in KINDS:
        raise UserError(
            f"{where}: no distributed_type" if "distributed_type" not in said else f"{where}: not for {kind}: {WHOLE}",
            location=str(Path(file).absolute()),
            hint=f"distributed_type: one of {', '.join(KINDS)}",
        )
    processes = said.get("num_processes", 1 if kind == "NO" else None)
    if type(processes) is not int or processes < 1:
        raise UserError(f"{where}: num_processes is {processes}", hint="num_processes: 2, or how many there should be")
    if _word(said.get("compute_environment", "LOCAL_MACHINE")) != "LOCAL_MACHINE" or said.get("num_machines", 1) != 1:
        raise UserError(
            f"{where}: a run stays on one machine", hint="compute_environment: LOCAL_MACHINE, num_machines: 1"
        )
    for key, why in BEYOND.items():
        if _says(said.get(key)):
            raise UserError(f"{where}: {key} is {said[key]}: {why}", hint=f"take {key} out")
    if kind == "NO" and processes > 1:
        raise UserError(f"{where}: {processes} processes, and distributed_type is NO", hint="MULTI_GPU or MULTI_CPU")
    if kind == "MULTI_CPU" or _says(said.get("use_cpu")):
        return AccelerateSetup(file, processes, _cpu(where, asked))
    return AccelerateSetup(file, processes, asked if kind == "NO" else _gpus(where, asked, processes, said))


def start_ranks(file: str, files: Sequence[Path], log: IO[str], env: dict[str, str]) -> ProcessGroup:
    """The processes of a run, as `bench.crew` says; `log` takes what they print."""
    how = ["--config_file", str(Path(file).absolute()), "--multi_gpu", "--mixed_precision", "no"]
    if not _load(Path(file), file).get("main_process_port"):
        how += ["--main_process_port", "0"]  # any that is free
    typed = [
        sys.executable,
        "-P",
        "-m",
        "accelerate.commands.launch",
        *how,
        "-m",
        "bench.execution.rank_worker",
        *map(str, files),
    ]
    return ProcessGroup(typed, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)


def rank_environment(device: str, processes: int) -> dict[str, str]:
    """What the environment says to the processes: which GPUs there are, and how many cores each of them has."""
    threads = environment.threads()
    said = {"OMP_NUM_THREADS": str(max(1, threads // processes)), environment.ALL_THREADS: str(threads)}
    said["PYTHONSAFEPATH"] = "1"  # the user's folder shadows nothing
    if device == "cpu":
        return said | {"CUDA_VISIBLE_DEVICES": ""}
    return said | {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}


class ProcessGroup(subprocess.Popen[bytes]):
    """Accelerate's launcher, which ends with all that it has started: they are in sessions of their own."""

    def kill(self) -> None:
        """End them all at once."""
        try:
            root = psutil.Process(self.pid)
            root.suspend()  # so that it starts no more meanwhile
            family = root.children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        super().kill()
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue


def _load(file: Path, where: str) -> dict[str, Any]:
    """What a file says, whose keys accelerate knows."""
    try:
        said = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"{where}: {(error.strerror or 'cannot be read').lower()}",
            location=str(file.absolute()),
            hint=f"accelerate config --config_file {file}",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}", location=str(file.absolute())) from None
    if not isinstance(said, dict):
        raise UserError(f"{where}: not a list of keys and values", location=str(file.absolute()))
    known = {*_fields(), *OLD}
    for key in said:
        if key not in known:
            raise UserError(f"{where}: accelerate knows no '{key}'", hint=did_you_mean(str(key), known))
    return said


def _fields() -> list[str]:
    """The keys of accelerate's configuration, read off its source: importing it would take seconds."""
    spec = importlib.util.find_spec("accelerate")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "commands" / "config" / "config_args.py"
    classes = [node for node in ast.parse(source.read_bytes()).body if isinstance(node, ast.ClassDef)]
    fields = [part for node in classes if node.name in ("BaseConfig", "ClusterConfig") for part in node.body]
    return [node.target.id for node in fields if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]


def _word(said: Any) -> str:
    """A word as accelerate has it; YAML takes a bare NO for no."""
    return "NO" if said is False else str(said)


def _says(value: Any) -> bool:
    """Whether a setting asks for something."""
    if isinstance(value, dict):
        return any(_says(inner) for inner in value.values())
    return bool(value) and str(value).lower() not in ("no", "false", "none")


def _cpu(where: str, asked: str) -> str:
    if asked not in ("auto", "cpu"):
        raise UserError(f"{where}: is for the CPU, and --device is {asked}", hint="leave --device out")
    return "cpu"


def _gpus(where: str, asked: str, processes: int, said: dict[str, Any]) -> str:
    """The device of what one process does, where a GPU for each is here."""
    if asked not in ("auto", "cuda"):
        mend = "leave --device out; gpu_ids says which GPUs" if asked.startswith("cuda:") else "use_cpu: true"
        raise UserError(f"{where}: is for GPUs, and --device is {asked}", hint=mend)
    named = str(said.get("gpu_ids") or "all")
    ids = [part.strip() for part in named.split(",")] if named != "all" else []
    device.check_device("cuda")
    there = device.count_gpus()
    short = processes > (len(ids) or there)
    if short or any(not part.isdecimal() or int(part) >= there for part in ids):
        names = f" of gpu_ids {named}" if ids else ""
        raise UserError(
            f"{where}: {processes} processes want a GPU each{names}, and {there} {'is' if there == 1 else 'are'} here",
            hint="fewer num_processes; or distributed_type: MULTI_CPU, which needs none",
        )
    return f"cuda:{ids[0]}" if ids else asked
