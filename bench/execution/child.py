"""Start of a process that ends with its parent.

Started as `python -m bench.execution.child PARENT_PID MODULE ARGUMENTS…`, it runs the module as a script. A launcher
that is killed cannot end its processes any more, so the system has to (on Linux).
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PARENT_VARIABLE = "ADAPTBENCH_PARENT_PID"
"""Environment variable with the process id of the process that started with this module, for those that it starts."""
PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def end_with_parent(parent_pid: int) -> None:
    """Let the system kill this process when its parent ends.

    Exits now if the parent has ended already. Does nothing on systems other than Linux. The parent counts as ended when
    the thread that started this process ends.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(-signal.SIGKILL & 0xFF)


def main(parent_pid: str, module: str, *arguments: str) -> None:
    """Run a module as a script in this process, which ends with its parent."""
    end_with_parent(int(parent_pid))
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
