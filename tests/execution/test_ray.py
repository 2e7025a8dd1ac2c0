"""Runs on the nodes of a Ray cluster: the records of one machine, each there once, whatever becomes of a node."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Bench, MakeTask

from bench.errors import UserError
from bench.execution import executor, plan
from bench.execution.ray import executor as ray_executor
from bench.execution.ray import node, resources
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import read_all

ray = pytest.importorskip("ray")

METHOD = '''
"""Answers by chance, from its seed; waits while a gate is there, and tells who works."""
import os, random, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from bench.method import Method, param

HERE = Path({here!r})

@dataclass
class Mine(Method):
    control: ClassVar[bool] = True  # brings no others along
    bias: float = param(0.5, help="how often the first feeling is named", search=(0.0, 1.0))

    def load(self, base):
        return None

    def fit(self, lm, lesson, budget):
        with (HERE / "fits").open("a") as file:
            file.write(f"{{os.getpid()}} {{lesson.seed}}\\n")
        while (HERE / "gate").exists():
            time.sleep(0.05)
        self.chance_ = random.Random(lesson.seed)
        budget.draw(examples=len(lesson.train))
        return self

    def predict(self, inputs):
        return ["warm" if self.chance_.random() < self.bias else str(self.chance_.random()) for _ in inputs]

    def save(self, folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "bias").write_text(str(self.bias))
'''
GRACE_S = 60


class Nodes:
    """A cluster of two nodes on this machine; the one without Ray's head may be killed."""

    def __init__(self, **more: Any) -> None:
        from ray.cluster_utils import Cluster

        self.how = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
        head = self.how | {"_system_config": quick} | more
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.other: Any = None

    def be_two(self) -> None:
        if self.other is None:
            self.other = self.cluster.add_node(**self.how)

    def kill_other(self) -> None:
        """As when a machine is lost: whatever ran on it is gone."""
        for process in self.raylet().children(recursive=True):
            process.kill()
        self.cluster.remove_node(self.other, allow_graceful=False)
        self.other = None

    def of_other(self, pid: int) -> bool:
        """Whether a process belongs to the node that may be killed."""
        return self.raylet() in psutil.Process(pid).parents()

    def raylet(self) -> psutil.Process:
        (raylet,) = self.other.all_processes["raylet"]
        return psutil.Process(raylet.process.pid)


@pytest.fixture(scope="module")
def begun(environment: dict[str, str]) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment["PYTHONPATH"])
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Nodes()
        yield nodes
        nodes.cluster.shutdown()


@pytest.fixture
def nodes(begun: Nodes, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Nodes:
    begun.be_two()
    monkeypatch.setitem(environment, "RAY_ADDRESS", begun.cluster.address)
    return begun


@pytest.fixture
def asked(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> list[str]:
    """The arguments that all commands here share."""
    make_task(tmp_path / "feelings")
    (tmp_path / "mine.py").write_text(METHOD.format(here=str(tmp_path)), "utf-8")
    methods = ["--methods", "./mine.py,majority", "--seeds", "3"]
    return ["run", "--task", "./feelings", "--model", str(tiny.folder), "--budget", "steps=3,batch=4", *methods]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command `bench`, begun and not waited for."""
    begun: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        called = [sys.executable, "-m", "bench", *arguments]
        begun.append(subprocess.Popen(called, cwd=tmp_path, env=environment, start_new_session=True, **pipes))
        return begun[-1]

    yield command
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.communicate()


def fits(folder: Path) -> list[tuple[int, int]]:
    """Every fit that began, as process and seed."""
    file = folder / "fits"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [(int(pid), int(seed)) for pid, seed in map(str.split, lines)]


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + GRACE_S
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def told(folder: Path) -> dict[str, Any]:
    """Everything in records that does not depend on where and when they were made."""
    return {
        record.id: (record.status, record.spec, record.scores, record.samples, record.tuning)
        for record in read_all(folder)
    }


def test_a_node_killed_in_mid_run_loses_nothing_and_the_answers_are_those_of_one_machine(
    nodes: Nodes, start: Any, run_bench: Bench, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    command = start(*asked, "--executor", "ray://auto")
    until(lambda: len(fits(tmp_path)) == 2)
    lost = [(pid, seed) for pid, seed in fits(tmp_path) if nodes.of_other(pid)]
    assert len(lost) == 1, "each node makes one run at a time"
    nodes.kill_other()
    (tmp_path / "gate").unlink()
    _, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert sorted(seed for _, seed in fits(tmp_path)) == sorted([0, 1, 2, lost[0][1]]), "it was tried again"
    assert run_bench(*asked, "--out", "alone").returncode == 0
    assert told(tmp_path / "results") == told(tmp_path / "alone")
    assert len(told(tmp_path / "alone")) == 6
    answers = {tuple(sample.raw for sample in record.samples) for record in read_all(tmp_path / "alone")}
    assert len(answers) == 4, "seeds must differ, or this cannot fail"
    assert "nodes: 2, runs at once: 2, each with 1 CPU" in err
    left = {file.name for file in (tmp_path / "results").iterdir()}
    assert left == {f"{id}.json" for id in told(tmp_path / "alone")} | {".lock"}
    assert err.count(": ok") == 6


def test_an_interrupted_command_ends_its_runs_and_goes_on_where_it_stopped(
    nodes: Nodes, start: Any, run_bench: Bench, asked: list[str], tmp_path: Path
) -> None:
    assert run_bench(*asked[:-1], "1").returncode == 0
    before = {id: (tmp_path / "results" / f"{id}.json").read_bytes() for id in told(tmp_path / "results")}
    (tmp_path / "gate").touch()
    command = start(*asked, "--executor", "ray://auto")
    until(lambda: len(fits(tmp_path)) >= 2)
    command.send_signal(signal.SIGTERM)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130, err
    assert "Traceback" not in err and "the same command runs only the rest" in err
    assert "mine seed 0 (1/6): ok (kept from before)" in err
    until(lambda: not any(psutil.pid_exists(pid) for pid, _ in fits(tmp_path)))
    assert not list((tmp_path / "results").glob(".*.part"))
    (tmp_path / "gate").unlink()
    done = run_bench(*asked)
    assert done.returncode == 0, done.stderr
    assert [seed for _, seed in fits(tmp_path)].count(0) == 1
    assert len(told(tmp_path / "results")) == 6
    assert all((tmp_path / "results" / f"{id}.json").read_bytes() == text for id, text in before.items())


def test_trials_and_kept_files_are_those_of_one_machine_also_where_the_folder_is_shipped(
    nodes: Nodes, run_bench: Bench, asked: list[str], tmp_path: Path
) -> None:
    asked = [*asked[:-1], "2", "--trials", "3", "--save-artifacts"]
    for out, on in (("there", "ray://auto?ship=."), ("alone", "here")):
        done = run_bench(*asked, "--out", out, "--executor", on)
        assert done.returncode == 0, done.stderr
    assert told(tmp_path / "there") == told(tmp_path / "alone")
    tuned = [one for one in read_all(tmp_path / "there") if one.tuning and one.tuning.trials]
    assert {len(one.tuning.trials) for one in tuned if one.tuning} == {3}
    kept = {
        out: {str(file.relative_to(tmp_path / out)): file.read_bytes() for file in (tmp_path / out).rglob("deep/bias")}
        for out in ("there", "alone")
    }
    assert kept["there"] == kept["alone"] and len(kept["alone"]) == 2


def test_a_node_without_what_the_runs_take_is_named_before_the_first_of_them(
    nodes: Nodes, run_bench: Bench, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = run_bench(*asked, "--executor", "ray://auto?ship=elsewhere")
    assert done.returncode == 2, done.stderr
    assert "cannot make these runs: no method file 'mine.py'" in done.stderr
    assert not list((tmp_path / "results").glob("*.json")) and fits(tmp_path) == []


@pytest.mark.slow
def test_what_is_trained_answers_the_same_where_a_client_asks_and_a_lost_head_ends_the_command(
    start: Any, run_bench: Bench, asked: list[str], lively: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = Nodes(ray_client_server_port=port)
    try:
        nodes.be_two()
        asked[4] = str(lively.folder)
        trained = [*asked[:-3], "lora,few-shot", "--seeds", "1"]
        for out, on in (("there", f"ray://127.0.0.1:{port}"), ("alone", "here")):
            done = run_bench(*trained, "--out", out, "--executor", on)
            assert done.returncode == 0, done.stderr
        assert told(tmp_path / "there") == told(tmp_path / "alone")
        (tmp_path / "gate").touch()
        command = start(*asked, "--executor", f"ray://127.0.0.1:{port}")
        until(lambda: len(fits(tmp_path)) == 2)
    finally:
        nodes.cluster.shutdown()
    _, err = command.communicate(timeout=120)
    assert command.returncode == 2 and "the same command runs only the rest" in err and "Traceback" not in err


def jobs(asked: list[str]) -> list[Any]:
    return plan.plan_jobs("majority,./mine.py", asked[2], asked[4], seeds=1, budget_text="steps=3", settings=[])


@pytest.mark.parametrize("what", ["task", "model", "method", "harness", "folder"])
def test_a_node_that_has_something_else_says_what(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = jobs(asked)
    assert node.find_obstacle(planned, str(tmp_path), node.source_sha256()) is None
    spec = planned[1].spec
    other = {
        "task": {"spec": spec.model_copy(update={"task": spec.task.model_copy(update={"sha256": "0" * 64})})},
        "model": {"spec": spec.model_copy(update={"base": spec.base.model_copy(update={"sha256": "0" * 64})})},
        "method": {"method_sha256": "0" * 64},
    }.get(what, {})
    planned[1] = planned[1].model_copy(update=other)
    folder = str(tmp_path / "none") if what == "folder" else str(tmp_path)
    refusal = node.find_obstacle(planned, folder, "0" * 64 if what == "harness" else node.source_sha256())
    assert refusal is not None and refusal.mend and refusal.where
    assert {"harness": "adaptbench", "folder": "folder"}.get(what, f"the {what} '") in refusal.what


def test_a_run_of_a_method_that_changed_meanwhile_is_refused_on_its_node(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = jobs(asked)[1].model_copy(update={"method_sha256": "0" * 64})
    with pytest.raises(UserError, match="mine"):
        node.run_job(job, str(tmp_path), lambda state: None)


def one(cpus: int, gpus: int = 0, memory: int = 2**34, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus), "memory": float(memory)}}


@pytest.mark.parametrize(
    ("on", "nodes", "device", "able", "share"),
    [
        ("ray", [one(8)], "auto", 1, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [one(8), one(12)], "auto", 2, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [one(8), one(64, alive=False), one(0)], "auto", 1, {"num_cpus": 8, "num_gpus": 0}),
        ("ray", [one(8, 4), one(64)], "auto", 1, {"num_cpus": 8, "num_gpus": 1}),
        ("ray", [one(8, 4), one(8)], "cpu", 2, {"num_cpus": 8, "num_gpus": 0}),
        ("ray?cpus=4&gpus=2", [one(8, 4), one(64, 1)], "auto", 1, {"num_cpus": 4, "num_gpus": 2}),
        ("ray?cpus=2&memory=1GiB", [one(8), one(2)], "auto", 2, {"num_cpus": 2, "num_gpus": 0, "memory": 2**30}),
    ],
)
def test_a_run_is_given_a_whole_node_if_nothing_else_is_said(
    on: str, nodes: list[dict[str, Any]], device: str, able: int, share: dict[str, int]
) -> None:
    found, given = resources.resources_per_run(resources.parse_resources(on), nodes, device)
    assert (len(found), given) == (able, share)


@pytest.mark.parametrize(
    ("on", "nodes", "device"),
    [
        ("ray", [one(8), one(16)], "auto"),
        ("ray", [], "auto"),
        ("ray", [one(8)], "cuda"),
        ("ray?cpus=9", [one(8)], "auto"),
        ("ray?memory=1TiB", [one(8)], "auto"),
        ("ray?memory=32GiB", [one(8)], "auto"),
    ],
)
def test_what_no_node_can_give_is_refused_and_not_waited_for(on: str, nodes: list[dict[str, Any]], device: str) -> None:
    with pytest.raises(UserError):
        resources.resources_per_run(resources.parse_resources(on), nodes, device)


@pytest.mark.parametrize(
    "on",
    ["slurm", "rays", "ray://", "ray://head", "ray://head:x", "http://head:1", "ray?cores=2", "ray?cpus=many",
     "ray?cpus=0", "ray?gpus=-1", "ray?memory=much", "ray?ship=nowhere"],
)  # fmt: skip
def test_what_is_no_place_is_refused_before_anything_is_connected_to(on: str) -> None:
    with pytest.raises(UserError) as refusal:
        executor.resolve_executor(on)
    assert refusal.value.mend or refusal.value.where


def test_a_run_that_ray_gave_up_says_why() -> None:
    error = ray_executor._failure(ray.exceptions.WorkerCrashedError())
    assert error.kind == "WorkerCrashedError" and error.message and error.trace
    refused = ray.exceptions.RayTaskError("run", "a trace", UserError("the method 'mine' is another one"))
    assert (
        ray_executor._failure(refused).kind == "UserError" and "another one" in ray_executor._failure(refused).message
    )


def test_without_ray_the_refusal_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as refusal:
        executor.resolve_executor("ray")
    assert refusal.value.mend == "pip install 'adaptbench[ray]'"


def test_an_address_where_nobody_answers_is_refused_at_once(run_bench: Bench, asked: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    done = run_bench(*asked, "--executor", f"ray://127.0.0.1:{port}")
    assert done.returncode == 2 and f"nobody answers at 127.0.0.1:{port}" in done.stderr
    done = run_bench(*asked, "--executor", "ray://auto", RAY_ADDRESS=f"127.0.0.1:{port}")
    assert done.returncode == 2 and f"nobody answers at 127.0.0.1:{port}" in done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_by_number_is_refused_on_a_cluster(device: str) -> None:
    with pytest.raises(UserError, match=device):
        executor.resolve_executor("ray").check(device)


def test_a_run_of_several_processes_is_refused_on_a_cluster_before_it_is_connected_to() -> None:
    jobs = plan.plan_jobs("lora", "capitals", "bookworm", seeds=1, budget_text="ci", settings=[])
    together = [job.model_copy(update={"accelerate": "two.yaml", "processes": 2}) for job in jobs]
    with (
        pytest.raises(UserError, match="one process on a cluster"),
        executor.resolve_executor("ray://127.0.0.1:1").open(together),
    ):
        pytest.fail("opened")
