"""One run to come: what `plan` hands to `launch`, and `launch` to a worker as a file."""

from __future__ import annotations

from pydantic import Field

from bench.records.cost import FrozenModel
from bench.records.record import SearchRange, Spec, Tuning


class Job(FrozenModel):
    """A spec, the command it came from, and the code that will run it."""

    spec: Spec
    command: tuple[str, ...]
    method_sha256: str
    device: str = "auto"
    """Where it is to run. No part of the spec: it decides seconds and memory, which `env` tells of, and no scores."""
    ranges: dict[str, SearchRange] = Field(default_factory=dict)
    """Where those hyper-parameters are looked for that the user left open."""
    tuning: Tuning | None = None
    """How the spec's hyper-parameters were found, once they were looked for."""
    accelerate: str | None = None
    """The file of accelerate's configuration where several processes are to train together."""
    processes: int = 1
    """How many. Like the device no part of the spec: scores are the same but for the rounding of sums."""
    save_artifacts: bool = False
    """Whether what was fitted stays beside the record."""
    questions: tuple[str, ...] | None = None
    """What is asked in place of the exam where a run is made again for its artifact; nothing is measured then."""
