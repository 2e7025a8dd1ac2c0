"""Runs that are forked from a process that has imported what they need: the same runs, sooner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import MakeTask

from bench.execution import fork_server, launcher, plan
from bench.modeling.checkpoint import Checkpoint
from bench.records.record import Record

pytestmark = pytest.mark.skipif(not fork_server.can_fork(), reason="runs cannot be forked here")
ENVIRONMENT = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """No test finds the nursery of another."""
    fork_server._nurseries.cache_clear()
    yield
    fork_server._nurseries.cache_clear()


def one(method: str, make_task: MakeTask, base: Checkpoint, folder: Path) -> Record:
    make_task(folder / "feelings")
    jobs = plan.plan_jobs(
        method, str(folder / "feelings"), str(base.folder), seeds=1, budget_text="steps=3", settings=[]
    )
    return launcher.launch_run(next(job for job in jobs if job.spec.method.name == method), folder, force=True)[0]


@pytest.mark.parametrize("method", ["lora", "nearest"])
def test_a_forked_run_is_the_run_that_a_cold_start_makes(
    monkeypatch: pytest.MonkeyPatch, make_task: MakeTask, lively: Checkpoint, tmp_path: Path, method: str
) -> None:
    forked = one(method, make_task, lively, tmp_path)
    monkeypatch.setattr(fork_server, "forks", lambda: False)
    cold = one(method, make_task, lively, tmp_path)
    assert forked.status == cold.status == "ok"
    assert (forked.samples, forked.curve and forked.curve[-1].train_loss) == (
        cold.samples,
        cold.curve and cold.curve[-1].train_loss,
    )
    assert forked.cost and cold.cost
    assert forked.cost.phases.keys() == cold.cost.phases.keys()
    for name, phase in forked.cost.phases.items():
        assert phase.peak_mib == pytest.approx(cold.cost.phases[name].peak_mib, rel=0.05, abs=8), name


def test_importing_is_told_as_it_was_and_not_done_again(
    make_task: MakeTask, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[fork_server.ForkServer] = []

    class Counted(fork_server.ForkServer):
        def __init__(self, *how: Any) -> None:
            super().__init__(*how)
            made.append(self)

    monkeypatch.setattr(fork_server, "Nursery", Counted)
    first, second = (one("nearest", make_task, tiny, tmp_path) for _ in range(2))
    assert len(made) == 1
    assert first.cost and second.cost
    assert second.cost.phases["import"].cpu_s > first.cost.phases["import"].cpu_s / 2


def test_a_nursery_grows_out_of_another_and_dies_alone(tmp_path: Path) -> None:
    trunk = fork_server.ForkServer(["json"], ENVIRONMENT)
    grown = fork_server.ForkServer(["json", "wave"], ENVIRONMENT, trunk)
    assert grown.has(["json", "wave"]) and grown.has(["json.decoder"])
    assert trunk.has(["json"]) and not trunk.has(["wave"])
    for made in (trunk, grown, trunk):
        child = made.start([tmp_path / "none", tmp_path, tmp_path / "progress"], str(tmp_path / "log"))
        assert child is not None and child.wait(60) == 1
    broken = fork_server.ForkServer(["json", "no_such_module"], ENVIRONMENT, trunk)
    assert not broken.has(["json"]) and trunk.has(["json"])


def test_what_methods_have_in_common_is_imported_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[tuple[tuple[str, ...], bool]] = []

    class Noted(fork_server.ForkServer):
        def __init__(self, needs: Any, environment: Any, trunk: Any = None) -> None:
            super().__init__(needs, environment, trunk)
            made.append((tuple(needs), trunk is not None))

    monkeypatch.setattr(fork_server, "Nursery", Noted)
    with (tmp_path / "log").open("w") as log:
        for needs in (("json", "wave"), ("json",), ("json", "wave", "plistlib"), ("json", "json.decoder"), ("wave",)):
            child = fork_server.start_worker(
                [tmp_path / "none", tmp_path, tmp_path / "progress"], log, needs, ENVIRONMENT
            )
            assert child.wait(60) == 1
    # The one that has all of it serves for more of the same; one that has more than is needed serves nobody.
    assert made == [
        (("json",), False),
        (("json", "wave"), True),
        (("json", "wave", "plistlib"), True),
        (("wave",), False),
    ]


def test_a_run_that_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    made = fork_server.ForkServer(["json"], ENVIRONMENT)
    log = tmp_path / "log"
    for _ in range(2):
        child = made.start([tmp_path / "none", tmp_path, tmp_path / "progress"], str(log))
        assert child is not None and child.wait(60) == 1
    assert log.read_text("utf-8").count("FileNotFoundError") == 2


def test_a_run_that_is_over_before_anyone_looks_is_heard_of(tmp_path: Path) -> None:
    made = fork_server.ForkServer([], ENVIRONMENT)
    made.tell(fork_server.RUN, [str(tmp_path / "none"), "", "", str(tmp_path / "log")])
    time.sleep(3)  # both answers lie there
    assert int(made.hear(1)) > 1
    assert made.hear(1) == "1"


def test_a_run_is_ended_when_told_or_when_nobody_is_left(tmp_path: Path) -> None:
    job = tmp_path / "job"
    os.mkfifo(job)  # reading it takes for ever
    made = fork_server.ForkServer([], ENVIRONMENT)
    child = made.start([job, tmp_path, tmp_path], str(tmp_path / "log"))
    assert child is not None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.kill()
    assert child.wait(10) == -signal.SIGKILL
    assert made.start([job, tmp_path, tmp_path], str(tmp_path / "log")) is not None
    process = psutil.Process(made._process.pid)
    (run,) = process.children()
    made._line.close()
    gone, left = psutil.wait_procs([process, run], timeout=10)
    assert len(gone) == 2 and not left


def test_where_importing_fails_a_cold_start_is_made_to_tell_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')", "utf-8")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{tmp_path}"}
    with (tmp_path / "log").open("w") as log:
        files = [tmp_path / "job", tmp_path, tmp_path / "progress"]
        made = fork_server.start_worker(files, log, ("broken",), environment)
        assert isinstance(made, subprocess.Popen)
        assert made.wait(60) == 1


def test_where_there_is_a_driver_of_nvidia_nothing_is_forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "nvidiactl"
    driver.touch()
    monkeypatch.setattr(fork_server, "DRIVERS", (str(driver),))
    assert not fork_server.can_fork()


def test_where_a_run_could_not_be_waited_for_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert not fork_server.can_fork()


def test_pages_of_files_that_importing_touched_count_in_the_fork() -> None:
    code = """if True:
        import json, os, sys
        import numpy
        from bench import nursery
        held = lambda: next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")) / 1024
        before, pages = held(), list(nursery._file_pages())
        if not os.fork():
            bare = held()
            nursery._touch(pages)
            print(json.dumps([before, bare, held()]))
    """
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    before, bare, touched = json.loads(done.stdout)
    assert bare < before - 4
    assert touched == pytest.approx(before, abs=4)
