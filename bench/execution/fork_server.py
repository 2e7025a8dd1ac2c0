"""A fresh process per run without importing anew: forked from one that has imported what the method needs.

Importing costs seconds, forking milliseconds; and what two methods both need is imported once, in a process from which
others grow. What runs is the same code in a process of its own, its import phase is told as it was where it happened,
and its memory is what it would have held. CUDA does not survive a fork, so where there is an NVIDIA driver every run
starts cold.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

from bench.records.cost import Phase

DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14
RUN, END, HAS, GROW, YES = "run", "end", "has", "grow", "yes"
LONGEST = 2**16  # bytes of an order
PRESENT = 1 << 63  # https://www.kernel.org/doc/html/latest/admin-guide/mm/pagemap.html


class Process(Protocol):
    """What `subprocess.Popen` and a forked run have in common."""

    @property
    def returncode(self) -> Any: ...
    def wait(self, timeout: float | None = None) -> Any: ...
    def kill(self) -> None: ...


def start_worker(files: Sequence[Path], log: IO[str], needs: tuple[str, ...], environment: dict[str, str]) -> Process:
    """A process that runs the job of the first file into a record, as `bench.worker` says; `log` takes what it prints.

    Forked from one that has imported `needs` where that can be, else started cold.
    """
    if can_fork():
        # Of this thread alone: a nursery minds one run at a time.
        known = _nurseries(tuple(sorted(environment.items())), threading.get_ident())
        if needs not in known:
            known[needs] = _having(needs, known, environment)
        if (child := known[needs].start(files, log.name)) is not None:
            return child
    return start_python(
        "bench.execution.worker", *map(str, files), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
    )


def start_python(module: str, *arguments: str, **how: Any) -> subprocess.Popen[bytes]:
    """A Python that runs a module of this package; -P: the user's folder shadows nothing."""
    return subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], **how)


def can_fork() -> bool:
    """Whether runs can be forked here, and waited for."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return not any(map(os.path.exists, DRIVERS))


class ForkServer:
    """The launcher's side: a process that forks when told to. It ends with the process that made it."""

    def __init__(self, needs: Sequence[str], environment: dict[str, str], trunk: ForkServer | None = None) -> None:
        """Import `needs`: in a process forked from the `trunk`, which has imported some of them, or in a fresh one."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            if trunk is not None:
                trunk.grow(needs, theirs)
                return
            nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            line = theirs.fileno()
            self._process = start_python(
                "bench.execution.fork_server", str(line), *needs, env=environment, pass_fds=[line], **nowhere
            )

    def start(self, files: Sequence[Path], log: str) -> ForkedProcess | None:
        """A run of its own; None where the nursery did not live to fork it."""
        return ForkedProcess(self) if self.ask(RUN, [*map(str, files), log]) else None

    def has(self, modules: Sequence[str]) -> bool:
        """Whether it has imported all of them, asked for or not."""
        return self.ask(HAS, modules) == YES

    def grow(self, needs: Sequence[str], line: socket.socket) -> None:
        """Fork another, which listens on the `line`."""
        with suppress(OSError):  # whoever speaks into a line that nobody has hears that
            socket.send_fds(self._line, [json.dumps([GROW, *needs]).encode()], [line.fileno()])

    def ask(self, order: str, what: Sequence[str]) -> str:
        """Give an order and hear the answer; empty if there is nobody."""
        try:
            self.tell(order, what)
        except OSError:
            return ""
        return self.hear()

    def tell(self, order: str, what: Sequence[str] = ()) -> None:
        """Give an order."""
        self._line.send(json.dumps([order, *what]).encode())

    def hear(self, timeout: float | None = None) -> str:
        """The next thing it says; empty if it has died. Raises `subprocess.TimeoutExpired`."""
        if not select.select([self._line], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("bench.execution.fork_server", timeout or 0.0)
        with suppress(ConnectionResetError):
            return self._line.recv(LONGEST).decode()
        return ""


class ForkedProcess:
    """A run that was forked, as `subprocess.Popen` would show it."""

    def __init__(self, nursery: ForkServer) -> None:
        self._nursery = nursery
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self.returncode = int(self._nursery.hear(timeout) or -signal.SIGKILL)  # it dies with its nursery
        return self.returncode

    def kill(self) -> None:
        """End it; `wait` tells when."""
        if self.returncode is None:
            self._nursery.tell(END)


@cache
def _nurseries(environment: tuple[tuple[str, str], ...], thread: int) -> dict[tuple[str, ...], ForkServer]:
    """What there is by now, by what it has imported."""
    return {}


def _having(
    needs: tuple[str, ...], known: dict[tuple[str, ...], ForkServer], environment: dict[str, str]
) -> ForkServer:
    """One that has imported `needs`, and nothing that was not imported for them.

    Nothing is imported twice: it is one that was asked for less and has all of it (more of the same would change
    nothing), or grows out of the one that has most of it, or out of one with the first of `needs`.
    """
    fewer = sorted((other for other in known if other and set(other) < set(needs)), key=len, reverse=True)
    for other in fewer:
        if known[other].has(needs):
            return known[other]
    if not fewer and len(needs) > 1:
        fewer = [needs[:1]]
        known[needs[:1]] = ForkServer(needs[:1], environment)
    return ForkServer(needs, environment, known[fewer[0]] if fewer else None)


def main(line: str, *needs: str) -> None:
    """The other side: import, then fork a run for every order, one at a time, until nobody is left to give any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides
    ear = socket.socket(fileno=int(line))
    imported = _import(needs)
    pages = list(_file_pages())
    while (heard := socket.recv_fds(ear, LONGEST, 1))[0]:
        said, lines, *_ = heard
        order, *what = json.loads(said)
        if order == HAS:
            ear.send((YES if sys.modules.keys() >= set(what) else "no").encode())
        elif order == GROW:
            if not os.fork():  # and go on as that one
                ear.close()
                ear = socket.socket(fileno=lines[0])
                _touch(pages)
                imported = _import(what).continued_from(imported)
                pages = list(_file_pages())
            else:
                os.close(lines[0])
        elif order == RUN:  # else the end of a run that had ended by itself
            child = os.fork()
            if not child:
                ear.close()
                _live(*what, imported=imported, pages=pages)
            ear.send(str(child).encode())
            ear.send(str(_await(child, ear)).encode())


def _import(needs: Sequence[str]) -> Phase:
    """What importing costs, from the start of this process."""
    from bench.execution import worker
    from bench.measurement.meter import Meter

    meter = Meter()
    with meter.phase("import", since_process_start=True):
        for module in (worker.__name__, *needs):
            importlib.import_module(module)
    return meter.phases["import"]


def _live(job: str, out: str, progress: str, log: str, *, imported: Phase, pages: Sequence[tuple[int, int]]) -> None:
    """Be the run, and end as a Python of its own would."""
    from bench.execution import worker

    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(log, "a", encoding="utf-8") as said, open(os.devnull, encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        _touch(pages)
        worker.main(job, out, progress, imported)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _await(child: int, ear: socket.socket) -> int:
    """The exit code of a run, which is ended when an order comes meanwhile, or nobody is left to give one."""
    watch = os.pidfd_open(child)
    if watch not in select.select([watch, ear.fileno()], [], [])[0]:
        os.kill(child, signal.SIGKILL)
        ear.recv(LONGEST)
    os.close(watch)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _file_pages() -> Iterator[tuple[int, int]]:
    """Addresses and sizes of what this process holds of files: a fork does not inherit those pages, and would seem
    smaller than a process that has imported the same.
    """
    size = mmap.PAGESIZE
    with open("/proc/self/maps", encoding="utf-8") as areas, open("/proc/self/pagemap", "rb") as pagemap:
        for area in areas:
            span, _, rest = area.partition(" ")
            if "/" not in rest:
                continue
            first, last = (int(end, 16) // size for end in span.split("-"))
            pagemap.seek(first * 8)
            entries = memoryview(pagemap.read((last - first) * 8)).cast("Q")
            held = [page for page, entry in enumerate(entries, first) if entry & PRESENT]
            yield from ((begin * size, count * size) for begin, count in _stretches(held))


def _stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where runs of consecutive numbers begin, and how long they are."""
    begin = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[begin], place - begin
            begin = place


def _touch(pages: Sequence[tuple[int, int]]) -> None:
    """Hold these pages; where the kernel cannot do that, memory reads lower by them."""
    madvise: Callable[..., int] = ctypes.CDLL(None).madvise
    for address, size in pages:
        madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), POPULATE_READ)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # one that grew has the exit handlers of the other too
