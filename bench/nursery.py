"""A fresh process per run without importing anew: forked from one that has imported what the method needs.

Importing costs seconds, forking milliseconds. What runs is the same code in a process of its own, its import phase is
told as it was where it happened, and its memory is what it would have held. CUDA does not survive a fork, so where
there is an NVIDIA driver every run starts cold.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

from bench.cost import Phase

DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14
END, HAS, YES = "end\n", "has ", "yes\n"
PRESENT = 1 << 63  # https://www.kernel.org/doc/html/latest/admin-guide/mm/pagemap.html


class Process(Protocol):
    """What `subprocess.Popen` and a forked run have in common."""

    @property
    def returncode(self) -> Any: ...
    def wait(self, timeout: float | None = None) -> Any: ...
    def kill(self) -> None: ...


def start(files: Sequence[Path], log: IO[str], needs: tuple[str, ...], environment: dict[str, str]) -> Process:
    """A process that runs the job of the first file into a record, as `bench.worker` says; `log` takes what it prints.

    Forked from one that has imported `needs` where that can be, else started cold.
    """
    if forks():
        # Of this thread alone: a nursery minds one run at a time.
        known = _nurseries(tuple(sorted(environment.items())), threading.get_ident())
        if needs not in known:
            known[needs] = _alike(known, needs) or Nursery(needs, environment)
        if (child := known[needs].start(files, log.name)) is not None:
            return child
    return python("bench.worker", *map(str, files), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def python(module: str, *arguments: str, **how: Any) -> subprocess.Popen[bytes]:
    """A Python that runs a module of this package; -P: the user's folder shadows nothing."""
    return subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], **how)


def forks() -> bool:
    """Whether runs can be forked here, and waited for."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return not any(map(os.path.exists, DRIVERS))


class Nursery:
    """The launcher's side: a process that forks when told to. It ends with the process that made it."""

    def __init__(self, needs: Sequence[str], environment: dict[str, str]) -> None:
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # Unbuffered: a line that had been read along with the one before would never be waited for.
        self._process = python("bench.nursery", *needs, env=environment, bufsize=0, **quiet)

    def start(self, files: Sequence[Path], log: str) -> Forked | None:
        """A run of its own; None where the nursery did not live to fork it."""
        pid = self.ask(json.dumps([*map(str, files), log]) + "\n")
        return Forked(self) if pid else None

    def ask(self, order: str) -> str:
        """Give an order and hear the answer; empty if there is nobody."""
        try:
            self.tell(order)
        except BrokenPipeError:
            return ""
        return self.hear()

    def tell(self, order: str) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode())

    def hear(self, timeout: float | None = None) -> str:
        """The next line it says; empty if it has died. Raises `subprocess.TimeoutExpired`."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("bench.nursery", timeout or 0.0)
        return self._process.stdout.readline().decode()


class Forked:
    """A run that was forked, as `subprocess.Popen` would show it."""

    def __init__(self, nursery: Nursery) -> None:
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
def _nurseries(environment: tuple[tuple[str, str], ...], thread: int) -> dict[tuple[str, ...], Nursery]:
    """What there is by now, by what it has imported."""
    return {}


def _alike(known: Mapping[tuple[str, ...], Nursery], needs: tuple[str, ...]) -> Nursery | None:
    """One that was asked for less and has imported all of `needs` for it: more of the same would change nothing."""
    fewer = (nursery for other, nursery in known.items() if other and set(other) < set(needs))
    return next((nursery for nursery in fewer if nursery.ask(f"{HAS}{json.dumps(needs)}\n") == YES), None)


def main(*needs: str) -> None:
    """The other side: import, then fork a run for every order, one at a time, until nobody is left to give any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed while importing is no answer
    imported = _import(needs)
    pages = list(_file_pages())
    for order in iter(sys.stdin.readline, ""):
        if order == END:  # of a run that had ended by itself
            continue
        if order.startswith(HAS):
            has = sys.modules.keys() >= set(json.loads(order.removeprefix(HAS)))
            print(YES if has else "no\n", end="", file=answers, flush=True)
            continue
        child = os.fork()
        if not child:
            _live(*json.loads(order), imported=imported, pages=pages)
        print(child, file=answers, flush=True)
        print(_await(child), file=answers, flush=True)


def _import(needs: Sequence[str]) -> Phase:
    """What importing costs, from the start of this process."""
    from bench import worker
    from bench.meter import Meter

    meter = Meter()
    with meter.phase("import", since_process_start=True):
        for module in (worker.__name__, *needs):
            importlib.import_module(module)
    return meter.phases["import"]


def _live(job: str, out: str, progress: str, log: str, *, imported: Phase, pages: Sequence[tuple[int, int]]) -> None:
    """Be the run, and end as a Python of its own would."""
    from bench import worker

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


def _await(child: int) -> int:
    """The exit code of a run, which is ended when an order comes meanwhile, or nobody is left to give one."""
    watch = os.pidfd_open(child)
    if watch not in select.select([watch, 0], [], [])[0]:
        os.kill(child, signal.SIGKILL)
        sys.stdin.readline()
    os.close(watch)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _file_pages() -> Iterator[tuple[int, int]]:
    """Addresses and sizes of what this process holds of files: a fork does not inherit those pages, and would seem
    smaller than a process that has imported the same."""
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
