"""Progress of a run: the worker keeps it in a small file for the launcher."""

from __future__ import annotations

import json
import time
from pathlib import Path

from bench.method import ProgressState

WRITE_INTERVAL_S = 0.25


class ProgressFile:
    """A `ProgressCallback` that keeps the newest progress of a run in a file.

    The file is written at once when a phase begins, otherwise at most four times a second. It is replaced as a whole,
    so that a reader never sees half of it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._progress: ProgressState = {}
        self._last_write = 0.0

    def __call__(self, event: ProgressState) -> None:
        """Merge an event into the progress; an event with a phase begins anew."""
        if "phase" in event:
            self._progress = {}
        self._progress |= event
        if "phase" in event or time.monotonic() - self._last_write > WRITE_INTERVAL_S:
            new_file = self._file.with_suffix(".new")
            new_file.write_text(json.dumps(self._progress), "utf-8")
            new_file.replace(self._file)
            self._last_write = time.monotonic()


def read_progress(file: Path) -> ProgressState:
    """Return the newest progress, empty if nothing has been written yet."""
    try:
        progress: ProgressState = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return progress
