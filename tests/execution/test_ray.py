"""Runs on a Ray cluster give the records of one machine, each once, also if a node is lost."""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Bench, MakeRecord, MakeTask

import bench
from bench.errors import UserError
from bench.execution import executor, plan
from bench.execution.job import Job
from bench.execution.ray import executor as ray_executor
from bench.execution.ray import node, resources
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, read_all

ray = pytest.importorskip("ray")

METHOD = '''
"""Answers at random, from its seed; `fit` writes its process id and waits until the file `gate` is removed."""
import os, random, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method, param

HERE = Path({here!r})

@dataclass
class Mine(Method):
    control: ClassVar[bool] = True  # a control, so that no other controls are added
    bias: float = param(0.5, help="probability of the answer warm", search=(0.0, 1.0))

    def load(self, base):
        return None

    def fit(self, lm, data, budget):
        with (HERE / "fits").open("a") as file:
            file.write(f"{{os.getpid()}} {{data.seed}}\\n")
        while (HERE / "gate").exists():
            time.sleep(0.05)
        self.random_ = random.Random(data.seed)
        budget.spend(examples=len(data.train))
        return self

    def predict(self, inputs):
        return ["warm" if self.random_.random() < self.bias else str(self.random_.random()) for _ in inputs]

    def save(self, folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "bias").write_text(str(self.bias))
'''
TIMEOUT_S = 300


class TwoNodeCluster:
    """A cluster of two nodes on this machine; the one without Ray's head can be killed."""

    def __init__(self, **head_options: Any) -> None:
        from ray.cluster_utils import Cluster

        self.node_options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        system_config = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
        head_node_args = self.node_options | {"_system_config": system_config} | head_options
        self.cluster = Cluster(initialize_head=True, head_node_args=head_node_args)
        self.second: Any = None

    def ensure_two_nodes(self) -> None:
        if self.second is None:
            self.second = self.cluster.add_node(**self.node_options)

    def kill_second(self) -> None:
        """Kill all processes of the second node, as if its machine were lost."""
        for process in self.second_raylet().children(recursive=True):
            process.kill()
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None

    def is_on_second(self, pid: int) -> bool:
        """True if a process belongs to the second node."""
        return self.second_raylet() in psutil.Process(pid).parents()

    def second_raylet(self) -> psutil.Process:
        (raylet,) = self.second.all_processes["raylet"]
        return psutil.Process(raylet.process.pid)


@pytest.fixture(scope="module")
def shared_cluster(environment: dict[str, str]) -> Iterator[TwoNodeCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment["PYTHONPATH"])
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = TwoNodeCluster()
        yield cluster
        cluster.cluster.shutdown()


@pytest.fixture
def cluster(
    shared_cluster: TwoNodeCluster, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> TwoNodeCluster:
    shared_cluster.ensure_two_nodes()
    monkeypatch.setitem(environment, "RAY_ADDRESS", shared_cluster.cluster.address)
    return shared_cluster


@pytest.fixture
def arguments(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    """Arguments that all commands here share."""
    make_task(tmp_path / "feelings")
    (tmp_path / "mine.py").write_text(METHOD.format(here=str(tmp_path)), "utf-8")
    methods = ["--methods", "./mine.py,majority", "--seeds", "3"]
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4", *methods]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command `bench` without waiting for it."""
    processes: list[subprocess.Popen[str]] = []

    def command(*command_arguments: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        called = [sys.executable, "-m", "bench", *command_arguments]
        processes.append(subprocess.Popen(called, cwd=tmp_path, env=environment, start_new_session=True, **pipes))
        return processes[-1]

    yield command
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def fits(folder: Path) -> list[tuple[int, int]]:
    """All calls of `fit` so far, as process id and seed."""
    file = folder / "fits"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [(int(pid), int(seed)) for pid, seed in map(str.split, lines)]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def record_contents(folder: Path) -> dict[str, Any]:
    """All parts of records that do not depend on the machine and the time of the run."""
    return {
        record.id: (record.status, record.spec, record.scores, record.samples, record.tuning)
        for record in read_all(folder)
    }


def test_ray_killed_node_is_retried_and_answers_equal_local_ones(
    cluster: TwoNodeCluster, start: Any, run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    command = start(*arguments, "--executor", "ray://auto")
    wait_until(lambda: len(fits(tmp_path)) == 2)
    lost = [(pid, seed) for pid, seed in fits(tmp_path) if cluster.is_on_second(pid)]
    assert len(lost) == 1, "each node runs one job at a time"
    cluster.kill_second()
    (tmp_path / "gate").unlink()
    _, err = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 0, err
    assert sorted(seed for _, seed in fits(tmp_path)) == sorted([0, 1, 2, lost[0][1]]), "the lost run must be retried"
    assert run_bench(*arguments, "--out", "local").returncode == 0
    assert record_contents(tmp_path / "results") == record_contents(tmp_path / "local")
    assert len(record_contents(tmp_path / "local")) == 6
    answers = {tuple(sample.raw for sample in record.samples) for record in read_all(tmp_path / "local")}
    assert len(answers) == 4, "seeds must differ, otherwise this test cannot fail"
    assert "nodes: 2, runs at once: 2, each with 1 CPU" in err
    file_names = {file.name for file in (tmp_path / "results").iterdir()}
    run_ids = set(record_contents(tmp_path / "local"))
    assert file_names == {f"{run_id}.json" for run_id in run_ids} | run_ids | {".lock"}
    assert err.count(": ok") == 6


def test_ray_interrupted_command_ends_runs_and_continues_when_repeated(
    cluster: TwoNodeCluster, start: Any, run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    assert run_bench(*arguments[:-1], "1").returncode == 0
    before = {
        run_id: (tmp_path / "results" / f"{run_id}.json").read_bytes()
        for run_id in record_contents(tmp_path / "results")
    }
    (tmp_path / "gate").touch()
    command = start(*arguments, "--executor", "ray://auto")
    wait_until(lambda: len(fits(tmp_path)) >= 2)
    command.send_signal(signal.SIGTERM)
    _, err = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 130, err
    assert "Traceback" not in err and "repeat the command to run the remaining ones" in err
    assert re.search(r"mine seed 0 \(1/6\): ok, em [\d.]+ % \(existing record\)", err)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid, _ in fits(tmp_path)))
    assert not list((tmp_path / "results").glob(".*.part"))
    (tmp_path / "gate").unlink()
    process = run_bench(*arguments)
    assert process.returncode == 0, process.stderr
    assert [seed for _, seed in fits(tmp_path)].count(0) == 1
    assert len(record_contents(tmp_path / "results")) == 6
    assert all((tmp_path / "results" / f"{run_id}.json").read_bytes() == text for run_id, text in before.items())


def test_ray_shipped_folder_trials_and_artifacts_equal_local_ones(
    cluster: TwoNodeCluster, run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    arguments = [*arguments[:-1], "2", "--trials", "3", "--save-artifacts"]
    for out, name in (("remote", "ray://auto?ship=."), ("local", "local")):
        process = run_bench(*arguments, "--out", out, "--executor", name)
        assert process.returncode == 0, process.stderr
    assert record_contents(tmp_path / "remote") == record_contents(tmp_path / "local")
    tunings = [record.tuning for record in read_all(tmp_path / "remote") if record.tuning and record.tuning.trials]
    assert {len(tuning.trials) for tuning in tunings} == {3}
    artifacts = {
        out: {str(file.relative_to(tmp_path / out)): file.read_bytes() for file in (tmp_path / out).rglob("deep/bias")}
        for out in ("remote", "local")
    }
    assert artifacts["remote"] == artifacts["local"] and len(artifacts["local"]) == 2


def test_ray_node_without_method_file_is_an_error_before_any_run(
    cluster: TwoNodeCluster, run_bench: Bench, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    process = run_bench(*arguments, "--executor", "ray://auto?ship=elsewhere")
    assert process.returncode == 2, process.stderr
    assert "cannot run these jobs: method file 'mine.py' not found" in process.stderr
    assert not list((tmp_path / "results").glob("*.json")) and fits(tmp_path) == []


@pytest.mark.slow
def test_ray_client_answers_equal_local_ones_and_lost_head_ends_command(
    start: Any,
    run_bench: Bench,
    arguments: list[str],
    lively: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = TwoNodeCluster(ray_client_server_port=port)
    try:
        cluster.ensure_two_nodes()
        arguments[4] = str(lively.folder)
        trained = [*arguments[:-3], "lora,few-shot", "--seeds", "1"]
        for out, name in (("remote", f"ray://127.0.0.1:{port}"), ("local", "local")):
            process = run_bench(*trained, "--out", out, "--executor", name)
            assert process.returncode == 0, process.stderr
        assert record_contents(tmp_path / "remote") == record_contents(tmp_path / "local")
        (tmp_path / "gate").touch()
        command = start(*arguments, "--executor", f"ray://127.0.0.1:{port}")
        wait_until(lambda: len(fits(tmp_path)) == 2)
    finally:
        cluster.cluster.shutdown()
    _, err = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 2 and "repeat the command to run the remaining ones" in err and "Traceback" not in err


def plan_jobs(arguments: list[str]) -> list[Any]:
    return plan.plan_jobs("majority,./mine.py", arguments[2], arguments[4], seeds=1, budget_text="steps=3", settings=[])


@pytest.mark.parametrize("differing", ["task", "model", "method", "package", "folder"])
def test_find_obstacle_differing_files_names_them(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan_jobs(arguments)
    assert node.find_obstacle(planned, str(tmp_path), node.source_sha256()) is None
    spec = planned[1].spec
    changes = {
        "task": {"spec": spec.model_copy(update={"task": spec.task.model_copy(update={"sha256": "0" * 64})})},
        "model": {"spec": spec.model_copy(update={"base": spec.base.model_copy(update={"sha256": "0" * 64})})},
        "method": {"method_sha256": "0" * 64},
    }.get(differing, {})
    planned[1] = planned[1].model_copy(update=changes)
    folder = str(tmp_path / "none") if differing == "folder" else str(tmp_path)
    package_sha256 = "0" * 64 if differing == "package" else node.source_sha256()
    obstacle = node.find_obstacle(planned, folder, package_sha256)
    assert obstacle is not None and obstacle.hint and obstacle.location
    assert {"package": "adaptbench", "folder": "folder"}.get(differing, f"the {differing} '") in obstacle.message


@pytest.mark.parametrize("changed", ["errors.py", "execution/worker.py", "execution/ray/node.py", "methods/lora.py"])
def test_source_sha256_changed_file_in_any_folder_changes_digest(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "bench"
    for name in ("__init__.py", "errors.py", "execution/worker.py", "execution/ray/node.py", "methods/lora.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("before = True", "utf-8")
    monkeypatch.setattr(bench, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(bench, "__path__", [str(package)])
    before = node.source_sha256()
    (package / changed).write_text("before = False", "utf-8")
    after = node.source_sha256()
    assert before != after
    (package / "tasks" / "mine").mkdir(parents=True)
    (package / "tasks" / "mine" / "score.py").write_text("", "utf-8")
    assert node.source_sha256() == after, "tasks are compared by digests of their own"


def test_run_job_changed_method_is_an_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = plan_jobs(arguments)[1].model_copy(update={"method_sha256": "0" * 64})
    with pytest.raises(UserError, match="mine"):
        node.run_job(job, str(tmp_path), lambda state: None)


def ray_node(cpus: int, gpus: int = 0, memory: int = 2**34, alive: bool = True) -> dict[str, Any]:
    """A node as `ray.nodes()` describes it."""
    return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus), "memory": float(memory)}}


@pytest.mark.parametrize(
    ("option", "nodes", "device", "suitable", "share"),
    [
        ("ray", [ray_node(8)], "auto", 1, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [ray_node(8), ray_node(12)], "auto", 2, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [ray_node(8), ray_node(64, alive=False), ray_node(0)], "auto", 1, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [ray_node(8, 4), ray_node(64)], "auto", 1, {"num_cpus": 8, "num_gpus": 1}),
        ("ray", [ray_node(8, 4), ray_node(8)], "cpu", 2, {"num_cpus": 8, "num_gpus": 0}),
        ("ray?cpus=4&gpus=2", [ray_node(8, 4), ray_node(64, 1)], "auto", 1, {"num_cpus": 4, "num_gpus": 2}),
        (
            "ray?cpus=2&memory=1GiB",
            [ray_node(8), ray_node(2)],
            "auto",
            2,
            {"num_cpus": 2, "num_gpus": 0, "memory": 2**30},
        ),
    ],
)
def test_resources_per_run_default_is_all_cores_of_a_node(
    option: str, nodes: list[dict[str, Any]], device: str, suitable: int, share: dict[str, int]
) -> None:
    suitable_nodes, run_resources = resources.resources_per_run(resources.parse_resources(option), nodes, device)
    assert (len(suitable_nodes), run_resources) == (suitable, share)


@pytest.mark.parametrize(
    ("option", "nodes", "device"),
    [
        ("ray", [ray_node(8), ray_node(16)], "auto"),
        ("ray", [], "auto"),
        ("ray", [ray_node(8)], "cuda"),
        ("ray?cpus=9", [ray_node(8)], "auto"),
        ("ray?memory=1TiB", [ray_node(8)], "auto"),
        ("ray?memory=32GiB", [ray_node(8)], "auto"),
    ],
)
def test_resources_per_run_unavailable_resources_are_an_error(
    option: str, nodes: list[dict[str, Any]], device: str
) -> None:
    with pytest.raises(UserError):
        resources.resources_per_run(resources.parse_resources(option), nodes, device)


@pytest.mark.parametrize(
    "name",
    ["slurm", "rays", "ray://", "ray://head", "ray://head:x", "http://head:1", "ray?cores=2", "ray?cpus=many",
     "ray?cpus=0", "ray?gpus=-1", "ray?memory=much", "ray?ship=nowhere"],
)  # fmt: skip
def test_resolve_executor_invalid_name_is_an_error_before_connecting(name: str) -> None:
    with pytest.raises(UserError) as raised:
        executor.resolve_executor(name)
    assert raised.value.hint or raised.value.location


def test_failure_of_ray_error_names_its_cause() -> None:
    error = ray_executor._failure(ray.exceptions.WorkerCrashedError())
    assert error.kind == "WorkerCrashedError" and error.message and error.trace
    task_error = ray.exceptions.RayTaskError("run", "a trace", UserError("the method 'mine' is not the same"))
    failure = ray_executor._failure(task_error)
    assert failure.kind == "UserError" and "not the same" in failure.message


def archive_of(**members: tarfile.TarInfo | bytes) -> bytes:
    """Return a tar archive of files with the given contents, or of ready members; `__` in a name stands for `/`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, member in members.items():
            content = member if isinstance(member, bytes) else b""
            info = tarfile.TarInfo() if isinstance(member, bytes) else member
            info.name, info.size = name.replace("__", "/").replace("up", ".."), len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def sent(make_record: MakeRecord) -> tuple[Job, Record]:
    """A job that keeps its artifact, and its record."""
    record = make_record()
    return Job(spec=record.spec, command=(), method_sha256="0" * 64, save_artifacts=True), record


def test_unpack_result_writes_record_and_regular_files_of_the_artifact(
    sent: tuple[Job, Record], tmp_path: Path
) -> None:
    job, record = sent
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    archive = archive_of(deep__bias=b"0.5", link=link)
    assert ray_executor._unpack_result(job, record.to_json().encode(), archive, tmp_path) == record
    assert {str(path.relative_to(tmp_path / record.id)) for path in (tmp_path / record.id).rglob("*")} == {
        "deep",
        "deep/bias",
    }
    assert Record.read(tmp_path / f"{record.id}.json") == record


@pytest.mark.parametrize("sent_instead", ["pickle", "other id", "no JSON", "outside", "no archive", "type"])
def test_unpack_result_not_that_of_the_job_is_a_failure(
    sent: tuple[Job, Record], make_record: MakeRecord, tmp_path: Path, sent_instead: str
) -> None:
    job, record = sent
    new = tmp_path / "scratch" / "new"
    new.mkdir(parents=True)
    content, archive = record.to_json().encode(), archive_of(bias=b"0.5")
    result: tuple[object, object] = {
        "pickle": (pickle.dumps(content), archive),
        "other id": (make_record(seed=5).to_json().encode(), archive),
        "no JSON": (b"{", archive),
        "outside": (content, archive_of(up__up__bias=b"0.5")),
        "no archive": (content, b""),
        "type": (record, archive),
    }[sent_instead]
    failed = ray_executor._unpack_result(job, *result, new)
    assert failed.status == "error" and failed.id == job.spec.id
    assert failed.error is not None and "invalid result" in failed.error.message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_ray_on_one_machine_listens_on_the_loopback_interface_only(environment: dict[str, str]) -> None:
    code = """if True:
        from types import SimpleNamespace
        import psutil
        from bench.execution.ray import executor, resources
        def list_addresses(*_):
            me = psutil.Process()
            sockets = [socket for process in [me, *me.children(recursive=True)] for socket in process.net_connections()]
            print({socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == "LISTEN"})
            raise SystemExit
        resources.resources_per_run = list_addresses  # the first step after the connection
        job = SimpleNamespace(accelerate=None, device="cpu")
        with executor.RayExecutor(resources.parse_resources("ray")).open([job]):
            pass
    """
    variables = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    process = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=300)
    assert process.stdout.strip() == "{'127.0.0.1'}", process.stderr


def test_resolve_executor_without_ray_hint_is_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        executor.resolve_executor("ray")
    assert raised.value.hint == "pip install 'adaptbench[ray]'"


def test_ray_address_without_server_is_an_error_at_once(run_bench: Bench, arguments: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started_at = time.monotonic()
    process = run_bench(*arguments, "--executor", f"ray://127.0.0.1:{port}")
    assert process.returncode == 2 and f"no server answers at 127.0.0.1:{port}" in process.stderr
    process = run_bench(*arguments, "--executor", "ray://auto", RAY_ADDRESS=f"127.0.0.1:{port}")
    assert process.returncode == 2 and f"no server answers at 127.0.0.1:{port}" in process.stderr
    assert time.monotonic() - started_at < 120  # Ray itself would try for minutes


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_check_numbered_device_on_a_cluster_is_an_error(device: str) -> None:
    with pytest.raises(UserError, match=device):
        executor.resolve_executor("ray").check(device)


def test_open_several_processes_is_an_error_before_connecting() -> None:
    jobs = plan.plan_jobs("lora", "capitals", "bookworm", seeds=1, budget_text="ci", settings=[])
    two_rank_jobs = [job.model_copy(update={"accelerate": "two.yaml", "processes": 2}) for job in jobs]
    with (
        pytest.raises(UserError, match="one process on a cluster"),
        executor.resolve_executor("ray://127.0.0.1:1").open(two_rank_jobs),
    ):
        pytest.fail("opened")
