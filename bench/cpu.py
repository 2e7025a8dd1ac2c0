"""Processor cores of this machine that the current process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores that this process may use; the machine can have more."""
    # macOS has no CPU affinity, so all its cores count there.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
