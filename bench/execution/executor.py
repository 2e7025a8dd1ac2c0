"""Where runs are made: here, one after the other, or on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from bench.errors import UserError
from bench.execution import launcher
from bench.execution.job import Job
from bench.measurement import device
from bench.method import ProgressCallback
from bench.records.record import Record

LOCAL = "local"
VALID = "local, ray, ray://auto, or ray://HOST:PORT"

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Makes runs: the same loop of the command line drives every one of them."""

    def check(self, device: str) -> None:
        """Refuse a device that runs cannot be given."""

    def open(self, jobs: Sequence[Job]) -> AbstractContextManager[str | None]:
        """Be ready for these jobs while the context lasts; what it yields says where they go, if not here.

        Raises `UserError` where they could not be run. Leaving it ends what is still in work.
        """

    def launch(self, job: Job, out: Path, *, force: bool = False, show: ProgressCallback) -> tuple[Record, bool]:
        """As `bench.launch.launch`: the job's record, which lies in `out` by then, and whether it was run for it."""

    def map(self, work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """What `work`, which launches, makes of each thing, as it comes in."""


class LocalExecutor:
    """This machine: one run at a time."""

    check = staticmethod(device.check_device)
    launch = staticmethod(launcher.launch_run)

    def map(self, work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """One after the other."""
        return map(work, things)

    def open(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """Nothing has to be made ready."""
        return nullcontext()


def resolve_executor(name: str) -> Executor:
    """What `--executor` names. Nothing is connected to yet; raises `UserError` where it is none, or not installed."""
    if name == LOCAL:
        return LocalExecutor()
    if name.partition("?")[0].partition(":")[0] == "ray":
        from bench.execution.ray import executor

        return executor.parse_executor(name)
    raise UserError(f"--executor {name}: there is no such place", hint=f"Valid: {VALID}")
