"""Runs as tasks of Ray: it finds each a node with room and tries again where one fails; records are written here."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from bench.errors import UserError
from bench.execution import launcher
from bench.execution.job import Job
from bench.execution.plan import find_finished_record
from bench.execution.ray import node, resources
from bench.execution.ray.resources import RayResources
from bench.method import ProgressCallback
from bench.records.record import Failure, Record

RETRIES = 3  # of a run whose node or Ray worker was lost
POLL_S = 0.5
REACH_S = 5.0
LOOK_S = 300.0
END_S = 10.0
AT_ONCE = 512  # threads that wait for runs; what is beyond is handed to Ray as others are done
STORE = 256 * 2**20  # bytes; nothing but records and kept folders goes through it
# What Ray would otherwise tell its makers; who wants that, sets it.
SILENCE = {"RAY_USAGE_STATS_ENABLED": "0"}

T = TypeVar("T")
R = TypeVar("R")


class RunEnded(Exception):
    """The command is over, and this run with it."""


class ProgressBoard:
    """An actor that runs tell how far they are."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}

    def tell(self, run: str, state: dict[str, Any]) -> None:
        """What a run is at."""
        self.states[run] = state

    def read(self) -> dict[str, dict[str, Any]]:
        """The newest of each."""
        return self.states


class RayExecutor:
    """The nodes of a Ray cluster, as an executor."""

    def __init__(self, asked: RayResources) -> None:
        self.asked = asked
        self.folder = None if asked.ship else os.getcwd()
        self.held: dict[Path, FileLock] = {}
        self.work: dict[str, tuple[Any, ProgressCallback]] = {}
        self.mutex, self.ended = threading.Lock(), threading.Event()
        self.names: dict[str, str] = {}

    def check(self, device: str) -> None:
        """Refuse a device by number: Ray says which of a node's GPUs is whose."""
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {device}: not on a cluster, which gives each run its own", hint="--device cuda")

    @contextmanager
    def open(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Connect, ask every node that may get one whether it can make these runs, and give back all in the end."""
        import ray

        if any(job.accelerate for job in jobs):
            raise UserError(
                f"--executor {self.asked.on}: a run has one process on a cluster",
                hint="leave out --accelerate, or --executor",
            )
        _connect(self.asked)
        try:
            nodes, share = resources.resources_per_run(self.asked, ray.nodes(), jobs[0].device)
            self.names = {one["NodeID"]: f"{one['NodeManagerAddress']} {one['NodeID'][:4]}" for one in nodes}
            _inspect(self.names, jobs, self.folder)
            self.task = ray.remote(_run).options(max_retries=RETRIES, **share)
            self.board: Any = ray.remote(ProgressBoard).options(num_cpus=0, max_restarts=-1).remote()
            yield resources.describe_share(nodes, share)
        finally:
            self._end()
            ray.shutdown()
            for lock in self.held.values():
                lock.release()

    def launch(self, job: Job, out: Path, *, force: bool = False, show: ProgressCallback) -> tuple[Record, bool]:
        """The job's record, and whether it had to be run for it; this command alone writes into `out` meanwhile."""
        self._hold(out, show)
        record = None if force else find_finished_record(job, out)
        if record is not None:
            return record, False
        record, kept = self._run(job, show)
        record.write(out)
        if kept is not None:
            node.unpack(kept, out / record.id)
        return record, True

    def map(self, work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """All at once, each in a thread that does nothing but wait; Ray decides which of them run."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = {pool.submit(work, thing) for thing in things}
            try:
                while waiting:
                    finished, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
                    self._look()
            except BaseException:
                self._end()
                raise

    def _hold(self, out: Path, show: ProgressCallback) -> None:
        with self.mutex:
            if out in self.held:
                return
            lock = launcher.folder_lock(out, show)
            while True:
                try:
                    lock.acquire(timeout=POLL_S)
                    break
                except TimeoutError:
                    if self.ended.is_set():
                        raise RunEnded from None
            self.held[out] = lock

    def _run(self, job: Job, show: ProgressCallback) -> tuple[Record, bytes | None]:
        import ray

        with self.mutex:
            if self.ended.is_set():
                raise RunEnded
            task = self.task.remote(job, self.folder, self.board)
            self.work[job.spec.id] = task, show
        try:
            result: tuple[Record, bytes | None] = ray.get(task)
            return result
        except (ray.exceptions.RayError, ConnectionError) as error:
            if self.ended.is_set():
                raise RunEnded from None
            if isinstance(error, ConnectionError) or not ray.is_initialized():
                raise _lost() from None
            return launcher.failed_record(job, "error", _failure(error)), None
        finally:
            del self.work[job.spec.id]

    def _look(self) -> None:
        """Show how far the runs in work are, as far as that is known."""
        import ray

        if not ray.is_initialized():  # and whatever is asked of Ray would begin another
            raise _lost()
        try:
            states = ray.get(self.board.read.remote(), timeout=POLL_S)
        except (ray.exceptions.RayError, ConnectionError):
            return
        for run, (_, show) in list(self.work.items()):
            if run in states:
                show(states[run] | {"node": self.names.get(states[run]["node"], states[run]["node"])})

    def _end(self) -> None:
        """End what is in work: first it is told, then it is made to."""
        import ray

        with self.mutex:
            self.ended.set()
            left = [task for task, _ in self.work.values()] if ray.is_initialized() else []
        for how in ({"force": False}, {"force": True}):
            for task in left:
                ray.cancel(task, **how)
            left = ray.wait(left, num_returns=len(left), timeout=END_S)[1] if left else []


def parse_executor(on: str) -> RayExecutor:
    """The cluster of `--executor`, not connected to; raises `UserError` where that is no address, or Ray is not installed."""
    found = resources.parse_resources(on)
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"--executor {on}: Ray is not installed", hint="pip install 'adaptbench[ray]'")
    return RayExecutor(found)


def _connect(asked: RayResources) -> None:
    """Be a driver of the cluster, quietly; refuse an address at which none answers."""
    for setting, value in SILENCE.items():
        os.environ.setdefault(setting, value)
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if asked.address == "ray":
        address = "local"
        how |= {"include_dashboard": False, "object_store_memory": STORE}
    else:
        address = os.environ.get("RAY_ADDRESS", "auto") if asked.address == "ray://auto" else asked.address
        _reach(asked, address)
    import ray

    if asked.ship:
        how |= {"runtime_env": {"working_dir": asked.ship}}
    handler = signal.getsignal(signal.SIGTERM)  # Ray has another, which the command's would not survive
    try:
        ray.init(address, **how)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise UserError(
            f"--executor {asked.on}: no cluster was found there: {_short(error)}",
            hint="ray start --head begins one; ray://auto is for its own machines, ray://HOST:10001 for others",
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _reach(asked: RayResources, address: str) -> None:
    """Refuse an address where nobody listens, which Ray would try for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is None:
        return
    try:
        socket.create_connection((str(parts.hostname), parts.port), timeout=REACH_S).close()
    except OSError as error:
        raise UserError(
            f"--executor {asked.on}: nobody answers at {parts.hostname}:{parts.port} ({error})",
            hint="is the cluster up (ray start --head --ray-client-server-port 10001), and its port open?",
        ) from None


def _inspect(names: dict[str, str], jobs: Sequence[Job], folder: str | None) -> None:
    """Refuse runs that a node could not make, before the first of them."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    look = ray.remote(node.find_obstacle)
    asked = {
        name: look.options(num_cpus=0, scheduling_strategy=On(id, soft=False), max_retries=0)
        for id, name in names.items()
    }
    answers = {name: one.remote(jobs, folder, node.source_sha256()) for name, one in asked.items()}
    for name, answer in answers.items():
        try:
            refusal = ray.get(answer, timeout=LOOK_S)
        except ray.exceptions.RayError as error:
            refusal = UserError(_first_line(error), hint="is adaptbench installed on every node?")
        if refusal is not None:
            where = f"{name}: {refusal.where}" if refusal.where else name
            raise UserError(f"node {name} cannot make these runs: {refusal.what}", location=where, hint=refusal.mend)


def _run(job: Job, folder: str | None, board: Any) -> tuple[Record, bytes | None]:
    """The task."""
    import ray

    # What a shell has begun in its background ignores interrupts, and by one of them Ray ends a task.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = ray.get_runtime_context().get_node_id()
    return node.run_job(job, folder, lambda state: board.tell.remote(job.spec.id, state | {"node": here}))


def _failure(error: Exception) -> Failure:
    """Why Ray has no record of a run, tried again or not worth it."""
    cause = getattr(error, "cause", None) or error
    return Failure(kind=type(cause).__name__, message=_first_line(cause), trace=str(error))


def _lost() -> UserError:
    return UserError("the cluster was lost", hint="what is finished is kept; the same command runs only the rest")


def _short(error: BaseException) -> str:
    """What may be a traceback of another process: how it begins and how it ends."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:120]} … {text[-180:]}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
