"""Fork server: imports the modules of runs once and forks one run per request.

Importing costs seconds and forking milliseconds. The forked run executes the same code in a process of its own,
reports the import phase as it was measured in the server, and holds the memory that a process started cold would hold.
CUDA does not survive a fork, so runs start cold on a machine with an NVIDIA driver. The client is in `fork_client`.

Messages are JSON lists over a Unix socket that keeps message boundaries (SOCK_SEQPACKET): a command and its arguments.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from bench.execution.child import end_with_parent
from bench.records import Phase

RUN = "run"
"""Fork a run; arguments: job file, output folder, progress file, log file. Replies with its pid, then its exit code."""
HAS_MODULES = "has_modules"
"""Reply `YES` or `NO`: all modules named by the arguments have been imported."""
FORK_SERVER = "fork_server"
"""Fork another server that imports the modules named by the arguments and serves the socket sent along; no reply."""
YES, NO = "yes", "no"
MAX_MESSAGE_BYTES = 2**16
MADV_POPULATE_READ = 22  # since Linux 5.14
PAGE_PRESENT = 1 << 63  # https://www.kernel.org/doc/html/latest/admin-guide/mm/pagemap.html

PageRange = tuple[int, int]
"""Address and size in bytes of consecutive memory pages."""


def main(socket_fd: str, *modules: str) -> None:
    """Import the modules, then fork one run per request until the client disconnects."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides when a run ends
    connection = socket.socket(fileno=int(socket_fd))
    import_phase = _import_modules(modules)
    pages = list(_file_pages())
    while (received := socket.recv_fds(connection, MAX_MESSAGE_BYTES, 1))[0]:
        message, descriptors, *_ = received
        command, *arguments = json.loads(message)
        if command == HAS_MODULES:
            connection.send((YES if sys.modules.keys() >= set(arguments) else NO).encode())
        elif command == FORK_SERVER:
            server_pid = os.getpid()
            if os.fork():
                os.close(descriptors[0])
                continue
            # The child goes on in this loop as the new server.
            end_with_parent(server_pid)
            connection.close()
            connection = socket.socket(fileno=descriptors[0])
            _populate(pages)
            import_phase = _import_modules(arguments).continued_from(import_phase)
            pages = list(_file_pages())
        elif command == RUN:
            server_pid = os.getpid()
            child = os.fork()
            if not child:
                end_with_parent(server_pid)
                connection.close()
                _run_job(*arguments, import_phase=import_phase, pages=pages)
            connection.send(str(child).encode())
            connection.send(str(_wait_for_child(child, connection)).encode())


def _import_modules(modules: Sequence[str]) -> Phase:
    """Import the worker and the modules; return the cost since the start of this process."""
    from bench.execution import worker
    from bench.measurement.meter import Meter

    meter = Meter()
    with meter.phase("import", since_process_start=True):
        for module in (worker.__name__, *modules):
            importlib.import_module(module)
    gc.freeze()  # Runs look for unused objects after training, and modules are none.
    return meter.phases["import"]


def _run_job(
    job_file: str, out: str, progress_file: str, log_file: str, *, import_phase: Phase, pages: Sequence[PageRange]
) -> None:
    """Run the job in the forked child and exit like a normal interpreter."""
    from bench.execution import worker

    exit_code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(log_file, "a", encoding="utf-8") as log, open(os.devnull, encoding="utf-8") as null:
            os.dup2(null.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _populate(pages)
        worker.main(job_file, out, progress_file, import_phase)
        exit_code = 0
    except SystemExit as exit_request:
        code = exit_request.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        exit_code = code if isinstance(code, int) else int(code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _wait_for_child(child: int, connection: socket.socket) -> int:
    """Return the exit code of a run.

    The run is killed if the client disconnects before its end.
    """
    child_fd = os.pidfd_open(child)
    readable, _, _ = select.select([child_fd, connection.fileno()], [], [])
    if child_fd not in readable:
        os.kill(child, signal.SIGKILL)
    os.close(child_fd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _file_pages() -> Iterator[PageRange]:
    """Yield the file-backed memory pages that this process holds, as ranges.

    A forked child does not inherit these pages, so its resident memory would be smaller than that of a process that
    has imported the same modules itself.
    """
    page_size = mmap.PAGESIZE
    with open("/proc/self/maps", encoding="utf-8") as maps, open("/proc/self/pagemap", "rb") as pagemap:
        for mapping in maps:
            addresses, _, description = mapping.partition(" ")
            if "/" not in description:
                continue
            first, last = (int(address, 16) // page_size for address in addresses.split("-"))
            pagemap.seek(first * 8)
            entries = memoryview(pagemap.read((last - first) * 8)).cast("Q")
            present = [page for page, entry in enumerate(entries, first) if entry & PAGE_PRESENT]
            yield from ((start * page_size, count * page_size) for start, count in _consecutive_ranges(present))


def _consecutive_ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first number and the length of each range of consecutive numbers."""
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[start], index - start
            start = index


def _populate(pages: Sequence[PageRange]) -> None:
    """Map these pages into this process.

    On a kernel that cannot, memory readings are lower by the size of the pages.
    """
    madvise: Callable[..., int] = ctypes.CDLL(None).madvise
    for address, size in pages:
        madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), MADV_POPULATE_READ)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # a server forked from another one would also run the exit handlers of that one
