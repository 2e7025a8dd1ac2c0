"""Client of the fork server: starts workers by forking, or cold where that fails."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from bench.execution.fork_server import FORK_SERVER, HAS_MODULES, MAX_MESSAGE_BYTES, RUN, YES

NVIDIA_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")

Modules = tuple[str, ...]
"""Names of the modules that a method needs, imported before its runs are forked."""


class Process(Protocol):
    """Interface that `subprocess.Popen` and `ForkedProcess` share."""

    @property
    def returncode(self) -> Any:
        """Exit code; None while the process runs."""

    def wait(self, timeout: float | None = None) -> Any:
        """Return the exit code; raises `subprocess.TimeoutExpired` after `timeout` seconds."""

    def kill(self) -> None:
        """Kill the process."""


def start_worker(files: Sequence[Path], log: IO[str], modules: Modules, environment: dict[str, str]) -> Process:
    """Start a process that runs one job.

    Args:
        files: Arguments of `bench.execution.worker`: job file, output folder, progress file.
        log: File that takes what the process prints.
        modules: Modules to import before forking.
        environment: Environment variables of the process.

    Returns:
        A process forked from a fork server that has imported the modules; a cold start where forking is impossible
        or the server has died, for example because an import failed.
    """
    if can_fork():
        servers = _servers_of_thread(environment)
        if modules not in servers:
            servers[modules] = _create_server(modules, servers, environment)
        forked = servers[modules].start_run(files, log.name)
        if forked is not None:
            return forked
    return start_python(
        "bench.execution.worker", *map(str, files), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
    )


def start_python(module: str, *arguments: str, **popen_kwargs: Any) -> subprocess.Popen[bytes]:
    """Start a Python process that runs a module and ends with this thread.

    With -P the working folder shadows no module.
    """
    command = [sys.executable, "-P", "-m", "bench.execution.child", str(os.getpid()), module, *arguments]
    return subprocess.Popen(command, **popen_kwargs)


def can_fork() -> bool:
    """Return True if runs can be forked and waited for on this machine.

    That takes Linux with pidfd and no NVIDIA driver.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return not any(map(os.path.exists, NVIDIA_DEVICE_FILES))


class ForkServer:
    """Handle of a fork server process.

    The process ends when its handle is deleted or the process that holds the handle exits.
    """

    def __init__(self, modules: Sequence[str], environment: dict[str, str], parent: ForkServer | None = None) -> None:
        """Start a server that imports `modules`.

        It is forked from the `parent`, which has imported some of them, or started cold without one.
        """
        self._socket, server_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with server_socket:
            if parent is not None:
                parent._fork_server(modules, server_socket)
                return
            no_streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            descriptor = server_socket.fileno()
            self._process = start_python(
                "bench.execution.fork_server",
                str(descriptor),
                *modules,
                env=environment,
                pass_fds=[descriptor],
                **no_streams,
            )

    def start_run(self, files: Sequence[Path], log: str) -> ForkedProcess | None:
        """Fork a run with the worker's arguments and a log file; None if the server has died."""
        pid = self._request(RUN, [*map(str, files), log])
        return ForkedProcess(self, int(pid)) if pid else None

    def has_imported(self, modules: Sequence[str]) -> bool:
        """Return True if the server has imported all modules, if only as dependencies."""
        return self._request(HAS_MODULES, modules) == YES

    def send(self, command: str, arguments: Sequence[str] = ()) -> None:
        """Send a request.

        Raises:
            OSError: If the server has died.
        """
        self._socket.send(json.dumps([command, *arguments]).encode())

    def receive(self, timeout: float | None = None) -> str:
        """Return the next response, or an empty string if the server has died.

        Raises:
            subprocess.TimeoutExpired: If there is no response within `timeout` seconds.
        """
        readable, _, _ = select.select([self._socket], [], [], timeout)
        if not readable:
            raise subprocess.TimeoutExpired("bench.execution.fork_server", timeout or 0.0)
        with suppress(ConnectionResetError):
            return self._socket.recv(MAX_MESSAGE_BYTES).decode()
        return ""

    def close(self) -> None:
        """Disconnect, which ends the server and the run in progress."""
        self._socket.close()

    def _request(self, command: str, arguments: Sequence[str]) -> str:
        """Send a request and return the response; an empty string if the server has died."""
        try:
            self.send(command, arguments)
        except OSError:
            return ""
        return self.receive()

    def _fork_server(self, modules: Sequence[str], server_socket: socket.socket) -> None:
        """Ask the server to fork another server that serves `server_socket`."""
        message = json.dumps([FORK_SERVER, *modules]).encode()
        with suppress(OSError):  # the first request to the new server then finds its socket closed
            socket.send_fds(self._socket, [message], [server_socket.fileno()])


class ForkedProcess:
    """A forked run with the interface of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self._process_fd: int | None = None
        self.returncode: int | None = None
        with suppress(ProcessLookupError):  # It has ended and its exit code is on the way.
            self._process_fd = os.pidfd_open(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: If the run has not ended within `timeout` seconds.
        """
        if self.returncode is None:
            response = self._server.receive(timeout)
            if not response:  # The server has died and gives no exit code; the system kills its run with it.
                self.kill()
            self._close()
            self.returncode = int(response or -signal.SIGKILL)
        return self.returncode

    def kill(self) -> None:
        """Kill the run; `wait` returns once it has ended."""
        if self._process_fd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process_fd, signal.SIGKILL)

    def _close(self) -> None:
        """Wait until the process has ended and forget it."""
        if self._process_fd is not None:
            select.select([self._process_fd], [], [])
            os.close(self._process_fd)
            self._process_fd = None


_thread_state = threading.local()
"""Fork servers of the current thread: a server runs one job at a time, and the servers of a thread end with it."""


def close_servers() -> None:
    """End all fork servers of this thread."""
    for servers in vars(_thread_state).pop("servers", {}).values():
        for server in servers.values():
            server.close()


def _servers_of_thread(environment: dict[str, str]) -> dict[Modules, ForkServer]:
    """Return the servers of this thread with the given environment.

    The keys are the modules that each server was asked to import.
    """
    by_environment: dict[Any, dict[Modules, ForkServer]] = vars(_thread_state).setdefault("servers", {})
    return by_environment.setdefault(tuple(sorted(environment.items())), {})


def _create_server(modules: Modules, servers: dict[Modules, ForkServer], environment: dict[str, str]) -> ForkServer:
    """Return a server that has imported `modules` and nothing that was not imported for them.

    No module is imported twice where that can be avoided: a server that was asked for fewer modules and has imported
    all of these is shared. Otherwise a new server is forked from the one that has most of them, or from a new one that
    has imported the first.
    """
    subsets = [other for other in servers if other and set(other) < set(modules)]
    subsets.sort(key=len, reverse=True)
    for subset in subsets:
        if servers[subset].has_imported(modules):
            return servers[subset]
    if not subsets and len(modules) > 1:
        subsets = [modules[:1]]
        servers[modules[:1]] = ForkServer(modules[:1], environment)
    return ForkServer(modules, environment, servers[subsets[0]] if subsets else None)
