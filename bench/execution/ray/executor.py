"""Ray executor: each run is a task of a Ray cluster.

Ray decides on which node a run is made and retries it if the node is lost. Records are written on this machine.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from bench import scratch
from bench.errors import UserError
from bench.execution import launcher, result_folder
from bench.execution.job import Job
from bench.execution.ray import node, resources
from bench.execution.ray.resources import RayResources
from bench.i18n import Message
from bench.method import ProgressCallback, ProgressState
from bench.records import Failure, Record

MAX_RETRIES = 3
"""Retries of a run whose node or Ray worker was lost."""
POLL_S = 0.5
CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 300.0
CANCEL_TIMEOUT_S = 10.0
MAX_WAITING_THREADS = 512
"""Threads that wait for runs; further runs are handed to Ray as these end."""
OBJECT_STORE_BYTES = 256 * 2**20
"""Size of Ray's object store, which takes only records and artifacts."""
RAY_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables that keep Ray from sending usage statistics; a setting of the user takes precedence."""
ONE_MACHINE_VARIABLES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment variables with which a Ray instance of one machine listens on the loopback interface only.

Ray does so by default on Windows and macOS, and this variable selects that on Linux too. Ray reads it when imported.
"""
MAX_ERROR_CHARS = 300

Item = TypeVar("Item")
Result = TypeVar("Result")


class RunEnded(Exception):
    """The command is ending, and this run with it."""


class ProgressBoard:
    """Ray actor that receives the progress of all runs."""

    def __init__(self) -> None:
        self.states: dict[str, ProgressState] = {}

    def update(self, run_id: str, state: ProgressState) -> None:
        """Keep the progress of a run."""
        self.states[run_id] = state

    def read(self) -> dict[str, ProgressState]:
        """Return the newest progress of each run."""
        return self.states


class RayExecutor:
    """Runs jobs on the nodes of a Ray cluster (see `bench.execution.executor.Executor`)."""

    def __init__(self, requested: RayResources) -> None:
        self.requested = requested
        self.folder = None if requested.ship else os.getcwd()
        self.locks: dict[Path, FileLock] = {}
        """Locks of the record folders, held until the end of the command."""
        self.running: dict[str, tuple[Any, ProgressCallback]] = {}
        """References to the results and progress callback of each run in progress, by run id."""
        self.mutex = threading.Lock()
        self.ended = threading.Event()
        self.node_names: dict[str, str] = {}

    def check(self, device: str) -> None:
        """Raise `UserError` for a device with an index (`cuda:1`): Ray assigns GPUs to runs."""
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(
                Message("--device {device}: not supported on a cluster, which assigns GPUs to runs", device=device),
                hint="--device cuda",
            )

    @contextmanager
    def open(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Connect, check every node that may get a run, and release everything at the end."""
        if any(job.accelerate for job in jobs):
            raise UserError(
                Message("--executor {option}: a run has one process on a cluster", option=self.requested.option),
                hint=Message("leave out --accelerate, or --executor"),
            )
        _connect(self.requested)
        import ray  # `_connect` sets variables that Ray reads when it is imported.

        try:
            nodes, run_resources = resources.resources_per_run(self.requested, ray.nodes(), jobs[0].device)
            self.node_names = {each["NodeID"]: f"{each['NodeManagerAddress']} {each['NodeID'][:4]}" for each in nodes}
            _check_nodes(self.node_names, jobs, self.folder)
            self.task = ray.remote(_run_task).options(num_returns=2, max_retries=MAX_RETRIES, **run_resources)
            self.board: Any = ray.remote(ProgressBoard).options(num_cpus=0, max_restarts=-1).remote()
            yield resources.describe_resources(nodes, run_resources)
        finally:
            self._cancel_runs()
            ray.shutdown()
            for lock in self.locks.values():
                lock.release()

    def launch(self, job: Job, out: Path, *, force: bool = False, on_progress: ProgressCallback) -> tuple[Record, bool]:
        """Return the record of a job, and True if this call ran the job.

        The first call locks `out`: other commands cannot write to that folder until this command ends.
        """
        self._lock_folder(out, on_progress)
        record = None if force else launcher.find_finished_record(job, out)
        if record is not None:
            return record, False
        result_folder.check_record_path(out, job.spec.id)
        result = self._run(job, on_progress)
        with result_folder.storage_errors(out), result_folder.new_results(out) as new:
            record = result if isinstance(result, Record) else _unpack_result(job, *result, new)
            result_folder.store_record(record, new, out)
        return record, True

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of `work` for each item, all of which start at once.

        Each waits in a thread of its own; Ray decides which of them run.
        """
        with ThreadPoolExecutor(MAX_WAITING_THREADS) as pool:
            pending = {pool.submit(work, item) for item in items}
            try:
                while pending:
                    finished, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
                    self._report_progress()
            except BaseException:
                self._cancel_runs()
                raise

    def _lock_folder(self, out: Path, on_progress: ProgressCallback) -> None:
        with self.mutex:
            if out in self.locks:
                return
            lock = result_folder.folder_lock(out, on_progress)
            while True:
                try:
                    lock.acquire(timeout=POLL_S)
                    break
                except TimeoutError:
                    if self.ended.is_set():
                        raise RunEnded from None
            self.locks[out] = lock
            result_folder.recover_results(out)

    def _run(self, job: Job, on_progress: ProgressCallback) -> tuple[bytes, bytes] | Record:
        """Run a job as a Ray task.

        Returns the record as JSON and the archive of the artifact, or the record of Ray's error.
        """
        import ray

        with self.mutex:
            if self.ended.is_set():
                raise RunEnded
            task = self.task.remote(job, self.folder, self.board)
            self.running[job.spec.id] = task, on_progress
        try:
            record_json, archive = ray.get(task)
            return record_json, archive
        except (ray.exceptions.RayError, ConnectionError) as error:
            if self.ended.is_set():
                raise RunEnded from None
            if isinstance(error, ConnectionError) or not ray.is_initialized():
                raise _cluster_lost() from None
            return launcher.failed_record(job, "error", _failure(error))
        finally:
            del self.running[job.spec.id]

    def _report_progress(self) -> None:
        """Report the progress of all runs, as far as it is known."""
        import ray

        if not ray.is_initialized():  # any request would start a new cluster
            raise _cluster_lost()
        try:
            states: dict[str, ProgressState] = ray.get(self.board.read.remote(), timeout=POLL_S)
        except (ray.exceptions.RayError, ConnectionError):
            return
        for run_id, (_, on_progress) in list(self.running.items()):
            if run_id in states:
                state = states[run_id]
                on_progress({**state, "node": self.node_names.get(state["node"], state["node"])})

    def _cancel_runs(self) -> None:
        """End all runs in progress: first by an interrupt, then by force."""
        import ray

        with self.mutex:
            self.ended.set()
            tasks = [references[0] for references, _ in self.running.values()] if ray.is_initialized() else []
        for force in (False, True):
            for task in tasks:
                ray.cancel(task, force=force)
            if tasks:
                _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=CANCEL_TIMEOUT_S)


def parse_executor(option: str) -> RayExecutor:
    """Return the executor for a value of `--executor`, without connecting to the cluster.

    Raises:
        UserError: The address is invalid or Ray is not installed.
    """
    requested = resources.parse_resources(option)
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            Message("--executor {option}: Ray is not installed", option=option), hint="pip install 'adaptbench[ray]'"
        )
    return RayExecutor(requested)


def _connect(requested: RayResources) -> None:
    """Connect to the cluster without its log output.

    Raises `UserError` if no cluster answers.
    """
    is_one_machine = requested.address == "ray"
    for variable, value in (RAY_VARIABLES | (ONE_MACHINE_VARIABLES if is_one_machine else {})).items():
        os.environ.setdefault(variable, value)
    init_kwargs: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if is_one_machine:
        address = "local"
        init_kwargs |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    else:
        uses_default = requested.address == "ray://auto"
        address = os.environ.get("RAY_ADDRESS", "auto") if uses_default else requested.address
        _check_address(requested, address)
    import ray

    if requested.ship:
        init_kwargs |= {"runtime_env": {"working_dir": requested.ship}}
    handler = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler of the command
    try:
        ray.init(address, **init_kwargs)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise UserError(
            Message(
                "--executor {option}: no cluster was found: {problem}", option=requested.option, problem=_shorten(error)
            ),
            hint=Message(
                "ray start --head starts one; ray://auto is for its own machines, ray://HOST:10001 for others"
            ),
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_address(requested: RayResources, address: str) -> None:
    """Raise `UserError` if no server listens at the address, which Ray would try for minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is None:
        return
    try:
        socket.create_connection((str(parts.hostname), parts.port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            Message(
                "--executor {option}: no server answers at {hostname}:{port} ({problem})",
                option=requested.option,
                hostname=parts.hostname,
                port=parts.port,
                problem=error,
            ),
            hint=Message(
                "check that the cluster is up (ray start --head --ray-client-server-port 10001) and its port open"
            ),
        ) from None


def _check_nodes(node_names: dict[str, str], jobs: Sequence[Job], folder: str | None) -> None:
    """Raise `UserError` if a node cannot run the jobs, before the first of them starts.

    Args:
        node_names: Names for messages, by node id.
        jobs: Jobs of the command.
        folder: Working folder of the command; None if Ray copies it to the nodes.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(node.find_obstacle)
    answers = {}
    for node_id, name in node_names.items():
        on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
        node_task = task.options(num_cpus=0, scheduling_strategy=on_node, max_retries=0)
        answers[name] = node_task.remote(jobs, folder, node.source_sha256())
    for name, answer in answers.items():
        try:
            obstacle = ray.get(answer, timeout=CHECK_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            obstacle = UserError(_first_line(error), hint=Message("check that adaptbench is installed on every node"))
        if obstacle is not None:
            location = (
                Message("{name}: {location}", name=name, location=obstacle.location) if obstacle.location else name
            )
            raise UserError(
                Message("node {name} cannot run these jobs: {problem}", name=name, problem=obstacle.message),
                location=location,
                hint=obstacle.hint,
            )


def _unpack_result(job: Job, record_json: object, archive: object, new: Path) -> Record:
    """Write the result that a node has sent into the folder `new`; return its record.

    What a node sends is checked like any other file of unknown origin; a result that is not that of the job becomes
    the record of a failure.
    """
    try:
        if not isinstance(record_json, bytes) or not isinstance(archive, bytes):
            raise ValueError("the record and the artifact are no bytes")
        record = Record.from_json(record_json)
        if record.id != job.spec.id:
            raise ValueError(f"it belongs to the run '{record.id}'")
        record.write(new)
        if record.status == "ok" and (job.save_artifacts or (job.save_artifacts is None and archive)):
            node.unpack(archive, new / record.id)
    except (ValueError, tarfile.TarError) as error:
        for file in new.iterdir():
            scratch.remove_path(file)
        message = f"the node returned an invalid result for the run '{job.spec.id}': {_first_line(error)}"
        return launcher.failed_record(job, "error", Failure(kind="InvalidResult", message=message, trace=str(error)))
    return record


def _run_task(job: Job, folder: str | None, board: Any) -> tuple[bytes, bytes]:
    """Run a job as a Ray task and report its progress to the board."""
    import ray

    # Ray ends a task by an interrupt, which a process started in the background of a shell ignores by default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    node_id = ray.get_runtime_context().get_node_id()

    def report(state: ProgressState) -> None:
        board.update.remote(job.spec.id, {**state, "node": node_id})

    return node.run_job(job, folder, report)


def _failure(error: Exception) -> Failure:
    """Describe why Ray returned no record of a run, after its retries if the error allows any."""
    cause = getattr(error, "cause", None) or error
    return Failure(kind=type(cause).__name__, message=_first_line(cause), trace=str(error))


def _cluster_lost() -> UserError:
    return UserError(
        Message("the connection to the cluster was lost"),
        hint=Message("finished records are kept; repeat the command to run the remaining ones"),
    )


def _shorten(error: BaseException) -> str:
    """Return the beginning and the end of a message, which may be a long traceback."""
    text = " ".join(str(error).split())
    return text if len(text) < MAX_ERROR_CHARS else f"{text[:120]} … {text[-180:]}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
