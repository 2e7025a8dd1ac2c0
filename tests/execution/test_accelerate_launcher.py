"""Runs of several ranks: accelerate's configuration is checked first, and all processes end with the run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from conftest import Bench, MakeTask

from bench.errors import UserError
from bench.execution import accelerate_launcher, fork_client, launcher, plan
from bench.execution.job import Job
from bench.measurement import device, environment
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record

DOCUMENT = Path(__file__).parents[2] / "docs" / "several-gpus.md"
CPU_CONFIG: dict[str, Any] = {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_processes": 2}
GPU_CONFIG: dict[str, Any] = {"distributed_type": "MULTI_GPU", "num_processes": 2, "mixed_precision": "no"}
# A method without a model; the process of rank 1 runs `body` in the middle of fit.
METHOD = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method
from bench.training import distributed

@dataclass
class Warm(Method):
    control: ClassVar[bool] = True
    supports_ddp: ClassVar[bool] = True

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        Path(f"pid{{distributed.rank()}}").write_text(str(os.getpid()))
        if distributed.rank() == 1:
            {body}
        distributed.barrier()
        budget.spend(examples=1)
        return self

    def predict(self, inputs):
        return ["warm"] * len(inputs)

    def save(self, folder):
        (folder / "answer").write_text("warm")
"""


@pytest.fixture(autouse=True)
def close_fork_servers() -> Iterator[None]:
    yield
    fork_client.close_servers()


def write_config(file: Path, config: dict[str, Any] | str) -> str:
    """Write a configuration, or a text in place of one; returns the file's name."""
    file.write_text(config if isinstance(config, str) else yaml.safe_dump(config), "utf-8")
    return str(file)


def write_method(folder: Path, body: str) -> None:
    (folder / "warm.py").write_text(METHOD.format(body=body), "utf-8")


def plan_job(method: str, task: Path, base: Checkpoint, *, budget: str, accelerate: str) -> Job:
    jobs = plan.plan_jobs(
        method,
        str(task),
        str(base.folder),
        budget_text=budget,
        seeds=1,
        settings=(),
        accelerate=accelerate,
        device="cpu",
    )
    return next(job for job in jobs if job.spec.method.ref == method)


def is_running(pid: int) -> bool:
    """True for a process that has not ended; a zombie has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def two_rank_arguments(make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Arguments of a run whose rank 1 waits forever; afterwards none of its processes may be left."""
    monkeypatch.chdir(tmp_path)
    make_task(tmp_path / "feelings")
    write_config(tmp_path / "cpu.yaml", CPU_CONFIG)
    write_method(tmp_path, "time.sleep(1000)")
    options = ["--methods", "./warm.py", "--task", "./feelings", "--device", "cpu", "--budget", "steps=1,batch=4"]
    yield ["run", *options, "--accelerate", "cpu.yaml"]
    assert not [file for file in tmp_path.glob("pid*") if is_running(int(file.read_text()))]


def test_ranks_error_on_one_rank_is_the_record_of_the_run(
    run_bench: Bench, two_rank_arguments: list[str], tmp_path: Path
) -> None:
    write_method(tmp_path, "raise ValueError('not on the second')")
    process = run_bench(*two_rank_arguments)
    assert process.returncode == 1, process.stderr
    assert "not on the second" in process.stdout
    (file,) = (tmp_path / "results").glob("*.json")
    record = Record.read(file)
    assert record.status == "error" and record.env and record.env.processes == 2
    assert record.error and record.error.kind == "ValueError" and "not on the second" in (record.error.trace or "")
    assert len(list(tmp_path.glob("pid*"))) == 2


@pytest.mark.slow
def test_ranks_killed_rank_ends_the_run_and_the_others(
    run_bench: Bench, two_rank_arguments: list[str], tmp_path: Path
) -> None:
    write_method(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    process = run_bench(*two_rank_arguments)
    assert process.returncode == 1, process.stderr
    (file,) = (tmp_path / "results").glob("*.json")
    error = Record.read(file).error
    assert error and "SIGKILL" in (error.trace or error.message)


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False])
def test_ranks_interrupted_command_ends_all_processes(
    environment: dict[str, str], two_rank_arguments: list[str], tmp_path: Path, whole_group: bool
) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "bench", *two_rank_arguments],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(tmp_path.glob("pid*"))) < 2:
        assert command.poll() is None
        time.sleep(0.1)
    if whole_group:  # as Ctrl-C in a terminal does
        os.killpg(command.pid, signal.SIGINT)
    else:
        command.send_signal(signal.SIGINT)
    command.communicate(timeout=300)
    assert command.returncode == 130
    assert not list((tmp_path / "results").glob("*.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("two_rank_arguments")
def test_ranks_ignoring_the_seconds_of_the_budget_are_ended(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    task, accelerate = tmp_path / "feelings", str(tmp_path / "cpu.yaml")
    job = plan_job("./warm.py", task, tiny, budget="steps=3,batch=4,seconds=0.2", accelerate=accelerate)
    assert launcher.launch_run(job, tmp_path)[0].status == "timeout"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system ends the processes of a killed command on Linux only")
def test_ranks_end_when_the_command_is_killed(
    environment: dict[str, str], two_rank_arguments: list[str], tmp_path: Path
) -> None:
    command = subprocess.Popen([sys.executable, "-m", "bench", *two_rank_arguments], env=environment)
    while len(list(tmp_path.glob("pid*"))) < 2:
        assert command.poll() is None
        time.sleep(0.1)
    processes = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.wait()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert len(processes) >= 3 and not alive


def test_process_group_kill_ends_processes_in_other_sessions(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True).wait()"
    )
    group = accelerate_launcher.ProcessGroup([sys.executable, "-c", parent])
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.02)
    child_pid = int(pid_file.read_text())
    assert is_running(child_pid)
    group.kill()
    assert group.wait(120) == -signal.SIGKILL
    for _ in range(1200):
        if not is_running(child_pid):
            break
        time.sleep(0.05)
    assert not is_running(child_pid)
    group.kill()  # does nothing to a group that has ended


INVALID_CONFIGS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "not YAML": ("a: [", "not YAML"),
    "a list": ("[1, 2]", "keys and values"),
    "unknown key": (CPU_CONFIG | {"num_proceses": 2}, "did you mean 'num_processes'"),
    "no type": ({"num_processes": 2}, "distributed_type is missing"),
    "FSDP": (CPU_CONFIG | {"distributed_type": "FSDP"}, "holds the whole model"),
    "DeepSpeed": (GPU_CONFIG | {"distributed_type": "DEEPSPEED"}, "DEEPSPEED is not supported"),
    "settings of DeepSpeed": (CPU_CONFIG | {"deepspeed_config": {"zero_stage": 2}}, "deepspeed_config"),
    "SageMaker": (CPU_CONFIG | {"compute_environment": "AMAZON_SAGEMAKER"}, "one machine"),
    "two machines": (CPU_CONFIG | {"num_machines": 2}, "one machine"),
    "no processes": (CPU_CONFIG | {"num_processes": 0}, "num_processes is 0"),
    "not a number": (CPU_CONFIG | {"num_processes": "two"}, "num_processes is two"),
    "number of processes missing": ({"distributed_type": "MULTI_CPU"}, "num_processes is None"),
    "two processes of type NO": ({"distributed_type": "NO", "num_processes": 2}, "MULTI_CPU"),
    "precision": (CPU_CONFIG | {"mixed_precision": "bf16"}, "--dtype"),
    "compiler": (CPU_CONFIG | {"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "compiled"),
    "MPI": (CPU_CONFIG | {"mpirun_config": {"mpirun_hostfile": "hosts"}}, "torchrun"),
    "batch not divisible": (CPU_CONFIG | {"num_processes": 3}, "16 examples per step do not divide among 3"),
}


@pytest.mark.parametrize("name", INVALID_CONFIGS)
def test_plan_jobs_invalid_accelerate_config_is_an_error(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, name: str
) -> None:
    task, (config, message) = make_task(tmp_path / "feelings"), INVALID_CONFIGS[name]
    accelerate = write_config(tmp_path / "config.yaml", config)
    with pytest.raises(UserError) as raised:
        plan_job("lora", task, tiny, budget="standard", accelerate=accelerate)
    assert message in str(raised.value)
    assert "config.yaml" in raised.value.message


def test_read_accelerate_config_of_a_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        accelerate_launcher.read_accelerate_config(str(tmp_path / "config.yaml"), "cpu")


def test_run_missing_accelerate_config_is_an_error_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from bench.cli import main; sys.argv = ['bench', 'run', '--methods', 'lora', '--task', 'kdc', "
        "'--accelerate', 'none.yaml']\n"
        "try: main()\nexcept SystemExit as end: print(end.code, {'torch', 'accelerate'} & {*sys.modules})"
    )
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True)
    assert process.stdout.strip() == "2 set()", process.stderr
    assert "none.yaml: no such file" in process.stderr and "accelerate config" in process.stderr


@pytest.mark.parametrize("source", ["", "class ClusterConfig:\n    pass\n", None])
def test_read_accelerate_config_unknown_source_imports_accelerate(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are still known if accelerate's source has moved or does not declare them as expected."""
    pytest.importorskip("accelerate.commands.config.config_args")
    if source is not None:
        folder = tmp_path / "accelerate" / "commands" / "config"
        folder.mkdir(parents=True)
        (folder / "config_args.py").write_text(source, "utf-8")
    spec = SimpleNamespace(origin=str(tmp_path / "accelerate" / "__init__.py"))
    monkeypatch.setattr(accelerate_launcher.importlib.util, "find_spec", lambda name: spec)
    file = write_config(tmp_path / "config.yaml", CPU_CONFIG | {"fp16": False})
    assert accelerate_launcher.read_accelerate_config(file, "auto").processes == 2
    file = write_config(tmp_path / "misspelled.yaml", CPU_CONFIG | {"num_proceses": 2})
    with pytest.raises(UserError, match="did you mean 'num_processes'"):
        accelerate_launcher.read_accelerate_config(file, "auto")


@pytest.mark.parametrize("config", re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL))
def test_read_accelerate_config_accepts_documented_examples(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(device, "count_gpus", lambda: 2)
    file = write_config(tmp_path / "config.yaml", config)
    assert accelerate_launcher.read_accelerate_config(file, "auto").processes == 2


@pytest.mark.parametrize(
    ("changes", "requested", "expected"),
    [
        ({}, "auto", "auto"),
        ({}, "cuda", "cuda"),
        ({"gpu_ids": "1,2"}, "auto", "cuda:1"),
        ({"gpu_ids": "all"}, "cuda", "cuda"),
        ({"num_processes": 3}, "auto", None),
        ({"gpu_ids": "0"}, "auto", None),
        ({"gpu_ids": "1,3"}, "auto", None),
        ({}, "cuda:1", None),
        ({}, "cpu", None),
        ({"distributed_type": "NO", "num_processes": 1}, "cuda:1", "cuda:1"),
        ({"use_cpu": True}, "auto", "cpu"),
        ({"use_cpu": True}, "cuda", None),
    ],
)
def test_read_accelerate_config_needs_a_gpu_per_process(
    changes: dict[str, Any], requested: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "torch_has_cuda", lambda: True)
    gpus = 2 if "gpu_ids" not in changes else 3
    monkeypatch.setattr(device, "count_gpus", lambda: gpus)
    config = GPU_CONFIG | changes
    file = write_config(tmp_path / "gpus.yaml", config)
    if expected is None:
        with pytest.raises(UserError):
            accelerate_launcher.read_accelerate_config(file, requested)
    else:
        setup = accelerate_launcher.AccelerateSetup(file, config["num_processes"], expected)
        assert accelerate_launcher.read_accelerate_config(file, requested) == setup


def test_plan_jobs_method_without_gradient_training_keeps_one_process(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path
) -> None:
    methods, task, base = "few-shot,lora,head,shuffled-labels", str(make_task(tmp_path / "feelings")), str(tiny.folder)
    options: dict[str, Any] = {"seeds": 1, "settings": [], "budget_text": "standard", "device": "cpu"}
    two = write_config(tmp_path / "cpu.yaml", CPU_CONFIG)
    jobs = plan.plan_jobs(methods, task, base, accelerate=two, **options)
    assert {job.spec.method.name for job in jobs if job.processes == 2} == {"lora", "shuffled-labels"}
    assert all((job.accelerate is None) == (job.processes == 1) for job in jobs)
    jobs_without_accelerate = plan.plan_jobs(methods, task, base, **options)
    assert [job.spec for job in jobs] == [job.spec for job in jobs_without_accelerate]
    one = write_config(tmp_path / "one.yaml", {"distributed_type": False, "use_cpu": True})  # YAML reads NO as false
    assert {job.processes for job in plan.plan_jobs("lora", task, base, accelerate=one, **options)} == {1}


def test_rank_environment_shares_threads_and_shows_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "compute_threads", lambda: 5)
    variables = accelerate_launcher.rank_environment("cpu", 2)
    assert variables["OMP_NUM_THREADS"] == "2"
    assert variables[environment.RUN_THREADS_VARIABLE] == "5"
    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert accelerate_launcher.rank_environment("cpu", 8)["OMP_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in accelerate_launcher.rank_environment("auto", 2)
