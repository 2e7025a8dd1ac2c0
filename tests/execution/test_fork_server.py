"""Runs forked from a process that has imported their modules are the same as cold runs and start sooner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import MakeTask

from bench.execution import fork_client, fork_server, launcher, plan
from bench.execution.fork_client import ForkServer
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record

pytestmark = pytest.mark.skipif(not fork_client.can_fork(), reason="runs cannot be forked here")
ENVIRONMENT = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(autouse=True)
def close_servers() -> Iterator[None]:
    """No test uses a fork server that another test has started."""
    fork_client.close_servers()
    yield
    fork_client.close_servers()


def run_method(method: str, make_task: MakeTask, base: Checkpoint, folder: Path) -> Record:
    """The record of a new run of the method, made in a process of its own."""
    make_task(folder / "feelings")
    jobs = plan.plan_jobs(
        method, str(folder / "feelings"), str(base.folder), seeds=1, budget_text="steps=3", settings=[]
    )
    return launcher.launch_run(next(job for job in jobs if job.spec.method.name == method), folder, force=True)[0]


def missing_job(folder: Path) -> list[Path]:
    """Arguments of a worker whose job file does not exist, so that it ends at once with exit code 1."""
    return [folder / "none", folder, folder / "progress"]


@pytest.mark.parametrize("method", ["lora", "nearest"])
def test_forked_run_gives_the_record_of_a_cold_run(
    monkeypatch: pytest.MonkeyPatch, make_task: MakeTask, lively: Checkpoint, tmp_path: Path, method: str
) -> None:
    forked = run_method(method, make_task, lively, tmp_path)
    monkeypatch.setattr(fork_client, "can_fork", lambda: False)
    cold = run_method(method, make_task, lively, tmp_path)
    assert forked.status == cold.status == "ok"
    assert (forked.samples, forked.curve and forked.curve[-1].train_loss) == (
        cold.samples,
        cold.curve and cold.curve[-1].train_loss,
    )
    assert forked.cost and cold.cost
    assert forked.cost.phases.keys() == cold.cost.phases.keys()
    for name, phase in forked.cost.phases.items():
        assert phase.peak_mib == pytest.approx(cold.cost.phases[name].peak_mib, rel=0.05, abs=8), name


def test_second_forked_run_reports_import_cost_without_importing(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[ForkServer] = []

    class CountedServer(ForkServer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            servers.append(self)

    monkeypatch.setattr(fork_client, "ForkServer", CountedServer)
    first, second = (run_method("nearest", make_task, tiny, tmp_path) for _ in range(2))
    assert len(servers) == 1
    assert first.cost and second.cost
    assert second.cost.phases["import"].cpu_s > first.cost.phases["import"].cpu_s / 2


def test_forked_server_failing_import_leaves_its_parent_alive(tmp_path: Path) -> None:
    parent = ForkServer(["json"], ENVIRONMENT)
    child = ForkServer(["json", "wave"], ENVIRONMENT, parent)
    assert child.has_imported(["json", "wave"]) and child.has_imported(["json.decoder"])
    assert parent.has_imported(["json"]) and not parent.has_imported(["wave"])
    for server in (parent, child, parent):
        run = server.start_run(missing_job(tmp_path), str(tmp_path / "log"))
        assert run is not None and run.wait(120) == 1
    broken = ForkServer(["json", "no_such_module"], ENVIRONMENT, parent)
    assert not broken.has_imported(["json"]) and parent.has_imported(["json"])


def test_start_worker_imports_common_modules_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers: list[tuple[tuple[str, ...], bool]] = []

    class NotedServer(ForkServer):
        def __init__(self, modules: Any, environment: Any, parent: Any = None) -> None:
            super().__init__(modules, environment, parent)
            servers.append((tuple(modules), parent is not None))

    monkeypatch.setattr(fork_client, "ForkServer", NotedServer)
    with (tmp_path / "log").open("w") as log:
        for modules in (("json", "wave"), ("json",), ("json", "wave", "plistlib"), ("json", "json.decoder"), ("wave",)):
            assert fork_client.start_worker(missing_job(tmp_path), log, modules, ENVIRONMENT).wait(120) == 1
    # A server that has imported all modules of a larger request serves it too; one with modules beyond a request does
    # not serve it.
    assert servers == [
        (("json",), False),
        (("json", "wave"), True),
        (("json", "wave", "plistlib"), True),
        (("wave",), False),
    ]


def test_fork_servers_of_a_thread_end_with_the_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processes: list[psutil.Process] = []

    class NotedServer(ForkServer):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            processes.append(psutil.Process(self._process.pid))

    def start_and_wait() -> None:
        with (tmp_path / "log").open("w") as log:
            fork_client.start_worker(missing_job(tmp_path), log, ("json",), ENVIRONMENT).wait(60)

    monkeypatch.setattr(fork_client, "ForkServer", NotedServer)
    for _ in range(2):
        thread = threading.Thread(target=start_and_wait)
        thread.start()
        thread.join()
    assert len(processes) == 2
    ended, alive = psutil.wait_procs(processes, timeout=60)
    assert len(ended) == 2 and not alive


def test_run_that_fails_leaves_the_server_alive(tmp_path: Path) -> None:
    server = ForkServer(["json"], ENVIRONMENT)
    log = tmp_path / "log"
    for _ in range(2):
        run = server.start_run(missing_job(tmp_path), str(log))
        assert run is not None and run.wait(120) == 1
    assert log.read_text("utf-8").count("FileNotFoundError") == 2


def test_run_that_ended_before_wait_still_reports_its_exit_code(tmp_path: Path) -> None:
    server = ForkServer([], ENVIRONMENT)
    server.send(fork_server.RUN, [str(tmp_path / "none"), "", "", str(tmp_path / "log")])
    pid = int(server.receive(120))
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(120)  # its exit code is in the socket, or will be
    assert server.receive(120) == "1"


def test_run_is_killed_on_request_or_when_the_client_disconnects(tmp_path: Path) -> None:
    job = tmp_path / "job"
    os.mkfifo(job)  # reading a pipe without a writer never ends
    server = ForkServer([], ENVIRONMENT)
    run = server.start_run([job, tmp_path, tmp_path], str(tmp_path / "log"))
    assert run is not None
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(0.1)
    run.kill()
    assert run.wait(120) == -signal.SIGKILL
    assert server.start_run([job, tmp_path, tmp_path], str(tmp_path / "log")) is not None
    server_process = psutil.Process(server._process.pid)
    (run_process,) = server_process.children()
    server.close()
    ended, alive = psutil.wait_procs([server_process, run_process], timeout=60)
    assert len(ended) == 2 and not alive


def test_fork_server_killed_launcher_ends_it_during_imports(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    module = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(999)"
    (tmp_path / "endless.py").write_text(module, "utf-8")
    code = "from bench.execution.fork_client import ForkServer; import os; "
    code += "ForkServer(['endless'], dict(os.environ)).has_imported([])"
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{tmp_path}"}
    launcher = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 120
    while not (pid_file.exists() and pid_file.read_text("utf-8")):
        assert time.monotonic() < deadline and launcher.poll() is None
        time.sleep(0.02)
    server = psutil.Process(int(pid_file.read_text("utf-8")))
    launcher.kill()
    launcher.wait()
    server.wait(30)


def test_child_of_a_parent_that_has_ended_exits_at_once(tmp_path: Path) -> None:
    process = fork_client.start_python("json.tool", str(tmp_path / "none"), env=ENVIRONMENT, stderr=subprocess.PIPE)
    assert b"none" in process.communicate()[1], "with its parent alive the module runs"
    command = [sys.executable, "-m", "bench.execution.child", "1234567890", "json.tool", str(tmp_path / "none")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode != 0 and not done.stderr


def test_start_worker_failing_import_starts_cold_and_shows_the_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')", "utf-8")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{tmp_path}"}
    with (tmp_path / "log").open("w") as log:
        files = [tmp_path / "job", tmp_path, tmp_path / "progress"]
        process = fork_client.start_worker(files, log, ("broken",), environment)
        assert isinstance(process, subprocess.Popen)
        assert process.wait(120) == 1


def test_can_fork_with_nvidia_driver_is_false(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device_file = tmp_path / "nvidiactl"
    device_file.touch()
    monkeypatch.setattr(fork_client, "NVIDIA_DEVICE_FILES", (str(device_file),))
    assert not fork_client.can_fork()


def test_can_fork_without_pidfd_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert not fork_client.can_fork()


def test_populate_maps_the_file_pages_that_a_fork_lacks() -> None:
    code = """if True:
        import json, os, sys
        import numpy
        from bench.execution import fork_server
        resident = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")) / 1024
        before, pages = resident(), list(fork_server._file_pages())
        if not os.fork():
            forked = resident()
            fork_server._populate(pages)
            print(json.dumps([before, forked, resident()]))
    """
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    before, forked, populated = json.loads(done.stdout)
    assert forked < before - 4
    assert populated == pytest.approx(before, abs=4)
