"""One run to come: what `plan` hands to `launch`, and `launch` to a worker as a file."""

from __future__ import annotations

from bench.record import Frozen, Spec


class Job(Frozen):
    """A spec, the command it came from, and the code that will run it."""

    spec: Spec
    asked: tuple[str, ...]
    method_sha256: str
