"""How far a run is: the worker keeps a small file, the launcher looks at it now and then."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

INTERVAL_S = 0.25


class ProgressFile:
    """A `Watch` that keeps the newest state of a run in a file, rewritten at most four times a second."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state: dict[str, Any] = {}
        self.written = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in what is going on; a new phase is written at once."""
        if "phase" in event:
            self.state = {"since": time.time()}
        self.state |= event
        if "phase" in event or time.monotonic() - self.written > INTERVAL_S:
            fresh = self.file.with_suffix(".new")
            fresh.write_text(json.dumps(self.state), "utf-8")
            fresh.replace(self.file)
            self.written = time.monotonic()


def read_progress(file: Path) -> dict[str, Any]:
    """The newest state, empty before the first."""
    try:
        state: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return state
