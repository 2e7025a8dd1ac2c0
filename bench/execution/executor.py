"""Executors of runs: this machine, one run after the other, or the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from bench.errors import UserError
from bench.execution import launcher
from bench.execution.job import Job
from bench.i18n import Message
from bench.measurement import device
from bench.method import ProgressCallback
from bench.records import Record

LOCAL = "local"
VALID_EXECUTORS = "local, ray, ray://auto, or ray://HOST:PORT"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs jobs somewhere; `run_jobs` drives every executor in the same way."""

    def check(self, device: str) -> None:
        """Check the value of `--device`.

        Raises:
            UserError: Runs cannot have this device.
        """

    def open(self, jobs: Sequence[Job]) -> AbstractContextManager[str | None]:
        """Get ready for the jobs while the context lasts; leaving it ends all runs in progress.

        Returns:
            A context that yields a description of where the runs go; None for this machine.

        Raises:
            UserError: The jobs cannot be run here.
        """

    def launch(self, job: Job, out: Path, *, force: bool = False, on_progress: ProgressCallback) -> tuple[Record, bool]:
        """Return the record of a job, and True if this call ran the job.

        If `out` already holds a finished record of the job, that record is returned with False, unless `force` is
        set. A new record is written to the folder `out` before this function returns.

        See `bench.execution.launcher.launch_run`.
        """

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of `work` for each item, in the order in which they finish.

        `work` calls `launch`.
        """


class LocalExecutor:
    """Runs jobs on this machine, one at a time."""

    check = staticmethod(device.check_device)
    launch = staticmethod(launcher.launch_run)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of `work` for one item after the other."""
        return map(work, items)

    def open(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()


def resolve_executor(name: str) -> Executor:
    """Return the executor that `--executor` names, without connecting to a cluster.

    Raises:
        UserError: The name or address is invalid, or Ray is not installed.
    """
    if name == LOCAL:
        return LocalExecutor()
    if name.partition("?")[0].partition(":")[0] == "ray":
        from bench.execution.ray import executor

        return executor.parse_executor(name)
    raise UserError(
        Message("--executor {name}: executor not found", name=name),
        hint=Message("Valid: {names}", names=VALID_EXECUTORS),
    )
