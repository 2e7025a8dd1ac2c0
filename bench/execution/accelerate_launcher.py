"""Launcher of runs that several processes train together by accelerate.

Checks accelerate's configuration, starts the processes and ends them.

Imports neither accelerate nor torch, so that errors in a configuration are reported at once.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.measurement import device, environment
from bench.source import parse_source

DISTRIBUTED_TYPES = ("NO", "MULTI_CPU", "MULTI_GPU")
CONFIG_CLASSES = ("BaseConfig", "ClusterConfig")
"""Classes of accelerate whose fields are the keys of a configuration."""
LEGACY_KEYS = ("fp16", "dynamo_backend")
"""Keys that accelerate still reads and that are no fields of its configuration classes."""
WHOLE_MODEL = Message("every process holds the whole model here and trains on a part of each step")
# Settings that would change what is trained or how, or that are not supported here, with the reason.
UNSUPPORTED_KEYS = {
    "deepspeed_config": WHOLE_MODEL,
    "fsdp_config": WHOLE_MODEL,
    "megatron_lm_config": WHOLE_MODEL,
    "parallelism_config": WHOLE_MODEL,
    "fp8_config": Message("the precision of a run is set by --dtype"),
    "fp16": Message("the precision of a run is set by --dtype"),
    "mixed_precision": Message("the precision of a run is set by --dtype"),
    "dynamo_backend": Message("models are not compiled here"),
    "dynamo_config": Message("models are not compiled here"),
    "mpirun_config": Message("processes are started by torchrun here, also on the CPU"),
    "tpu_name": Message("runs use CPUs or CUDA GPUs"),
    "tpu_use_cluster": Message("runs use CPUs or CUDA GPUs"),
}


@dataclass(frozen=True)
class AccelerateSetup:
    """Number of processes and device, from accelerate's configuration or the defaults."""

    file: str | None
    """The configuration file; None without one."""
    processes: int
    device: str
    """Device of all runs: `cpu`, the value of `--device`, or the first GPU that the configuration names."""

    def job_fields(self, supports_ddp: bool) -> dict[str, Any]:
        """Return the fields of a job that say so if several processes train its method together."""
        if self.file is None or self.processes == 1 or not supports_ddp:
            return {}
        return {"accelerate": str(Path(self.file).absolute()), "processes": self.processes}

    def check_batch(self, batch: int, budget_text: str) -> None:
        """Check that the batch can be divided among the processes.

        Raises:
            UserError: The number of processes does not divide the batch.
        """
        if batch % self.processes:
            next_batch = batch - batch % self.processes + self.processes
            raise UserError(
                Message(
                    "--accelerate {file}: {batch} examples per step do not divide among {processes} processes",
                    file=self.file,
                    batch=batch,
                    processes=self.processes,
                ),
                hint=Message(
                    "--budget {budget},batch={size}; or another num_processes",
                    budget=budget_text,
                    size=next_batch,
                ),
            )


def read_accelerate_config(file: str | None, requested_device: str) -> AccelerateSetup:
    """Read and check accelerate's configuration.

    Args:
        file: The configuration file; None for one process.
        requested_device: Value of `--device`.

    Raises:
        UserError: The file or a setting is invalid, a setting is not supported, or a device is missing.
    """
    if file is None:
        return AccelerateSetup(None, 1, requested_device)
    device.check_device(requested_device)
    option = f"--accelerate {file}"
    config = _load_config(Path(file), option)
    distributed_type = _supported_type(config, option, Path(file))
    processes = config.get("num_processes", 1 if distributed_type == "NO" else None)
    if type(processes) is not int or processes < 1:
        raise UserError(
            Message("{option}: num_processes is {processes}", option=option, processes=processes),
            hint=Message("num_processes: 2"),
        )
    _check_machine(config, option)
    for key, reason in UNSUPPORTED_KEYS.items():
        if _is_set(config.get(key)):
            raise UserError(
                Message("{option}: {key} is {text}: {reason}", option=option, key=key, text=config[key], reason=reason),
                hint=Message("remove {key}", key=key),
            )
    if distributed_type == "NO" and processes > 1:
        raise UserError(
            Message("{option}: {processes} processes, but distributed_type is NO", option=option, processes=processes),
            hint=Message("set distributed_type: MULTI_GPU or MULTI_CPU"),
        )
    if distributed_type == "MULTI_CPU" or _is_set(config.get("use_cpu")):
        return AccelerateSetup(file, processes, _cpu_device(option, requested_device))
    if distributed_type == "NO":
        return AccelerateSetup(file, processes, requested_device)
    return AccelerateSetup(file, processes, _first_gpu(option, requested_device, processes, config))


def _supported_type(config: dict[str, Any], option: str, file: Path) -> str:
    """Return the `distributed_type` of a configuration, if it is supported."""
    distributed_type = _enum_name(config.get("distributed_type"))
    if distributed_type in DISTRIBUTED_TYPES:
        return distributed_type
    problem = (
        Message("{name} is not supported: {reason}", name=distributed_type, reason=WHOLE_MODEL)
        if "distributed_type" in config
        else Message("distributed_type is missing")
    )
    raise UserError(
        Message("{option}: {problem}", option=option, problem=problem),
        location=str(file.absolute()),
        hint=Message("distributed_type: one of {names}", names=", ".join(DISTRIBUTED_TYPES)),
    )


def start_ranks(config_file: str, files: Sequence[Path], log: IO[str], env: dict[str, str]) -> ProcessGroup:
    """Start the processes of a run.

    Args:
        config_file: Configuration of accelerate.
        files: Arguments of `bench.execution.rank_worker`: job file, output folder, progress file.
        log: File that takes what the processes print.
        env: Environment variables of the processes.
    """
    options = ["--config_file", str(Path(config_file).absolute()), "--multi_gpu", "--mixed_precision", "no"]
    if not _load_config(Path(config_file), config_file).get("main_process_port"):
        options += ["--main_process_port", "0"]  # any free port
    command = [
        sys.executable,
        "-P",
        "-m",
        "bench.execution.child",
        str(os.getpid()),
        "accelerate.commands.launch",
        *options,
        "-m",
        "bench.execution.rank_worker",
        *map(str, files),
    ]
    return ProcessGroup(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)


def rank_environment(device: str, processes: int) -> dict[str, str]:
    """Return the environment variables of the processes.

    They set the threads of each process and the GPUs that it sees.
    """
    threads = environment.compute_threads()
    variables = {
        "OMP_NUM_THREADS": str(max(1, threads // processes)),
        environment.RUN_THREADS_VARIABLE: str(threads),
        "PYTHONSAFEPATH": "1",  # the working folder shadows no module
    }
    if device == "cpu":
        return variables | {"CUDA_VISIBLE_DEVICES": ""}
    return variables | {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}


class ProcessGroup(subprocess.Popen[bytes]):
    """The launcher of accelerate, killed together with all processes that it has started.

    A signal to the process group would not reach them, because accelerate starts them in sessions of their own.
    """

    def kill(self) -> None:
        """Kill the launcher and all its descendants."""
        try:
            launcher = psutil.Process(self.pid)
            launcher.suspend()  # so that it starts no more processes meanwhile
            descendants = launcher.children(recursive=True)
        except psutil.NoSuchProcess:
            descendants = []
        super().kill()
        for process in descendants:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def _load_config(file: Path, source: str) -> dict[str, Any]:
    """Return the settings of a configuration file; raise `UserError` for an unknown key."""
    if file.exists() and not file.is_file():
        raise UserError(
            Message("{source}: not a regular file", source=source),
            location=str(file.absolute()),
            hint=Message("name a file that `accelerate config --config_file FILE` has written"),
        )
    try:
        config = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            Message("{option}: {problem}", option=source, problem=(error.strerror or "cannot be read").lower()),
            location=str(file.absolute()),
            hint=f"accelerate config --config_file {shlex.quote(str(file))}",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            Message("{source}: not YAML: {problem}", source=source, problem=" ".join(str(error).split())),
            location=str(file.absolute()),
        ) from None
    if not isinstance(config, dict):
        raise UserError(
            Message("{source}: not a mapping of keys and values", source=source), location=str(file.absolute())
        )
    valid_keys = {*_config_keys(), *LEGACY_KEYS}
    for key in config:
        if key not in valid_keys:
            raise UserError(
                Message("{source}: accelerate has no key '{key}'", source=source, key=key),
                hint=did_you_mean(str(key), valid_keys),
            )
    return config


def _config_keys() -> list[str]:
    """Return the keys of accelerate's configuration.

    They are read from accelerate's source, because importing it takes seconds. It is imported only if its source has
    no such classes any more.
    """
    return _parse_config_keys() or _import_config_keys()


def _parse_config_keys() -> list[str]:
    """Read the fields of accelerate's configuration classes from its source.

    Returns an empty list if the source has moved or declares none.
    """
    spec = importlib.util.find_spec("accelerate")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "commands" / "config" / "config_args.py"
    if not file.is_file():
        return []
    classes = [node for node in parse_source(file.read_bytes()).body if isinstance(node, ast.ClassDef)]
    statements = [statement for node in classes if node.name in CONFIG_CLASSES for statement in node.body]
    fields = [statement.target for statement in statements if isinstance(statement, ast.AnnAssign)]
    return [target.id for target in fields if isinstance(target, ast.Name)]


def _import_config_keys() -> list[str]:
    """Import accelerate and return the fields of its configuration of one machine."""
    config_args: Any = importlib.import_module("accelerate.commands.config.config_args")
    return [field.name for field in dataclasses.fields(config_args.ClusterConfig)]


def _check_machine(config: dict[str, Any], option: str) -> None:
    """Raise `UserError` unless all processes are on this machine."""
    environment_name = _enum_name(config.get("compute_environment", "LOCAL_MACHINE"))
    if environment_name != "LOCAL_MACHINE" or config.get("num_machines", 1) != 1:
        raise UserError(
            Message("{option}: a run must stay on one machine", option=option),
            hint=Message("compute_environment: LOCAL_MACHINE, num_machines: 1"),
        )


def _enum_name(value: Any) -> str:
    """Return a value as accelerate spells it; YAML reads an unquoted NO as False."""
    return "NO" if value is False else str(value)


def _is_set(value: Any) -> bool:
    """Return True if a setting turns something on."""
    if isinstance(value, dict):
        return any(_is_set(inner) for inner in value.values())
    return bool(value) and str(value).lower() not in ("no", "false", "none")


def _cpu_device(option: str, requested_device: str) -> str:
    if requested_device not in ("auto", "cpu"):
        raise UserError(
            Message("{option}: is for the CPU, and --device is {device}", option=option, device=requested_device),
            hint=Message("leave out --device"),
        )
    return "cpu"


def _first_gpu(option: str, requested_device: str, processes: int, config: dict[str, Any]) -> str:
    """Check that each process has a GPU; return the device of runs of one process."""
    if requested_device not in ("auto", "cuda"):
        is_numbered = requested_device.startswith("cuda:")
        hint = Message("leave out --device; gpu_ids selects the GPUs") if is_numbered else Message("use_cpu: true")
        raise UserError(
            Message("{option}: is for GPUs, and --device is {device}", option=option, device=requested_device),
            hint=hint,
        )
    gpu_ids = str(config.get("gpu_ids") or "all")
    ids = [part.strip() for part in gpu_ids.split(",")] if gpu_ids != "all" else []
    device.check_device("cuda")
    gpus = device.count_gpus()
    too_few = processes > (len(ids) or gpus)
    if too_few or any(not part.isdecimal() or int(part) >= gpus for part in ids):
        names = Message(" of gpu_ids {ids}", ids=gpu_ids) if ids else ""
        raise UserError(
            Message(
                "{option}: {processes} processes need a GPU each{names}, and this machine has {gpus}",
                option=option,
                processes=processes,
                names=names,
                gpus=gpus,
            ),
            hint=Message("a smaller num_processes; or distributed_type: MULTI_CPU, which needs no GPU"),
        )
    return f"cuda:{ids[0]}" if ids else requested_device
